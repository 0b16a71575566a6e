"""The file of a pack that an argument names. A reference is pulled first, with its own progress bar."""

import os
from pathlib import Path

from lottapack_cli.progress import Bar
from lottapack_cli.render import Output


def located(pack: str, sink: Output) -> Path:
    """Return the file of a pack that is named by a path or a reference."""
    if os.path.isfile(pack):  # noqa: PTH113 - Path.is_file() may raise
        return Path(pack)  # without importing what knows registries
    from lottapack.registry.local import local
    from lottapack.registry.references import parse

    if isinstance(parse(pack), Path):
        return local(pack)
    with Bar("pulling", show=sink.human) as bar:
        return local(pack, progress=bar.sized)
