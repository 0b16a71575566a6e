"""Real transport faults: each ends in a message or in the whole pack."""

import os
import random
import resource
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import lottapack as packs
from lottapack.errors import IntegrityError, NetworkError, OutputError, RegistryError
from lottapack.registry import integrity, oci_cache
from lottapack_cli.app import main


def flip(path, place=-1):
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def files_below(folder):
    return [path for path in folder.rglob("*") if path.is_file() and "locks" not in path.parts]


def python(code, *arguments):
    """Start a process with the same environment; its output goes to a pipe."""
    command = [sys.executable, "-u", "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


PULL = "import sys; from lottapack import registry; r = registry.pull(sys.argv[1]); print(r.received, r.path)"


def test_a_flipped_byte_in_the_registry(own_registry, pack, cache, capsys):
    reference = f"oci://{own_registry.host}/flipped:v1"
    sent = packs.push(pack, reference)
    blob = own_registry.blob(sent.sha256)
    for place in (0, len(blob.read_bytes()) // 2, -1):
        flip(blob, place)
        with pytest.raises(IntegrityError) as caught:
            packs.pull(reference)
        assert sent.sha256 in str(caught.value)
        assert integrity.sha256_of(blob) in str(caught.value)
        assert not files_below(cache)
        flip(blob, place)
    flip(blob)
    assert main(["pull", reference]) == 1
    capsys.readouterr()
    flip(blob)
    assert packs.pull(reference).path.read_bytes() == pack.read_bytes()


def test_a_flipped_byte_is_fetched_once_more(own_registry, own_proxy, pack):
    reference = f"oci://{own_proxy.host}/flipped:v1"
    blob = own_registry.blob(packs.push(pack, reference).sha256)
    flip(blob)
    own_proxy.reset()
    with pytest.raises(IntegrityError):
        packs.pull(reference)
    assert len([line for line in own_proxy.requests if "/blobs/" in line]) == 2


def test_a_flipped_byte_that_is_mended_meanwhile_is_no_error(own_registry, pack):
    reference = f"oci://{own_registry.host}/mended:v1"
    sent = packs.push(pack, reference)
    blob = own_registry.blob(sent.sha256)
    flip(blob)

    def mend(done, total):
        if done == total and integrity.sha256_of(blob) != sent.sha256:
            flip(blob)

    got = packs.pull(reference, progress=mend)
    assert got.path.read_bytes() == pack.read_bytes()
    assert got.received == 2 * sent.size


def test_a_changed_manifest(own_registry, pack):
    reference = f"oci://{own_registry.host}/manifest"
    sent = packs.push(pack, f"{reference}:v1")
    path = own_registry.blob(sent.revision)
    path.write_bytes(path.read_bytes().replace(b'"lottapack.format":"1.0"', b'"lottapack.format":"1.1"'))
    for end in (":v1", f"@{sent.revision}"):
        with pytest.raises(IntegrityError) as caught:
            packs.pull(reference + end)
        assert sent.revision in str(caught.value)
        assert f"sha256:{integrity.sha256_of(path)}" in str(caught.value)


@pytest.mark.parametrize("length", [0, 1000])
def test_a_blob_of_another_size(own_registry, pack, length):
    reference = f"oci://{own_registry.host}/short:v1"
    blob = own_registry.blob(packs.push(pack, reference).sha256)
    whole = blob.read_bytes()
    for data in (whole[:length], whole + b"x"):
        blob.write_bytes(data)
        with pytest.raises(IntegrityError, match=f"{len(data):,} bytes, but the registry announced {len(whole):,}"):
            packs.pull(reference)
    blob.write_bytes(whole)
    packs.pull(reference)


def test_what_is_damaged_in_the_cache_is_fetched_again(registry, repository, pack):
    reference = f"oci://{registry.host}/{repository}:v1"
    packs.push(pack, reference)
    first = packs.pull(reference)
    for damage in (flip, Path.unlink, lambda path: flip(path.with_name("manifest.json"))):
        damage(first.path)
        again = packs.pull(reference)
        assert again.path == first.path
        assert again.path.read_bytes() == pack.read_bytes()
    assert packs.pull(reference).received == 0


@pytest.mark.parametrize("round_", range(12))
def test_a_pull_cut_at_random_bytes(proxy, repository, pack, round_):
    rng = random.Random(round_)
    reference = f"oci://{proxy.host}/{repository}:v1"
    size = packs.push(pack, reference).size
    proxy.cut_down.extend([rng.randrange(1, size + 2500), rng.randrange(1, size)])
    proxy.reset()
    for _ in range(3):
        try:
            got = packs.pull(reference)
        except NetworkError as fault:
            assert fault.hint
            continue
        break
    assert got.path.read_bytes() == pack.read_bytes()
    assert proxy.down < size + 2 * 65536 + 10_000  # bytes received before a cut are not fetched again


@pytest.mark.parametrize("round_", range(8))
def test_a_push_cut_at_random_bytes(own_registry, own_proxy, pack, round_):
    rng = random.Random(round_)
    reference = f"oci://{own_proxy.host}/cut"
    for number in range(3):
        own_proxy.cut_up.append(rng.randrange(1, pack.stat().st_size + 4000 if number == 0 else 4000))
        try:
            packs.push(pack, f"{reference}:v{number}")
        except NetworkError as fault:
            assert fault.hint
            own_proxy.cut_up.clear()
            assert own_registry.tags("cut") in ([f"v{n}" for n in range(number)], [f"v{n}" for n in range(number + 1)])
            packs.push(pack, f"{reference}:v{number}")
        own_proxy.cut_up.clear()
        assert packs.pull(f"{reference}:v{number}").path.read_bytes() == pack.read_bytes()


def test_the_registry_is_killed_in_the_middle_of_a_pull(own_registry, big_pack, cache):
    reference = f"oci://{own_registry.host}/killed:v1"
    size = packs.push(big_pack, reference).size

    def kill(done, total):
        if done > total // 4:
            own_registry.stop()

    with pytest.raises(NetworkError, match=r"refused|ended|broke|reset|incomplete|Incomplete"):
        packs.pull(reference, progress=kill)
    assert not list(cache.rglob("*.safetensors"))
    own_registry.start()
    got = packs.pull(reference)
    assert got.path.read_bytes() == big_pack.read_bytes()
    assert 0 < got.received < 0.8 * size


def test_the_registry_is_killed_in_the_middle_of_a_push(own_registry, big_pack):
    reference = f"oci://{own_registry.host}/killed:v1"

    def kill(done, total):
        if done > total // 4:
            own_registry.stop()

    with pytest.raises(NetworkError) as caught:
        packs.push(big_pack, reference, progress=kill)
    assert caught.value.hint
    own_registry.start()
    assert own_registry.tags("killed") == []
    packs.push(big_pack, reference)
    assert packs.pull(reference).path.read_bytes() == big_pack.read_bytes()


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGINT])
def test_a_pull_that_is_killed_is_continued(registry, repository, big_pack, cache, sign):
    reference = f"oci://{registry.host}/{repository}:v1"
    size = packs.push(big_pack, reference).size
    code = """
        import sys, time
        from lottapack import registry
        def stop(done, total):
            if done > total // 2:
                print("half", flush=True)
                for _ in range(1200):
                    time.sleep(0.05)  # a signal just before one step is handled after it
        registry.pull(sys.argv[1], progress=stop)
    """
    with python(code, reference) as process:
        assert process.stdout.readline() == "half\n"
        process.send_signal(sign)
        process.communicate(timeout=300)
    assert process.returncode
    assert not list(cache.rglob("*.safetensors"))
    got = packs.pull(reference)
    assert got.path.read_bytes() == big_pack.read_bytes()
    assert 0 < got.received <= size // 2 + 1_000_000


def test_a_pull_killed_before_its_last_step_fetches_nothing_again(registry, repository, pack):
    reference = f"oci://{registry.host}/{repository}:v1"
    packs.push(pack, reference)
    got = packs.pull(reference)
    got.path.with_name("manifest.json").unlink()  # it is written last
    again = packs.pull(reference)
    assert (again.path, again.received) == (got.path, 0)


def test_a_push_that_is_killed_leaves_no_tag(registry, repository, big_pack):
    reference = f"oci://{registry.host}/{repository}:v1"
    code = """
        import sys, time
        from lottapack import pushing
        def stop(done, total):
            if done > total // 2:
                print("half", flush=True)
                time.sleep(60)
        pushing.push(sys.argv[1], sys.argv[2], progress=stop)
    """
    with python(code, big_pack, reference) as process:
        assert process.stdout.readline() == "half\n"
        process.kill()
        process.communicate(timeout=300)
    assert registry.tags(repository) == []
    packs.push(big_pack, reference)
    assert packs.pull(reference).path.read_bytes() == big_pack.read_bytes()


def test_a_pull_loads_no_torch(registry, repository, pack):
    reference = f"oci://{registry.host}/{repository}:v1"
    packs.push(pack, reference)
    with python(f"{PULL}; print('torch' in sys.modules, 'oras' in sys.modules)", reference) as process:
        out, err = process.communicate(timeout=300)
    assert out.splitlines()[1:] == ["False True"], err


def test_racing_pulls_fetch_once(proxy, repository, big_pack):
    reference = f"oci://{proxy.host}/{repository}:v1"
    size = packs.push(big_pack, reference).size
    proxy.reset()
    racing = [python(PULL, reference) for _ in range(4)]
    results = [process.communicate(timeout=120) for process in racing]
    assert [process.returncode for process in racing] == [0] * 4, results
    received, paths = zip(*(out.split() for out, _ in results), strict=True)
    assert sorted(map(int, received)) == [0, 0, 0, size]
    assert len(set(paths)) == 1
    assert proxy.down < 1.01 * size


def test_no_room_for_the_pack(registry, repository, big_pack, cache):
    reference = f"oci://{registry.host}/{repository}:v1"
    packs.push(big_pack, reference)
    # The limit applies to each file of the process: a write beyond it fails as on a full disk.
    code = f"""
        import resource, signal, sys
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (5_000_000, {resource.RLIM_INFINITY}))
        from lottapack_cli.app import main
        sys.exit(main(["pull", sys.argv[1]]))
    """
    with python(code, reference) as process:
        _, err = process.communicate(timeout=300)
    assert process.returncode == 2
    assert "cannot write" in err
    assert "LOTTAPACK_CACHE" in err
    assert not files_below(cache)
    assert packs.pull(reference).path.read_bytes() == big_pack.read_bytes()


def test_a_cache_that_cannot_be_used(registry, repository, pack, tmp_path, monkeypatch):
    packs.push(pack, f"oci://{registry.host}/{repository}:v1")
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("LOTTAPACK_CACHE", str(tmp_path / "file"))
    with pytest.raises(OutputError, match="cache"):
        packs.pull(f"oci://{registry.host}/{repository}:v1")


def test_the_memory_does_not_grow_with_the_file(registry, repository, tmp_path):
    big = tmp_path / "zeros"
    with big.open("wb") as file:
        file.truncate(300 << 20)
    code = r"""
        import hashlib, re, sys
        from pathlib import Path
        from lottapack.registry.oci_client import Client
        from lottapack.registry.oci import download
        from lottapack.registry.oci_manifest import Blob
        from lottapack.registry.references import parse
        path = Path(sys.argv[1])
        with path.open("rb") as file:
            blob = Blob("x", "sha256:" + hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size)
        with Client(parse(sys.argv[2]), "pull,push") as client:
            client.upload(blob, path)
            assert client.has(blob)
            assert download(client, blob, path.with_name("again"), None) == blob.size
        print(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])
    """
    with python(code, big, f"oci://{registry.host}/{repository}") as process:
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert int(out) * 1024 < 100 << 20  # this process's peak; getrusage would include its parent's
    os.truncate(big, 0)


def test_what_is_in_the_cache_needs_no_lock(registry, repository, pack, monkeypatch):
    reference = f"oci://{registry.host}/{repository}"
    digest = packs.push(pack, f"{reference}:v1").revision
    first = packs.pull(f"{reference}:v1")

    def refused(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(oci_cache, "acquired", refused)
    for end in (":v1", f"@{digest}"):
        assert (packs.pull(reference + end).path, packs.pull(reference + end).received) == (first.path, 0)
    first.path.unlink()
    with pytest.raises(OutputError, match="Permission denied"):
        packs.pull(f"{reference}:v1")


def test_certificates_that_are_missing(monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/certificates.pem")
    with pytest.raises(RegistryError, match=r"certificates\.pem") as caught:
        packs.pull("oci://registry.invalid/models/digits:v1")
    assert "REQUESTS_CA_BUNDLE" in caught.value.hint
