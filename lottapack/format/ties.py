"""Following ties: in one pass, because a stranger's chain can be as long as a pack has parameters."""

from collections.abc import Mapping


def owners(ties: Mapping[str, str]) -> dict[str, str]:
    """Where following a tie ends, for each tied name. ``ties``: what each is tied to; without circles."""
    found: dict[str, str] = {}
    for name in ties:
        path = []
        while name in ties and name not in found:
            path.append(name)
            name = ties[name]
        found.update(dict.fromkeys(path, found.get(name, name)))
    return found
