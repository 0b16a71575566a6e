"""What the registry says when it does not do what was asked: a status, a code that clients know, and words.

The codes are those that Hub clients read from ``X-Error-Code``. A RefusedError never leaves the server: it becomes a
response with ``{"error": ...}`` (``app.py``).
"""


class RefusedError(Exception):
    """An answer other than success. ``status``: the HTTP status; ``code``: for ``X-Error-Code``, or empty."""

    def __init__(self, status: int, message: str, *, code: str = "", headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.headers = headers or {}


class MovedError(Exception):
    """The repository is at another name now. ``repo``: that name, ``owner/name``."""

    def __init__(self, repo: str) -> None:
        super().__init__(repo)
        self.repo = repo


def bad_request(message: str) -> RefusedError:
    """Something in the request cannot be meant."""
    return RefusedError(400, message)


def too_large(message: str) -> RefusedError:
    """A limit of this registry is passed."""
    return RefusedError(413, message)


def repo_not_found(repo: str, *, anonymous: bool) -> RefusedError:
    """No such repository, or none that this client may see: to the nameless, both are the same 401."""
    if anonymous:
        return RefusedError(401, f"There is no repository {repo}, or a token is needed to see it.", code="RepoNotFound")
    return RefusedError(404, f"There is no repository {repo}.", code="RepoNotFound")


def revision_not_found(repo: str, revision: str) -> RefusedError:
    """No branch, tag or commit of that name."""
    return RefusedError(404, f"{repo} has no branch, tag or commit {revision!r}.", code="RevisionNotFound")


def entry_not_found(path: str, commit: str) -> RefusedError:
    """No such file in a commit. Clients remember that, so the commit is in the headers."""
    message = f"There is no file {path!r} in commit {commit}."
    return RefusedError(404, message, code="EntryNotFound", headers={"X-Repo-Commit": commit})


def disk_full() -> RefusedError:
    """The registry's disk has no space left."""
    return RefusedError(507, "The registry's disk is full; nothing was changed.")


def busy() -> RefusedError:
    """Other changes have taken the index for too long."""
    return RefusedError(
        503, "The registry is busy with other changes; nothing was changed.", headers={"Retry-After": "5"}
    )
