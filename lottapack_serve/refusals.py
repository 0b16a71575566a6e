"""The registry's refusals: a status, a code that clients know, and a message.

The codes are those that Hub clients read from ``X-Error-Code``. A RefusedError never leaves the server: ``app.py``
turns it into a response with ``{"error": ...}``.
"""


class RefusedError(Exception):
    """A refusal. ``status``: the HTTP status. ``code``: for ``X-Error-Code``, or empty."""

    def __init__(self, status: int, message: str, *, code: str = "", headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.headers = headers or {}


class MovedError(Exception):
    """The repository has another name now. ``repo``: that name, ``owner/name``."""

    def __init__(self, repo: str) -> None:
        super().__init__(repo)
        self.repo = repo


def bad_request(message: str) -> RefusedError:
    """Return the refusal of an invalid request."""
    return RefusedError(400, message)


def too_large(message: str) -> RefusedError:
    """Return the refusal of a request that exceeds a limit."""
    return RefusedError(413, message)


def repo_not_found(repo: str, *, anonymous: bool) -> RefusedError:
    """Return the refusal of an unknown or hidden repository; without a token both give the same 401."""
    if anonymous:
        return RefusedError(
            401, f"The repository {repo} does not exist, or seeing it needs a token.", code="RepoNotFound"
        )
    return RefusedError(404, f"The repository {repo} does not exist.", code="RepoNotFound")


def revision_not_found(repo: str, revision: str) -> RefusedError:
    """Return the refusal of an unknown branch, tag or commit."""
    return RefusedError(404, f"{repo} does not have a branch, tag or commit {revision!r}.", code="RevisionNotFound")


def entry_not_found(path: str, commit: str) -> RefusedError:
    """Return the refusal of an unknown file. Clients remember it, so the headers name the commit."""
    message = f"The file {path!r} does not exist in commit {commit}."
    return RefusedError(404, message, code="EntryNotFound", headers={"X-Repo-Commit": commit})


def disk_full() -> RefusedError:
    """Return the refusal on a full disk."""
    return RefusedError(507, "The registry's disk is full; nothing was changed.")


def busy() -> RefusedError:
    """Return the refusal if other changes block the index for too long."""
    return RefusedError(
        503, "The registry is busy with other changes; nothing was changed.", headers={"Retry-After": "5"}
    )
