"""The scores of a pack in the Hub's terms."""

from collections.abc import Sequence
from typing import Any

from huggingface_hub import EvalResult
from huggingface_hub.repocard_data import eval_results_to_model_index

from lottapack.format.results import Result


def model_index(repo: str, results: Sequence[Result]) -> list[dict[str, Any]]:
    """Return the ``model-index`` of a model card."""
    found = [
        EvalResult(
            task_type=one.task,
            dataset_type=one.dataset,
            dataset_name=one.dataset,
            dataset_split=one.split,
            metric_type=one.metric,
            metric_name=one.metric,
            metric_value=one.score,
        )
        for one in results
    ]
    index: list[dict[str, Any]] = eval_results_to_model_index(repo.rpartition("/")[2], found)
    return index
