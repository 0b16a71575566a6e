"""What format 1.0 has frozen: vectors, their index and answers, and the packs of tests/compat.

python tests/spec/frozen.py          compare spec/v1/FROZEN.sha256 with what is there
python tests/spec/frozen.py --add    record what is new; what is recorded already never changes

Lines are those of ``sha256sum``, which checks the files by itself. Lists that may grow, such as the index, have a
comment with the number of their first items and the SHA-256 of these.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
LIST = Path("spec", "v1", "FROZEN.sha256")
VECTORS = Path("spec", "v1", "vectors")
FOLDERS = (VECTORS / "files", Path("tests", "compat"))


def files(root: Path) -> Iterator[tuple[str, str]]:
    """Yield path and SHA-256 of each file that never changes."""
    for folder in FOLDERS:
        for path in sorted([*(root / folder).glob("*/*.lotta.safetensors"), *(root / folder).glob("*/*.json")]):
            yield path.relative_to(root).as_posix(), hashlib.sha256(path.read_bytes()).hexdigest()


def lists(root: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield the lists that may only grow: lines of the index by request and folder, and cases of answers."""
    index: dict[str, list[str]] = {}
    for line in (root / VECTORS / "index.tsv").read_text("utf-8").removesuffix("\n").split("\n"):
        _, request, first, *_ = line.split("\t")
        kind = f"{request}-{Path(first).parent.name}" if first.startswith("files/") else request
        index.setdefault(f"{(VECTORS / 'index.tsv').as_posix()}#{kind}", []).append(line)
    yield from index.items()
    for path in sorted((root / VECTORS).glob("*.json")):
        for key, value in json.loads(path.read_text("utf-8")).items():
            items = value if isinstance(value, list) else [value]
            yield f"{path.relative_to(root).as_posix()}#{key}", [written(item) for item in items]


def written(value: Any) -> str:
    """Return a value as one text."""
    return json.dumps(value, ensure_ascii=True, sort_keys=True, separators=(",", ":"))


def digest(items: list[str]) -> str:
    """Return the SHA-256 of the first items of a list, each followed by a line feed."""
    return hashlib.sha256("".join(f"{item}\n" for item in items).encode()).hexdigest()


def recorded(root: Path) -> tuple[dict[str, str], dict[str, tuple[int, str]]]:
    """Return the recorded files and lists."""
    of_files, of_lists = {}, {}
    for line in (root / LIST).read_text("utf-8").splitlines() if (root / LIST).exists() else ():
        words = line.split()
        if words[0] == "#":
            of_lists[words[3]] = int(words[2]), words[1]
        else:
            of_files[words[1]] = words[0]
    return of_files, of_lists


def changes(root: Path) -> list[str]:
    """Return what differs from the record, and what is not recorded."""
    of_files, of_lists = recorded(root)
    there, grown = dict(files(root)), dict(lists(root))
    found = [f"changed or missing: {path}" for path, known in of_files.items() if there.get(path) != known]
    for name, (count, known) in of_lists.items():
        if digest(grown.get(name, [])[:count]) != known:
            found.append(f"changed or missing: the first {count} of {name}")
    found += [f"not recorded: {path}" for path in there.keys() - of_files.keys()]
    found += [f"not recorded: {name}" for name, items in grown.items() if len(items) > of_lists.get(name, (0, ""))[0]]
    return sorted(found)


def add(root: Path) -> None:
    """Record what is new."""
    of_files, of_lists = recorded(root)
    of_files = dict(files(root)) | of_files
    for name, items in lists(root):
        count, known = of_lists.get(name, (0, digest([])))
        if digest(items[:count]) == known:
            of_lists[name] = len(items), digest(items)
    text = [f"# {of} {count} {name}\n" for name, (count, of) in sorted(of_lists.items())]
    text += [f"{of}  {path}\n" for path, of in sorted(of_files.items())]
    (root / LIST).write_text("".join(text), "utf-8")


def main() -> int:
    """Compare or add; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--add", action="store_true", help="record what is new")
    if parser.parse_args().add:
        add(ROOT)
    found = changes(ROOT)
    print("\n".join(found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
