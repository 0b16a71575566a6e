"""Talk to a reader over its standard input and output, a line a request."""

import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import Timer

PROTOCOL = "1"
_ENDING = 2.0
"""Seconds between the end of a reader's output and its own."""


class Reader:
    """A running reader, started again after it ended. Use it as a context manager."""

    def __init__(self, command: Sequence[str], folder: Path, timeout: float) -> None:
        self._command, self._folder, self._timeout = command, folder, timeout
        self._process = self._start()

    def _start(self) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(self._command, cwd=self._folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: object) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(BrokenPipeError):  # what the reader did not take before it ended
                    stream.close()
        self._process.kill()
        self._process.wait()

    @property
    def pid(self) -> int:
        """The process that runs now."""
        return self._process.pid

    def ask(self, request: Sequence[str]) -> tuple[str, ...]:
        """Return the fields of the answer; ``("crashed", ...)`` if the reader ended or took too long."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        late = Timer(self._timeout, process.kill)
        late.start()
        try:
            process.stdin.write("\t".join(request).encode() + b"\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except OSError:
            line = b""
        finally:
            late.cancel()
        if line.endswith(b"\n"):
            return tuple(line[:-1].decode(errors="replace").rstrip("\r").split("\t"))
        with suppress(subprocess.TimeoutExpired):  # a reader that ended by itself has its own exit status
            process.wait(_ENDING)
        self.__exit__()
        self._process = self._start()
        return "crashed", f"exit status {process.returncode}"
