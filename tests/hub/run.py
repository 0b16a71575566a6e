"""Run huggingface_hub's own tests against ``lottapack serve``: python tests/hub/run.py [--suite PATH] [GROUP...]

The tests come from the sdist of the client's pinned version, which pip downloads, or from ``--suite``: an sdist, or a
folder that has ``tests``, such as a checkout. Their files are not part of this project. README.md says what runs.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
WORK = ROOT / ".hub-suite"
SCOPE = tomllib.loads((HERE / "scope.toml").read_text("utf-8"))
USER, OTHER = "__DUMMY_HUB_USER__", "DVUser"
"""Names that the client's tests write into their expectations."""
MARKERS = ("api", "transfer", "inference", "xet", "no_xet", "production", "deprecated", "git_lfs", "vcr", "asyncio")


def version() -> str:
    """Return the pinned version of the client."""
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    return next(line.partition("==")[2] for line in lines if line.startswith("huggingface_hub=="))


def downloaded() -> Path:
    """Download the sdist of the pinned version with pip."""
    name = f"huggingface_hub-{version()}.tar.gz"
    if not (WORK / name).exists():
        pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "download"]
        wanted = f"huggingface_hub=={version()}"
        subprocess.run([*pip, "--no-deps", "--no-binary", ":all:", "--dest", str(WORK), wanted], check=True)
    return WORK / name


def unpack(source: Path, folder: Path) -> Path:
    """Put the tests of an sdist or a folder into ``folder/tests``, with our conftest.py."""
    tests = folder / "tests"
    if source.is_dir():
        shutil.copytree(source / "tests", tests)
    else:
        with tarfile.open(source) as archive:
            archive.extractall(folder / "sdist", filter="data")
        (inner,) = (folder / "sdist").iterdir()
        shutil.move(inner / "tests", tests)
    for name, changes in SCOPE["as_models"].items():
        text = (tests / name).read_text("utf-8")
        for old, new in changes.items():
            text = text.replace(old, new)
        (tests / name).write_text(text, "utf-8")
    shutil.copyfile(HERE / "suite_conftest.py", tests / "conftest.py")
    (tests / "__init__.py").touch()
    markers = "".join(f"\n  {marker}" for marker in MARKERS)
    (folder / "pytest.ini").write_text(f"[pytest]\naddopts = --strict-markers\nmarkers ={markers}\n", "utf-8")
    return folder


@contextmanager
def registry(root: Path) -> Iterator[dict[str, str]]:
    """Start a registry with two writing users; yield its clients' environment."""
    command = [sys.executable, "-m", "lottapack_cli", "serve"]

    def token(name: str) -> str:
        added = [*command, "token", "add", name, "--write", "--root", str(root), "--json"]
        return str(json.loads(subprocess.run(added, check=True, capture_output=True, text=True).stdout)["token"])

    told = {"SUITE_TOKEN": token(USER), "SUITE_OTHER_TOKEN": token(OTHER)}
    started = [*command, "--root", str(root), "--port", "0", "--json"]
    with subprocess.Popen(started, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield {**told, "HF_ENDPOINT": json.loads(process.stdout.readline())["url"]}
        finally:
            process.kill()


def environment(told: dict[str, str], home: Path) -> dict[str, str]:
    """Return the clients' environment, isolated from this machine and the real Hub."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING", "PYTHON"))}
    proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")
    proxies |= {name.lower(): value for name, value in proxies.items()}
    local = {"NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost"}
    return {**plain, **proxies, **local, **told, "HF_HOME": str(home), "HOME": str(home), "HF_HUB_DISABLE_XET": "1"}


def left_out(groups: list[str]) -> list[str]:
    """Return the tests that scope.toml leaves out of these groups."""
    every = [test for entry in SCOPE["left_out"] for test in entry["tests"]]
    return [test for test in every if test.partition("::")[0] in {f"test_{group}.py" for group in groups}]


def outcomes(report: Path) -> dict[str, str]:
    """Return each test's result: ``passed``, ``skipped`` or ``failed``."""
    found = {}
    for case in ET.parse(report).iter("testcase"):
        if "." not in case.attrib["classname"]:  # the file could not be read
            found[case.attrib["name"]] = "failed"
            continue
        _, module, *classes = case.attrib["classname"].split(".")
        name = "::".join([f"{module}.py", *classes, case.attrib["name"]])
        kinds = {child.tag for child in case} & {"failure", "error", "skipped"}
        found[name] = "skipped" if kinds == {"skipped"} else "failed" if kinds else found.get(name, "passed")
    return found


def main() -> int:
    """Run. The exit status is 1 if a test outside scope.toml fails, or an entry there is stale."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groups", nargs="*", metavar="GROUP", help="by default all of scope.toml")
    parser.add_argument("--suite", type=Path, help="an sdist of huggingface_hub, or a checkout")
    parser.add_argument("--python", type=Path, default=ROOT / ".venv-hub-suite" / "bin" / "python")
    parser.add_argument("--all", action="store_true", help="run what scope.toml leaves out too: some of it must fail")
    parser.add_argument("-k", default="", metavar="WORDS", help="as in pytest")
    given = parser.parse_args()
    groups: list[str] = given.groups or SCOPE["groups"]
    WORK.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=WORK) as temporary:
        folder = unpack(given.suite or downloaded(), Path(temporary))
        files = [f"tests/test_{group}.py" for group in groups]
        skipped = [] if given.all else [f"--deselect=tests/{test}" for test in left_out(groups)]
        report = folder / "report.xml"
        with registry(folder / "registry") as told:
            command = [str(given.python), "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short", "-rs"]
            command += [*files, *skipped, f"--junit-xml={report}", *(["-k", given.k] if given.k else [])]
            subprocess.run(command, cwd=folder, env=environment(told, folder / "home"), check=False)
        found = outcomes(report)
    outside = left_out(groups) if given.all else []
    failed = sorted(name for name, outcome in found.items() if outcome == "failed")
    stale = [test for test in outside if not any(name.startswith(test) for name in failed)]
    failed = [name for name in failed if not name.startswith(tuple(outside))]
    count = {kind: list(found.values()).count(kind) for kind in ("passed", "skipped", "failed")}
    print(f"huggingface_hub {version()}: {count}; entries of scope.toml that were left out: {len(skipped)}")
    for name in failed:
        print(f"failed: {name}")
    for test in stale:
        print(f"left out by scope.toml, and nothing of it fails: {test}")
    return 1 if failed or stale or not count["passed"] else 0


if __name__ == "__main__":
    sys.exit(main())
