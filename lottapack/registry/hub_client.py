"""Import the Hub's client, which reads variables of the environment and fails on those that are not valid."""

from lottapack.errors import UnsupportedError


def require() -> None:
    """Import the client. Raises UnsupportedError for variables of the environment that it cannot read."""
    try:
        import huggingface_hub.constants  # noqa: F401
    except ValueError as fault:
        raise UnsupportedError(
            f"huggingface_hub cannot read a variable of the environment: {fault}",
            hint="Set HF_HUB_ETAG_TIMEOUT, HF_HUB_DOWNLOAD_TIMEOUT and its other numbers to integers, or unset them.",
        ) from fault
