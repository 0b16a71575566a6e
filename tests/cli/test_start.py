"""Other ways to start: `python -m lottapack`, and shell completion."""

import os
import subprocess
import sys

import lottapack


def run(*command: str, **environment: str) -> str:
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_python_m_lottapack_is_the_command():
    assert run(sys.executable, "-m", "lottapack", "--version").strip() == f"lottapack {lottapack.__version__}"


def test_a_shell_completes_commands():
    words = {"_LOTTAPACK_COMPLETE": "complete_bash", "COMP_WORDS": "lottapack ve", "COMP_CWORD": "1"}
    assert run(sys.executable, "-m", "lottapack", **words).split() == ["verify"]


def test_the_completion_is_shown_without_installing_it(tmp_path):
    home = {"HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    assert "complete -" in run(sys.executable, "-m", "lottapack", "--show-completion", "bash", **home)
    assert list(tmp_path.iterdir()) == []
