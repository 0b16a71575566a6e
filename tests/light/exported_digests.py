"""Run as a program: export packs to safetensors, and print the SHA-256 of every tensor by pack, as JSON.

``exported_digests.py FOLDER PACK ...``
"""

import hashlib
import json
import sys
from pathlib import Path

import lottapack


def digests(pack: str, folder: Path) -> dict[str, str]:
    path = lottapack.export(pack, folder / "model.safetensors")
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header.pop("__metadata__")
    offsets = {name: info["data_offsets"] for name, info in header.items()}
    return {name: hashlib.sha256(data[8 + size + lo : 8 + size + hi]).hexdigest() for name, (lo, hi) in offsets.items()}


if __name__ == "__main__":
    print(json.dumps({pack: digests(pack, Path(sys.argv[1])) for pack in sys.argv[2:]}))
