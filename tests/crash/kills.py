"""kill -9 at random moments: the path holds the old or the new file, and the next run succeeds.

Killed processes are forks of one that has imported everything, so a kill costs milliseconds.
"""

import os
import random
import shutil
import signal
import statistics
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

LONGEST = 120.0
"""Seconds after which a child that was not killed is taken to hang."""


class LostError(Exception):
    """The path holds neither the old nor the new file, or the next run fails."""


class Scenario(ABC):
    """Something that writes. Only the files in ``folder`` carry state between its methods."""

    name: str

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @abstractmethod
    def prepare(self) -> None:
        """Make the files. Runs in a child."""

    @abstractmethod
    def reset(self) -> None:
        """Restore the old state. Runs in the parent, so it uses files only."""

    @abstractmethod
    def run(self) -> None:
        """Write; this is what gets killed. Runs in a child."""

    @abstractmethod
    def state(self) -> str:
        """Return "old", "new", or (of several files) "being replaced". Runs in the parent. Raises LostError."""

    def complete(self) -> None:
        """Check the state after a run that succeeded. Runs in the parent."""
        if self.state() != "new":
            raise LostError(f"{self.name}: a run that went through left {self.state()}")


@dataclass
class Count:
    """The results of one scenario. ``late``: runs that ended before the kill."""

    name: str
    kills: int = 0
    late: int = 0
    old: int = 0
    new: int = 0
    mixed: int = 0
    seconds: float = 0.0
    """How long the run takes that is killed."""


def in_child(work: Callable[[], None]) -> int:
    """Fork and call a function there; return the process id."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        work()
        status = 0
    except BaseException:  # noqa: BLE001 - this is all there is of the child
        traceback.print_exc()
    finally:
        os._exit(status)


def to_the_end(work: Callable[[], None], what: str) -> float:
    """Call a function in a child; return its seconds. Raises LostError if it fails or hangs."""
    begin = time.monotonic()
    child = in_child(work)
    status = waited(child, LONGEST)
    if status is None:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise LostError(f"{what} hangs")
    if status != 0:
        raise LostError(f"{what} fails")
    return time.monotonic() - begin


def waited(child: int, seconds: float) -> int | None:
    """Return a child's exit code, negative for a signal, or None after ``seconds``."""
    end = time.monotonic() + seconds
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= end:
            return None
        time.sleep(min(0.001, max(0.0, end - time.monotonic())))


def kill_often(scenario: Scenario, kills: int, draw: random.Random) -> Count:
    """Kill ``scenario`` that often. Raises LostError at the first loss."""
    count = Count(scenario.name)
    to_the_end(scenario.prepare, f"{scenario.name}: to prepare")
    times = []
    for _ in range(min(3, kills)):
        scenario.reset()
        times.append(to_the_end(scenario.run, f"{scenario.name}: to run"))
        scenario.complete()
    count.seconds = statistics.median(times)
    while count.kills < kills:
        if count.late > 20 * (kills + 10):
            raise LostError(f"{scenario.name}: is never killed")
        scenario.reset()
        child = in_child(scenario.run)
        status = waited(child, draw.uniform(0, count.seconds))
        if status is None:
            os.kill(child, signal.SIGKILL)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status > 0:
            raise LostError(f"{scenario.name}: failed by itself")
        found = scenario.state()
        if status < 0:
            count.kills += 1
            count.old += found == "old"
            count.new += found == "new"
            count.mixed += found not in ("old", "new")
        else:
            count.late += 1
        to_the_end(scenario.run, f"{scenario.name}: the run after a kill")
        scenario.complete()
    return count


def hidden(folder: Path) -> list[str]:
    """Return the temporary files left below a folder."""
    return [str(path) for path in folder.rglob("*.tmp")]


def copy_tree(source: Path, target: Path) -> None:
    """Replace a folder by a copy of another, links as links."""
    shutil.rmtree(target, ignore_errors=True)
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True)
