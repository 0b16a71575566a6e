#!/bin/sh
# The vectors, the equality tests and the wheel's object files on arm64, emulated: `make test-arm64`.
#
# In FOLDER (by default .arm64) debootstrap unpacks Debian's Python for arm64, and pip the wheels; qemu's user emulation
# then runs that Python. Nothing is installed on this machine, and nothing in the folder runs but through the emulator,
# so there is no second stage of debootstrap and no binfmt_misc. Tests that start processes of their own are left out:
# the emulated Python cannot start itself. torch is the oldest that pyproject.toml allows.
set -eu

PYTHON=${1:?usage: run.sh PYTHON [FOLDER]}
FOLDER=${2:-.arm64}
SUITE=bookworm
WHEELS="numpy numba llvmlite msgspec torch==2.6.0"
TESTS="pytest hypothesis sortedcontainers pluggy iniconfig packaging attrs pygments jsonschema \
jsonschema-specifications referencing rpds-py filelock typing-extensions sympy mpmath networkx jinja2 markupsafe fsspec"

skip() {
    echo "skipped: $1" >&2
    exit 0
}

QEMU=$(command -v qemu-aarch64-static || command -v qemu-aarch64) ||
    skip "there is no qemu-aarch64; on Debian: apt install qemu-user-static debootstrap"

if [ ! -e "$FOLDER/ready" ]; then
    command -v debootstrap >/dev/null || skip "there is no debootstrap; on Debian: apt install debootstrap"
    [ "$(id -u)" = 0 ] || skip "debootstrap unpacks as root only; run it once as root, afterwards any user can test"
    rm -rf "$FOLDER"
    mkdir -p "$FOLDER"
    debootstrap --foreign --arch=arm64 --variant=minbase --include=python3 "$SUITE" "$FOLDER/root" \
        ${DEBIAN_MIRROR:+"$DEBIAN_MIRROR"} \
        >"$FOLDER/debootstrap.log" || skip "debootstrap could not fetch Debian; see $FOLDER/debootstrap.log"
    for package in "$FOLDER"/root/var/cache/apt/archives/*.deb; do
        dpkg-deb --extract "$package" "$FOLDER/root"
    done
    # torch's version here is not the one of constraints.txt.
    grep -v '^torch==' constraints.txt >"$FOLDER/constraints.txt"
    # shellcheck disable=SC2086
    "$PYTHON" -m pip --disable-pip-version-check --quiet install --no-deps --target "$FOLDER/site" \
        --constraint "$FOLDER/constraints.txt" --only-binary=:all: --python-version 3.11 --implementation cp \
        --abi cp311 --abi abi3 --abi none --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 \
        --platform manylinux_2_17_aarch64 --platform manylinux2014_aarch64 $WHEELS $TESTS ||
        skip "pip could not fetch the wheels"
    touch "$FOLDER/ready"
fi

export PYTHONPATH="$FOLDER/site:$PWD:$PWD/cli" PYTHONDONTWRITEBYTECODE=1 PYTHONPYCACHEPREFIX="$FOLDER/kernels"
run() {
    "$QEMU" -L "$FOLDER/root" "$FOLDER/root/usr/bin/python3.11" "$@"
}
run -c 'import platform, numpy, numba, torch; print(platform.machine(), "numpy", numpy.__version__, "numba",
numba.__version__, "torch", torch.__version__)'
LOTTAPACK_KERNELS=v8 "$PYTHON" hatch_build.py
run tests/arm64/shipped.py
run -m pytest -q -p no:cacheprovider tests/spec/test_rng_vectors.py tests/spec/test_merge_vectors.py \
    tests/spec/test_file_vectors.py tests/equality/test_equality.py tests/unit/test_numpy_loading.py \
    -k "not transformers and not timm and not without_torch and not trained_model"
