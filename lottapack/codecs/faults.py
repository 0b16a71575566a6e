"""The errors of the codings."""


class CodingFaultError(Exception):
    """A coded tensor breaks the rules of its coding. ``part``: ``codes`` or ``scales``; empty for the whole value."""

    def __init__(self, part: str, message: str) -> None:
        super().__init__(message)
        self.part, self.message = part, message


class UnfitError(Exception):
    """A coding cannot hold a tensor's values. The message continues the tensor's name."""

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.hint = hint
