"""A sample of the sweep over configurations of all model types. `make fuzz` draws others."""

import random
from collections.abc import Iterator

import configs
import pytest
from extent import extent

# Stopped may arrive in a callback of the garbage collector, where Python drops it; it is sent again.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

pytest.importorskip("transformers")

SECONDS, SEED = extent(8, 20), 1


@pytest.mark.slow
def test_changed_configurations_cost_no_more_than_they_may() -> None:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    draw = random.Random(SEED)
    # Each type's imports cost once, so use few types and many changes of each.
    names = draw.sample(list(CONFIG_MAPPING), extent(4, 12))

    def seeds() -> Iterator[configs.Seed]:
        yield from configs.calls()
        for name in names:
            seed = configs.seed_of(name)
            if seed is not None:
                yield seed

    count, faults = configs.sweep(seeds, SECONDS, draw)
    assert faults == []
    assert count > 20
