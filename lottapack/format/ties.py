"""Follow ties in linear time, because a chain in an untrusted pack can be as long as its list of parameters."""

from collections.abc import Mapping


def owners(ties: Mapping[str, str]) -> dict[str, str]:
    """Return the last name of each tie's chain. ``ties``: what each name is tied to, without circles."""
    ends: dict[str, str] = {}
    for name in ties:
        path = []
        while name in ties and name not in ends:
            path.append(name)
            name = ties[name]
        ends.update(dict.fromkeys(path, ends.get(name, name)))
    return ends
