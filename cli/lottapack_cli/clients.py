"""What the client libraries of registries would say beside a command."""

import os

from lottapack_cli.render import Output


def hush(sink: Output) -> None:
    """Keep huggingface_hub from telling of its retries where only the result is wanted; before it is imported."""
    if not sink.human:
        os.environ.setdefault("HF_HUB_VERBOSITY", "error")
