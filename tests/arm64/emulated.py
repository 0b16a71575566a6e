"""Check the object files for arm64 in a folder on an emulated processor: ``python tests/arm64/emulated.py FOLDER``."""

import sys
from pathlib import Path

from emulator import Emulator
from shipped import fills, products


def main() -> None:
    processor = Emulator(Path(sys.argv[1]))
    processor.install()
    print(f"{fills()} fills, {products()} products, {processor.executed} instructions")


if __name__ == "__main__":
    main()
