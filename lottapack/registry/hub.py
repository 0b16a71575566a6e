"""List packs and history on the Hugging Face Hub, or any server with its protocol.

``hub_pull`` and ``pushing.hub`` do the rest.
"""

from typing import Annotated
from urllib.parse import quote

import msgspec

from lottapack.format.container import PACK_END
from lottapack.registry import hub_http, hub_server
from lottapack.registry.answers import iso_time
from lottapack.registry.hub_errors import translated
from lottapack.registry.records import Listed, LogEntry
from lottapack.registry.references import HubReference, Owner, is_repository

_Id = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{40}\Z")]
"""A commit's id."""


class _Sibling(msgspec.Struct):
    rfilename: str


class _Model(msgspec.Struct, rename="camel"):
    id: str
    siblings: list[_Sibling] = []
    last_modified: str | None = None
    private: bool | None = None


class _Ref(msgspec.Struct, rename="camel"):
    name: str
    target_commit: _Id


class Refs(msgspec.Struct):
    """The branches and tags of a repository, with their commits."""

    branches: list[_Ref] = []
    tags: list[_Ref] = []


class _Author(msgspec.Struct):
    user: str


class _Commit(msgspec.Struct):
    id: _Id
    title: str
    date: str
    authors: list[_Author] = []


def list_packs(owner: Owner) -> list[Listed]:
    """List packs; see ``lottapack.registry.list_packs``."""
    with hub_server.at(owner.server), translated(str(owner)):
        asked = {"author": owner.name, "full": "true"}
        return sorted(
            (
                Listed(
                    f"{owner.server}/{model.id}" if owner.server else model.id,
                    _time(model.last_modified),
                    model.private,
                )
                for page in hub_http.pages("/api/models", list[_Model], owner.name, asked)
                for model in page
                if is_repository(model.id)  # no other text can be pulled
                if any(file.rfilename.endswith(PACK_END) for file in model.siblings)
            ),
            key=lambda listed: listed.reference,
        )


def _time(text: str | None) -> str | None:
    """Return a time of a list in ISO 8601; None for one that is not valid, which must not hide all other entries."""
    try:
        return iso_time(text) if text else None
    except ValueError:
        return None


def refs(repo: str) -> Refs:
    """Return the branches and tags of a repository. Raises the errors of hub_http.get()."""
    return hub_http.get(f"/api/models/{repo}/refs", Refs, repo)


def log(source: HubReference) -> list[LogEntry]:
    """List the history; see ``lottapack.registry.history``."""
    with hub_server.at(source.server), translated(str(source)):
        named = refs(source.repo)
        names: dict[str, list[str]] = {}
        for ref in [*named.tags, *named.branches]:
            names.setdefault(ref.target_commit, []).append(ref.name)
        path = f"/api/models/{source.repo}/commits/{quote(source.revision or 'main', safe='')}"
        return [
            LogEntry(
                revision=commit.id,
                names=tuple(names.get(commit.id, ())),
                when=iso_time(commit.date),
                title=commit.title,
                authors=tuple(author.user for author in commit.authors),
            )
            for page in hub_http.pages(path, list[_Commit], str(source))
            for commit in page
        ]
