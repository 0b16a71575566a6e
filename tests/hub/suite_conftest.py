"""The conftest.py of the client's tests, with ``lottapack serve`` in place of the Hub.

run.py puts this file beside them. It takes the registry's address and two users' tokens from the environment.
"""

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest
from huggingface_hub import CommitInfo, HfApi, RepoUrl, constants
from huggingface_hub.cli._output import out
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import _detect_agent

from . import testing_constants, testing_utils

NOWHERE = "http://127.0.0.1:9"
"""The production Hub, as these tests see it: nothing listens there."""

testing_constants.ENDPOINT_STAGING = os.environ["HF_ENDPOINT"]
testing_constants.ENDPOINT_PRODUCTION = NOWHERE
testing_constants.ENDPOINT_PRODUCTION_URL_SCHEME = f"{NOWHERE}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
testing_constants.TOKEN = os.environ["SUITE_TOKEN"]
testing_constants.OTHER_TOKEN = os.environ["SUITE_OTHER_TOKEN"]

RepoFactory = Callable[..., RepoUrl]
PULL_REQUEST = "pr-1"
"""The branch that takes the place of a repository's first pull request."""

AS_ON_THE_HUB = (
    "test_hf_file_system.py",
    "test_snapshot_download.py",
    "TestHfApiDeleteFiles",
    "TestHfApiListRepoTree",
    "test_upload_folder_git_folder_excluded",
)
"""Tests that count on .gitattributes in a new repository, and on a pull request."""

_create_repo, _upload_file = HfApi.create_repo, HfApi.upload_file


def _is_on_the_hub() -> bool:
    return any(name in os.environ.get("PYTEST_CURRENT_TEST", "") for name in AS_ON_THE_HUB)


@functools.wraps(_create_repo)
def create_repo(self: HfApi, repo_id: str, **options: Any) -> RepoUrl:
    """Create a repository with a first commit of .gitattributes, as the Hub does."""
    url = _create_repo(self, repo_id, **options)
    if _is_on_the_hub():
        _upload_file(self, path_or_fileobj=b"*.bin -text\n", path_in_repo=".gitattributes", repo_id=url.repo_id)
    return url


@functools.wraps(_upload_file)
def upload_file(self: HfApi, **options: Any) -> CommitInfo:
    """Commit to a branch where these tests ask for a pull request."""
    if _is_on_the_hub() and options.pop("create_pr", False):
        self.create_branch(options["repo_id"], branch=PULL_REQUEST)
        options["revision"] = PULL_REQUEST
    return _upload_file(self, **options)


HfApi.create_repo, HfApi.upload_file = create_repo, upload_file


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out tests marked for the production Hub, Xet or git-lfs."""
    kept = [item for item in items if not any(map(item.get_closest_marker, ("production", "xet", "git_lfs", "vcr")))]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept


@pytest.fixture(autouse=True)
def own_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test its own cache and tokens."""
    home = tmp_path_factory.mktemp("home")
    for name, inside in (
        ("HF_HOME", ""),
        ("HF_HUB_CACHE", "hub"),
        ("HUGGINGFACE_HUB_CACHE", "hub"),
        ("HF_XET_CACHE", "xet"),
        ("HF_ASSETS_CACHE", "assets"),
        ("HF_TOKEN_PATH", "token"),
        ("HF_STORED_TOKENS_PATH", "stored_tokens"),
    ):
        monkeypatch.setattr(constants, name, str(home / inside) if inside else str(home))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_EXPERIMENTAL_WARNING", True)


@pytest.fixture(autouse=True)
def plain_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set plain output with 200 columns, as without a coding agent."""
    monkeypatch.setattr(_detect_agent, "_registry", _detect_agent._EMPTY_REGISTRY)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    out.set_mode()
    out.set_no_truncate(False)


@pytest.fixture(autouse=True)
def deprecations(request: pytest.FixtureRequest) -> Iterator[None]:
    """Expect a warning of the name in tests marked ``deprecated(name)``."""
    with ExitStack() as stack:
        for mark in request.node.iter_markers("deprecated"):
            for name in mark.args:
                stack.enter_context(pytest.warns(FutureWarning, match=f"'{name}'"))
        yield


@pytest.fixture(scope="session")
def api() -> HfApi:
    """Return a client with write access."""
    return HfApi(endpoint=testing_constants.ENDPOINT_STAGING, token=testing_constants.TOKEN)


@pytest.fixture(scope="session")
def api_prod() -> HfApi:
    """Return a client without a token."""
    return HfApi(endpoint=NOWHERE)


@pytest.fixture
def repo_factory(api: HfApi) -> Iterator[RepoFactory]:
    """Return a function that makes repositories, deleted when the test ends."""
    made: list[tuple[str, str]] = []

    def make(repo_type: str = "model", **options: object) -> RepoUrl:
        name = options.pop("repo_id", testing_utils.repo_name(prefix=repo_type))
        made.append((api.create_repo(name, repo_type=repo_type, **options), repo_type))
        return made[-1][0]

    yield make
    for url, repo_type in made:
        with suppress(HfHubHTTPError):
            api.delete_repo(url.repo_id, repo_type=repo_type, missing_ok=True)


@pytest.fixture
def new_repo_id(api: HfApi) -> Iterator[str]:
    """Make a repository for one test."""
    name = f"{testing_constants.USER}/{testing_utils.repo_name()}"
    yield name
    api.delete_repo(name, missing_ok=True)
