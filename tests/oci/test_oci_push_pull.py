"""Push and pull with an independent registry."""

import hashlib
import json
import shutil
import subprocess
import urllib.request
from pathlib import Path

import pytest
from oci_registries import needs

import lottapack
import lottapack as packs
from lottapack.errors import (
    IntegrityError,
    InvalidReferenceError,
    LottapackError,
    NetworkError,
    NotFoundError,
    UnsupportedError,
)
from lottapack_cli.app import main


def sha256(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def test_a_pack_comes_back_as_it_went(registry, repository, pack, cache):
    told = []
    sent = packs.push(pack, f"oci://{registry.host}/{repository}:v1", progress=lambda *step: told.append(step))
    assert (sent.sha256, sent.size, sent.created) == (sha256(pack), pack.stat().st_size, True)
    assert [(file.name, file.size) for file in sent.sent] == [(pack.name, sent.size)]
    assert told[-1] == (sent.size, sent.size)

    told.clear()
    got = packs.pull(f"oci://{registry.host}/{repository}:v1", progress=lambda *step: told.append(step))
    assert got.path.read_bytes() == pack.read_bytes()
    assert (got.sha256, got.size, got.received) == (sent.sha256, sent.size, sent.size)
    assert got.revision == sent.revision
    assert got.path.is_relative_to(cache)
    assert got.path.name == pack.name
    assert told[-1] == (sent.size, sent.size)
    assert lottapack.verify(got.path).ok
    assert sorted(path.name for path in got.path.parent.iterdir()) == [pack.name, "manifest.json"]


def test_the_manifest_in_the_registry_is_the_one_of_the_specification(registry, repository, pack):
    sent = packs.push(pack, f"oci://{registry.host}/{repository}:v1", license="MIT")
    request = urllib.request.Request(sent.url, headers={"Accept": "application/vnd.oci.image.manifest.v1+json"})
    with urllib.request.urlopen(request, timeout=300) as answer:
        raw = answer.read()
    assert f"sha256:{hashlib.sha256(raw).hexdigest()}" == sent.revision
    manifest = json.loads(raw)
    assert manifest["artifactType"] == "application/vnd.lottapack.pack.v1"
    assert manifest["layers"][0]["digest"] == f"sha256:{sent.sha256}"
    assert manifest["annotations"]["org.opencontainers.image.licenses"] == "MIT"


def test_the_same_pack_has_the_same_digest_wherever_it_is(registry, repository, pack, tmp_path):
    copy = shutil.copy(pack, tmp_path)
    here = packs.push(pack, f"oci://{registry.host}/{repository}/a:v1")
    there = packs.push(copy, f"oci://{registry.host}/{repository}/b:other")
    assert here.revision == there.revision


def test_a_second_push_sends_next_to_nothing(proxy, repository, big_pack):
    reference = f"oci://{proxy.host}/{repository}:v1"
    first = packs.push(big_pack, reference)
    assert proxy.up > first.size
    proxy.reset()
    again = packs.push(big_pack, reference)
    assert again.sent == ()
    assert [file.name for file in again.already] == [big_pack.name]
    assert (again.created, again.revision) == (False, first.revision)
    assert proxy.up < 2_000
    assert len(proxy.requests) == 3  # the tag, the pack and the config
    proxy.reset()
    other = packs.push(big_pack, f"oci://{proxy.host}/{repository}:v2")
    assert (other.sent, other.created) == ((), False)
    assert proxy.up < 10_000


def test_a_dry_run_says_what_it_would_do_and_changes_nothing(registry, repository, pack):
    reference = f"oci://{registry.host}/{repository}:v1"
    would = packs.push(pack, reference, dry_run=True)
    assert (would.dry_run, would.created, [file.name for file in would.sent]) == (True, True, [pack.name])
    assert registry.tags(repository) == []
    with pytest.raises(NotFoundError):
        packs.pull(reference)
    done = packs.push(pack, reference)
    assert (done.revision, done.sent) == (would.revision, would.sent)
    assert packs.push(pack, reference, dry_run=True).sent == ()


def test_a_second_pull_asks_once_and_a_digest_asks_nobody(proxy, repository, pack):
    reference = f"oci://{proxy.host}/{repository}:v1"
    revision = packs.push(pack, reference).revision
    first = packs.pull(reference)
    proxy.reset()
    again = packs.pull(reference)
    assert (again.path, again.received) == (first.path, 0)
    assert len(proxy.requests) == 1
    proxy.reset()
    exact = packs.pull(f"oci://{proxy.host}/{repository}@{revision}")
    assert (exact.path, exact.revision, exact.received) == (first.path, revision, 0)
    assert proxy.requests == []


def test_a_digest_can_be_pulled(registry, repository, pack):
    revision = packs.push(pack, f"oci://{registry.host}/{repository}:v1").revision
    got = packs.pull(f"oci://{registry.host}/{repository}@{revision}")
    assert (got.revision, got.received) == (revision, pack.stat().st_size)


def test_without_a_registry_a_digest_comes_from_the_cache_and_a_tag_is_not_guessed(own_registry, pack):
    reference = f"oci://{own_registry.host}/offline"
    revision = packs.push(pack, f"{reference}:v1").revision
    packs.push(pack, f"{reference}:v2")
    first = packs.pull(f"{reference}:v1")
    own_registry.stop()
    assert packs.pull(f"{reference}@{revision}").path == first.path
    with pytest.raises(NetworkError, match="refused") as caught:
        packs.pull(f"{reference}:v1")
    assert f"Pull {reference}@{revision}" in caught.value.hint
    with pytest.raises(NetworkError, match="refused") as caught:
        packs.pull(f"{reference}:v2")
    assert "pull oci" not in caught.value.hint.lower()


def test_a_tag_that_moved_is_followed(registry, repository, pack, big_pack):
    reference = f"oci://{registry.host}/{repository}:v1"
    packs.push(pack, reference)
    assert packs.pull(reference).path.name == pack.name
    packs.push(big_pack, reference)
    assert packs.pull(reference).path.name == big_pack.name


def test_without_a_tag_it_is_latest(registry, repository, pack):
    sent = packs.push(pack, f"oci://{registry.host}/{repository}")
    assert sent.reference == f"oci://{registry.host}/{repository}:latest"
    assert packs.pull(f"oci://{registry.host}/{repository}").revision == sent.revision
    assert registry.tags(repository) == ["latest"]


def test_the_tag_may_come_as_an_option(registry, repository, pack):
    assert packs.push(pack, f"oci://{registry.host}/{repository}", tag="v7").reference.endswith(":v7")
    packs.push(pack, f"oci://{registry.host}/{repository}:v7", tag="v7")
    for reference, tag in [
        (f"{repository}:v7", "v8"),
        (repository, "not/a tag"),
        (f"{repository}@sha256:{64 * '0'}", None),
    ]:
        with pytest.raises(InvalidReferenceError):
            packs.push(pack, f"oci://{registry.host}/{reference}", tag=tag)
    assert registry.tags(repository) == ["v7"]


@pytest.mark.parametrize(
    "option",
    [{"branch": "main"}, {"private": True}, {"message": "now"}, {"datasets": ["mnist"]}, {"metrics": ["accuracy"]}],
    ids=lambda option: next(iter(option)),
)
def test_what_only_the_hub_has_is_refused(registry, repository, pack, option):
    with pytest.raises(UnsupportedError, match="an OCI registry does not support"):
        packs.push(pack, f"oci://{registry.host}/{repository}:v1", **option)
    assert registry.tags(repository) == []


def test_a_signature_travels_along(proxy, repository, pack, tmp_path):
    signed = Path(shutil.copy(pack, tmp_path))
    signed.with_name(f"{signed.name}.sig").write_bytes(b"signed by someone")
    reference = f"oci://{proxy.host}/{repository}:v1"
    plain = packs.push(pack, reference)
    proxy.reset()
    sent = packs.push(signed, reference)
    assert [file.name for file in sent.sent] == [f"{pack.name}.sig"]
    assert [file.name for file in sent.already] == [pack.name]
    assert sent.revision != plain.revision
    assert proxy.up < 10_000
    got = packs.pull(reference)
    assert got.path.with_name(f"{pack.name}.sig").read_bytes() == b"signed by someone"


def test_a_broken_pack_is_not_sent(registry, repository, pack, tmp_path):
    broken = Path(shutil.copy(pack, tmp_path))
    data = bytearray(broken.read_bytes())
    data[-1] ^= 1
    broken.write_bytes(data)
    with pytest.raises(IntegrityError):
        packs.push(broken, f"oci://{registry.host}/{repository}:v1")
    assert registry.tags(repository) == []


def test_log_names_the_tags_that_are_packs(registry, repository, pack, big_pack, tmp_path):
    needs("skopeo")
    layout = tmp_path / "layout"
    write_other_image(layout)
    reference = f"oci://{registry.host}/{repository}"
    with pytest.raises(NotFoundError):
        packs.history(reference)
    first = packs.push(pack, f"{reference}:v1").revision
    packs.push(pack, f"{reference}:stable")
    second = packs.push(big_pack, f"{reference}:v2").revision
    skopeo("copy", f"oci:{layout}:other", f"docker://{registry.host}/{repository}:other")
    assert registry.tags(repository) == ["other", "stable", "v1", "v2"]
    found = {entry.revision: entry for entry in packs.history(reference)}
    assert {revision: entry.names for revision, entry in found.items()} == {first: ("stable", "v1"), second: ("v2",)}
    assert pack.name in found[first].title
    assert [entry.revision for entry in packs.history(f"{reference}:v2")] == [second]
    with pytest.raises(NotFoundError, match="is not a pack but"):
        packs.pull(f"{reference}:other")


def test_list_names_what_can_be_pulled(registry, repository, pack):
    for name in ("a", "b", "below/c"):
        packs.push(pack, f"oci://{registry.host}/{repository}/{name}:v1")
    here = f"oci://{registry.host}/{repository}"
    found = [listed.reference for listed in packs.list_packs(here)]
    assert found == [f"{here}/a:v1", f"{here}/b:v1", f"{here}/below/c:v1"]
    assert set(found) <= {listed.reference for listed in packs.list_packs(f"oci://{registry.host}")}
    for reference in found:
        packs.pull(reference)


def test_a_copy_between_repositories_keeps_the_digest_and_can_be_pulled(registry, repository, pack, cache):
    needs("skopeo")
    source, target = f"{registry.host}/{repository}/from", f"{registry.host}/{repository}/to"
    sent = packs.push(pack, f"oci://{source}:v1")
    skopeo("copy", f"docker://{source}:v1", f"docker://{target}:v1")
    got = packs.pull(f"oci://{target}:v1")
    assert got.revision == sent.revision
    assert got.path.read_bytes() == pack.read_bytes()


def test_the_oras_client_itself_pulls_the_same_file(registry, repository, pack, tmp_path):
    import oras.client

    packs.push(pack, f"oci://{registry.host}/{repository}:v1")
    client = oras.client.OrasClient(insecure=True)
    try:
        files = client.pull(f"{registry.host}/{repository}:v1", outdir=str(tmp_path / "out"))
    finally:
        client.session.close()
    assert [Path(file).name for file in files] == [pack.name]
    assert Path(files[0]).read_bytes() == pack.read_bytes()


def test_load_takes_a_reference(registry, repository, pack):
    reference = f"oci://{registry.host}/{repository}:v1"
    packs.push(pack, reference)
    ours, theirs = lottapack.load(reference), lottapack.load(pack)
    assert all((ours.state_dict()[name] == value).all() for name, value in theirs.state_dict().items())


def test_the_commands(registry, repository, pack, capsys):
    reference = f"oci://{registry.host}/{repository}:v1"
    assert main(["push", str(pack), reference, "--json"]) == 0
    revision = json.loads(capsys.readouterr().out)["revision"]
    assert main(["pull", reference, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["revision"] == revision
    assert Path(result["path"]).read_bytes() == pack.read_bytes()
    assert main(["pull", f"oci://{registry.host}/{repository}:none"]) == 3
    assert main(["log", f"oci://{registry.host}/{repository}"]) == 0
    assert main(["list", f"oci://{registry.host}/tests", "--json"]) == 0
    assert reference in capsys.readouterr().out


@pytest.mark.parametrize("what", ["tag", "repository", "digest"])
def test_what_is_not_there_is_named(registry, repository, pack, what):
    packs.push(pack, f"oci://{registry.host}/{repository}:v1")
    end = {"tag": f"{repository}:no", "repository": f"{repository}/no:v1", "digest": f"{repository}@sha256:{64 * '0'}"}
    with pytest.raises(NotFoundError) as caught:
        packs.pull(f"oci://{registry.host}/{end[what]}")
    assert end[what] in caught.value.message
    assert caught.value.hint


def test_a_pack_name_that_no_registry_takes(registry, repository, pack, tmp_path):
    hidden = Path(shutil.copy(pack, tmp_path / ".hidden.lotta.safetensors"))
    with pytest.raises(LottapackError, match="cannot be the name of a pack"):
        packs.push(hidden, f"oci://{registry.host}/{repository}:v1")


def skopeo(command, source, target):
    """Run skopeo, which knows nothing of packs."""
    tls = ["--src-tls-verify=false", "--dest-tls-verify=false"]
    done = subprocess.run(
        ["skopeo", "--insecure-policy", command, *tls, source, target], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


def write_other_image(folder):
    """Write an OCI layout with an image that is not a pack."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def put(data, kind):
        sha = hashlib.sha256(data).hexdigest()
        (blobs / sha).write_bytes(data)
        return {"mediaType": kind, "digest": f"sha256:{sha}", "size": len(data)}

    config = put(
        b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}',
        "application/vnd.oci.image.config.v1+json",
    )
    kind = "application/vnd.oci.image.manifest.v1+json"
    manifest = put(json.dumps({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": []}).encode(), kind)
    index = {
        "schemaVersion": 2,
        "manifests": [{**manifest, "annotations": {"org.opencontainers.image.ref.name": "other"}}],
    }
    (folder / "index.json").write_text(json.dumps(index))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
