"""The error of invalid coded bytes."""


class CodingFaultError(Exception):
    """A coded tensor breaks the rules of its coding. ``part``: ``codes`` or ``scales``; empty for the whole value."""

    def __init__(self, part: str, message: str) -> None:
        super().__init__(message)
        self.part, self.message = part, message
