"""What other libraries are told of lottapack, as soon as they are imported, and never before."""

from lottapack.integrations.imports import after_import

HOOKS = {
    "transformers.quantizers.auto": "lottapack.integrations.transformers",
    "peft.peft_model": "lottapack.integrations.peft",
}
"""By module of another library: the module that registers lottapack with it."""


def install() -> None:
    """Register with what is imported already, and wait for the rest. To call it again changes nothing."""
    for watched, module in HOOKS.items():
        after_import(watched, module)
