"""kill -9 at a random moment, over and over: what is at the path is the old or the new, and the next run goes through.

A killed process is a fork of one that has imported everything, so that a kill costs milliseconds, not an import.
"""

import os
import random
import shutil
import signal
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

LONGEST = 120.0
"""Seconds after which a child that was not killed is taken to hang."""


class LostError(Exception):
    """Something was lost: neither the old nor the new, or a run that does not go through."""


class Scenario(ABC):
    """Something that writes. Between its methods only the files in ``folder`` carry anything over."""

    name: str

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @abstractmethod
    def prepare(self) -> None:
        """Make what is needed. In a child."""

    @abstractmethod
    def reset(self) -> None:
        """Bring back the old state. In the parent, so with files only."""

    @abstractmethod
    def run(self) -> None:
        """What is killed. In a child."""

    @abstractmethod
    def state(self) -> str:
        """ "old" or "new" (or, of several files, that they are being replaced). In the parent. Raises LostError."""

    def complete(self) -> None:
        """Check what must be true after a run that went through. In the parent."""
        if self.state() != "new":
            raise LostError(f"{self.name}: a run that went through left {self.state()}")


@dataclass
class Count:
    """What became of the kills of one scenario. ``late``: runs that were done before they could be killed."""

    name: str
    kills: int = 0
    late: int = 0
    old: int = 0
    new: int = 0
    mixed: int = 0
    seconds: float = 0.0
    """How long the run takes that is killed."""


def in_child(work: Callable[[], None]) -> int:
    """Fork, and do something there; the process id."""
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
    """Do something in a child; how many seconds it took. Raises LostError if it fails or hangs."""
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
    """A child's exit code, negative for a signal; None if it goes on for longer than ``seconds``."""
    end = time.monotonic() + seconds
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= end:
            return None
        time.sleep(min(0.001, max(0.0, end - time.monotonic())))


def kill_often(scenario: Scenario, kills: int, draw: random.Random) -> Count:
    """Kill ``scenario`` that often. Raises LostError as soon as anything is lost."""
    count = Count(scenario.name)
    to_the_end(scenario.prepare, f"{scenario.name}: to prepare")
    times = []
    for _ in range(3):
        scenario.reset()
        times.append(to_the_end(scenario.run, f"{scenario.name}: to run"))
        scenario.complete()
    count.seconds = sorted(times)[1]
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
    """The temporary files that are left below a folder."""
    return [str(path) for path in folder.rglob("*.tmp")]


def copy_tree(source: Path, target: Path) -> None:
    """Replace a folder by a copy of another, links as links."""
    shutil.rmtree(target, ignore_errors=True)
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True)
