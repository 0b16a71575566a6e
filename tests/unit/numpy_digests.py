"""Run as a program: SHA-256 of every array that load_numpy() gives for packs, as JSON; fails if torch is imported.

``numpy_digests.py [--without-kernels] PACK[:SCAFFOLD] ...``
"""

import hashlib
import json
import sys
import warnings

import numpy as np


def recorded_bytes(array: np.ndarray, dtype: str) -> bytes:
    """The bytes of an array in its recorded dtype."""
    if dtype != "bfloat16":
        assert array.dtype == dtype
        return array.tobytes()
    bits = array.view(np.uint32)
    assert array.dtype == np.float32
    assert not (bits & 0xFFFF).any()
    return (bits >> 16).astype(np.uint16).tobytes()


def digests(argument: str) -> dict[str, str]:
    """The SHA-256 of each array of ``PACK`` or ``PACK:SCAFFOLD``."""
    import lottapack

    path, _, scaffold = argument.partition(":")
    with lottapack.open_pack(path) as pack:
        resolve, entries = pack.descriptor.resolve, pack.descriptor.parameters
        dtypes = {name: entries[resolve(name)].dtype for name in entries}
    arrays = lottapack.numpy.load(path, scaffold=scaffold or None)
    return {name: hashlib.sha256(recorded_bytes(array, dtypes[name])).hexdigest() for name, array in arrays.items()}


def main(arguments: list[str]) -> None:
    sys.modules["torch"] = None  # importing it is an error
    if arguments[0] == "--without-kernels":
        sys.modules["llvmlite"] = None
        warnings.simplefilter("ignore", RuntimeWarning)
        del arguments[0]
    found = {argument: digests(argument) for argument in arguments}
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
