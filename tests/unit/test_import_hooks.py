"""Our modules that are imported after another library's."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
CODE = """
import sys, warnings
sys.path[:0] = [{root!r}, {folder!r}]
from lottapack.integrations.imports import after_import
{code}
print(*sorted(name for name in sys.modules if name.startswith(("theirs", "ours"))))
"""


def loaded(folder: Path, code: str) -> list[str]:
    """Run code in a process with the packages theirs and ours; return the imported modules."""
    (folder / "theirs").mkdir(exist_ok=True)
    (folder / "theirs" / "__init__.py").write_text("")
    (folder / "theirs" / "part.py").write_text("value = 1")
    (folder / "ours.py").write_text("import sys; sys.modules['theirs.part'].value += 1")
    (folder / "ours_broken.py").write_text("from theirs.part import missing")
    script = CODE.format(root=str(ROOT), folder=str(folder), code=code)
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_nothing_is_imported_before_the_other_library(tmp_path: Path) -> None:
    code = "after_import('theirs.part', 'ours'); import theirs, importlib.util"
    assert loaded(tmp_path, code) == ["theirs"]


def test_ours_follows_theirs_once(tmp_path: Path) -> None:
    code = "after_import('theirs.part', 'ours'); after_import('theirs.part', 'ours')\n"
    code += "from theirs import part; import theirs.part; assert part.value == 2, part.value"
    assert loaded(tmp_path, code) == ["ours", "theirs", "theirs.part"]


def test_ours_comes_at_once_where_theirs_is_there(tmp_path: Path) -> None:
    code = "import theirs.part; after_import('theirs.part', 'ours'); assert theirs.part.value == 2"
    assert loaded(tmp_path, code) == ["ours", "theirs", "theirs.part"]


def test_a_version_without_our_places_can_still_be_imported(tmp_path: Path) -> None:
    code = "after_import('theirs.part', 'ours_broken')\n"
    code += "with warnings.catch_warnings(record=True) as seen:\n    warnings.simplefilter('always')\n"
    code += "    import theirs.part\nassert 'cannot register with theirs.part' in str(seen[0].message)"
    assert "theirs.part" in loaded(tmp_path, code)


def test_a_library_that_is_missing_is_missing(tmp_path: Path) -> None:
    code = "after_import('nowhere.part', 'ours')\ntry:\n    import nowhere.part\n"
    code += "except ModuleNotFoundError as fault:\n    assert fault.name == 'nowhere'\nelse:\n    raise SystemExit(1)"
    assert loaded(tmp_path, code) == []
