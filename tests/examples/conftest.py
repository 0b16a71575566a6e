"""The examples, importable."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path += [str(ROOT / folder) for folder in ("examples/paper", "examples", "benchmarks")]
