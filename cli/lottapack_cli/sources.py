"""Where a pack lies that an argument names: a file, or one that is pulled first, with a bar of its own."""

from pathlib import Path

from lottapack.registry.references import parse
from lottapack_cli.progress import Bar
from lottapack_cli.render import Output


def located(pack: str, sink: Output) -> Path:
    """The file of a pack that is named by a path or a reference."""
    from lottapack.registry.local import local

    if isinstance(parse(pack), Path):
        return local(pack)
    with Bar("pulling", show=sink.human) as bar:
        return local(pack, progress=bar.sized)
