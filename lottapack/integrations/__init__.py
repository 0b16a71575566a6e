"""Register lottapack with other libraries as soon as they are imported, and never before."""

from lottapack.integrations.imports import after_import

HOOKS = {
    "transformers.quantizers.auto": "lottapack.integrations.transformers",
    "peft.peft_model": "lottapack.integrations.peft",
}
"""The module that registers lottapack with each other library, by the library's module."""


def install() -> None:
    """Register with libraries that are imported already, and wait for the others. Repeated calls have no effect."""
    for watched, module in HOOKS.items():
        after_import(watched, module)
