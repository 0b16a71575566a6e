"""The Python reader behind the protocol of spec/v1/conformance.md: `check` and `json` alone, at the level judge."""

import hashlib
import sys

from lottapack import verify
from lottapack.errors import FormatError, IntegrityError, LimitError
from lottapack.format import canonical

SECTIONS = {"ContainerError": "container", "DescriptorError": "descriptor", "AgreementError": "agreement"}


def check(path: str, allowed: str) -> list[str]:
    """Check a pack."""
    try:
        result = verify(path, max_bytes=int(allowed), build=False)
    except LimitError:
        return ["refused", "limit", "limit", "parameters"]
    except (FormatError, IntegrityError) as error:
        problem = error.problems[0]
        return ["refused", SECTIONS.get(type(error).__name__, "contents"), problem.kind, problem.where]
    failed = next((check for check in result.checks if check.status == "failed"), None)
    return ["ok"] if failed is None else ["refused", "contents", failed.what, failed.where]


def json(text: str) -> list[str]:
    """Read a text as canonical JSON."""
    try:
        canonical.view(b"" if text == "-" else bytes.fromhex(text))
    except FormatError as error:
        return ["refused", error.problems[0].kind]
    return ["ok"]


def digest(data: bytes | memoryview) -> str:
    """Return the SHA-256."""
    return hashlib.sha256(data).hexdigest()


def shown(field: str) -> str:
    """Return a field as a line has it."""
    return canonical.dumps(field).decode()[1:-1]


def main() -> None:
    """Answer until the input ends."""
    answers = {"check": check, "json": json, "hello": lambda _: ["1", "judge"]}
    sys.stdin.reconfigure(encoding="utf-8", newline="\n")  # type: ignore[union-attr]
    for line in sys.stdin:
        request, *fields = line.rstrip("\n").split("\t")
        answer = answers[request](*fields) if request in answers else ["unsupported"]
        print("\t".join(map(shown, answer)), flush=True)


if __name__ == "__main__":
    main()
