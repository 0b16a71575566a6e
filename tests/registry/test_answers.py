"""Whatever a registry answers, clients raise only errors of lottapack.

The registries are scripts (tests/fuzz/scripts.py), so thousands of answers take seconds. test_hostile_hub.py has
some over real sockets.
"""

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import mutation
import pytest
import scripts
from extent import extent
from huggingface_hub import constants
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lottapack.errors import AccessError, IntegrityError, LottapackError, NetworkError, RegistryError
from lottapack.registry import answers, hub_http

# The client's own, where it uploads to LFS.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

HUB, OCI = scripts.hub_script(), scripts.oci_script()
SCRIPTS = {"hub": HUB, "oci": OCI}
MANY = settings(max_examples=extent(60, 150), deadline=None, suppress_health_check=list(HealthCheck))


def copy(script: Any) -> Any:
    return json.loads(json.dumps(script))


@pytest.mark.parametrize("kind", SCRIPTS)
def test_the_scripts_say_what_a_registry_says(kind: str) -> None:
    found = scripts.run(kind, SCRIPTS[kind])
    assert {what: result for what, result in found.items() if isinstance(result, LottapackError)} == {}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(scripts.VALUES),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize("kind", SCRIPTS)
@MANY
@given(data=st.data())
def test_every_field_of_every_answer(kind: str, data: st.DataObject) -> None:
    script = copy(SCRIPTS[kind])
    question = data.draw(st.sampled_from([name for name, reply in script.items() if reply.get("json")]))
    container, key = data.draw(
        st.sampled_from([*mutation.places(script[question]["json"]), (script[question], "json")])
    )
    if data.draw(st.integers(0, 4)):
        container[key] = data.draw(JSON)
    else:
        del container[key]
    scripts.run(kind, script)


@pytest.mark.parametrize("kind", SCRIPTS)
@MANY
@given(data=st.data())
def test_every_header_and_status_of_every_answer(kind: str, data: st.DataObject) -> None:
    script = copy(SCRIPTS[kind])
    reply = script[data.draw(st.sampled_from(sorted(script)))]
    value = st.sampled_from([value for value in scripts.VALUES if isinstance(value, str)]) | st.text(max_size=30)
    for _ in range(data.draw(st.integers(1, 2))):
        reply["headers"][data.draw(st.sampled_from(scripts.HEADERS))] = data.draw(value)
    if data.draw(st.booleans()):
        reply["status"] = data.draw(st.integers(200, 599))
    scripts.run(kind, script)


@pytest.mark.parametrize("kind", SCRIPTS)
@MANY
@given(data=st.data())
def test_every_answer_as_any_bytes(kind: str, data: st.DataObject) -> None:
    script = copy(SCRIPTS[kind])
    reply = script[data.draw(st.sampled_from(sorted(script)))]
    reply.pop("pack", None)
    odd = st.sampled_from(["[" * 20_000, '{"sha":' * 9000, '"\ud800"', "", "null", "<html>", "{}", "[]"])
    reply["text"] = data.draw(odd | st.text(max_size=40))
    scripts.run(kind, script)


def changed(kind: str, question: str, **reply: Any) -> dict[str, object]:
    script = copy(SCRIPTS[kind])
    script[question] |= reply
    if "text" in reply:
        script[question].pop("pack", None)
    return scripts.run(kind, script)


CASES: list[tuple[str, str, dict[str, Any], str, type[LottapackError], str]] = [
    ("hub", "info", {"text": '{"sha":"\udcff"}'}, "pull", RegistryError, "does not answer like a Hub"),
    ("hub", "info", {"text": "[" * 100_000}, "pull", RegistryError, "does not answer like a Hub"),
    ("hub", "info", {"text": " " * (33 << 20)}, "pull", RegistryError, "more than 33,554,432 bytes"),
    ("hub", "info", {"headers": {"Content-Encoding": "gzip"}}, "pull", RegistryError, "compressed"),
    ("hub", "info", {"status": 302, "headers": {"Location": "/api/models/o/m"}}, "pull", RegistryError, "10 redirects"),
    (
        "hub",
        "info",
        {"status": 302, "headers": {"Location": "file:///etc/passwd"}},
        "pull",
        RegistryError,
        "refusing to follow",
    ),
    ("hub", "file", {"status": 429, "headers": {"Retry-After": "99999999"}}, "pull", NetworkError, "too many requests"),
    ("hub", "file", {"text": "x" * 640}, "pull", IntegrityError, "SHA-256"),
    (
        "hub",
        "file",
        {"headers": {"Content-Length": "1" + "0" * 15}},
        "pull",
        IntegrityError,
        "the registry announced 640",
    ),
    ("hub", "list", {"headers": {"Link": '</api/models?x>; rel="next"'}}, "list", RegistryError, "more than 100 pages"),
    ("hub", "list", {"headers": {"Link": '<http://x.test/>; rel="next"'}}, "list", RegistryError, "at another server"),
    ("hub", "list", {"json": {"a": 1}}, "list", RegistryError, "Expected `array`"),
    ("hub", "commits", {"json": [{}]}, "log", RegistryError, "missing required field"),
    ("hub", "preupload", {"headers": {"Content-Encoding": "gzip"}}, "push", RegistryError, "compressed"),
    ("hub", "preupload", {"text": " " * (33 << 20)}, "push", RegistryError, "does not end"),
    ("hub", "batch", {"status": 429, "headers": {"Retry-After": "9999999"}}, "push", NetworkError, "asks to wait"),
    (
        "hub",
        "commit",
        {"json": {"commitOid": "../x", "commitUrl": f"{scripts.ENDPOINT}/o/m/commit/x"}},
        "push",
        RegistryError,
        "did not return the id of the commit",
    ),
    ("hub", "upload", {"text": " " * (33 << 20)}, "push", RegistryError, "does not end"),
    ("oci", "manifest", {"text": "[" * 100_000}, "pull", RegistryError, "breaks the specification"),
    ("oci", "manifest", {"text": " " * (5 << 20)}, "pull", RegistryError, "more than 4,194,304 bytes"),
    ("oci", "blob", {"headers": {"Content-Length": "abc"}}, "pull", IntegrityError, "'abc' bytes"),
    (
        "oci",
        "blob",
        {"status": 307, "headers": {"Location": "http://[::1"}},
        "pull",
        RegistryError,
        "refusing to follow",
    ),
    ("oci", "blob", {"status": 206}, "pull", IntegrityError, "starts at another byte"),
    ("oci", "token", {"json": {"token": "a\r\nX-Evil: 1"}}, "pull", RegistryError, "did not return a token"),
    ("oci", "token", {"json": {"token": "€"}}, "pull", RegistryError, "did not return a token"),
    ("oci", "token", {"text": " " * 100_000}, "pull", RegistryError, "more than 65,536 bytes"),
    ("oci", "challenge", {"headers": {"WWW-Authenticate": "Basic"}}, "pull", AccessError, "requires a login"),
    ("oci", "tags", {"json": {"tags": 5}}, "log", RegistryError, "list of tags"),
    ("oci", "catalog", {"headers": {"Link": '</v2/_catalog?x>; rel="next"'}}, "list", RegistryError, "100 pages"),
    ("oci", "start", {"headers": {"Location": "file:///tmp/x"}}, "push", RegistryError, "refusing to follow"),
]


@pytest.mark.parametrize(("kind", "question", "reply", "what", "error", "words"), CASES)
def test_what_each_answer_means(
    kind: str, question: str, reply: dict[str, Any], what: str, error: type[LottapackError], words: str
) -> None:
    found = changed(kind, question, **reply)[what]
    assert type(found) is error, found
    assert words in str(found)
    assert found.hint  # type: ignore[attr-defined]


def test_a_wait_that_is_short_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    replies: Iterator[int] = iter([429, 503])
    real = scripts.answer

    def busy(script: Any, question: str) -> scripts.Answer:
        status = next(replies, None) if question == "info" else None
        return (status, [("Retry-After", "2")], b"") if status else real(script, question)

    monkeypatch.setattr(scripts, "answer", busy)
    assert not isinstance(scripts.run("hub", HUB)["pull"], LottapackError)


def test_a_secret_that_begins_another_does_not_uncover_its_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "_secrets", set())
    for secret in ("hf_abcdefgh", "hf_abcdefghijklmnop", "hf_abcdefghijkl"):
        answers.conceal(f"Bearer {secret}")
    assert answers.printable("you sent hf_abcdefghijklmnop, then hf_abcdefgh", 100) == "you sent ***, then ***"


def test_threads_leave_the_telemetry_of_the_client_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second thread asks while the first one has switched it off, and ends after it."""
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", False)
    second, first_has_ended = threading.Event(), threading.Event()
    turns = iter([(second, None), (None, first_has_ended)])

    def headers(**_: Any) -> dict[str, str]:
        assert constants.HF_HUB_DISABLE_TELEMETRY
        wait_for, then = next(turns)
        if wait_for is not None:
            wait_for.wait(0.3)  # in vain: the second thread has to wait for this one
        else:
            second.set()
            then.wait(5)
        return {}

    monkeypatch.setattr(hub_http, "build_hf_headers", headers)
    first = threading.Thread(target=lambda: (hub_http._identity(), first_has_ended.set()))
    other = threading.Thread(target=hub_http._identity)
    first.start()
    time.sleep(0.1)
    other.start()
    first.join()
    other.join()
    assert constants.HF_HUB_DISABLE_TELEMETRY is False
