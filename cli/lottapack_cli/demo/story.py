"""The demo from beginning to end, in numbered steps."""

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

import lottapack
from lottapack.errors import OutputError
from lottapack.limits import size_text
from lottapack_cli.demo import sharing, training
from lottapack_cli.demo.data import load_digits
from lottapack_cli.demo.evidence import Evidence, gather, one_thread
from lottapack_cli.demo.rebuild import Rebuilt
from lottapack_cli.progress import Bar
from lottapack_cli.render import Output, duration, heading, table
from lottapack_cli.views.inspect import header

_REFERENCE = f"{sharing.REPO}@{sharing.TAG}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """All figures of a run, in bytes and seconds: ``before`` the model was deleted, and ``after`` it was rebuilt."""

    same: bool
    differing: tuple[str, ...]
    parameters: int
    trained: int
    values: int
    verified: bool
    training_seconds: float
    pull_seconds: float
    load_seconds: float
    before: dict[str, object]
    after: dict[str, object]
    pack: str
    pack_size: int
    pack_sha256: str
    reference: str
    revision: str
    full: str
    full_size: int
    ratio: float


def tell(output: Output, folder: Path | None) -> bool:
    """Run the demo, and return whether all was rebuilt bit for bit. Its files stay in ``folder``, if given."""
    # Deprecation warnings of torch or scikit-learn do not matter to the user of the demo.
    with warnings.catch_warnings(action="ignore"), _folder(folder) as work_folder:
        outcome = _run(output, work_folder)
    output.result(outcome, lambda: [f"\nThe files are in {folder}"] if folder else [], ok=outcome.same)
    return outcome.same


def _run(output: Output, work_folder: Path) -> Outcome:
    pack_path, full_path = work_folder / "digits.lotta.safetensors", work_folder / "digits-full.safetensors"

    output.show(heading("1  Train", f"random backbone of seed {training.SEED}, adapters of rank {training.RANK}"))
    learning, test = load_digits()
    model = training.build()
    begin = time.perf_counter()
    with Bar("training", show=output.human) as bar, one_thread():
        training.train(
            model,
            learning,
            lambda epoch, loss, accuracy: bar(
                epoch, training.EPOCHS, f"epoch {epoch}  loss {loss:.4f}  accuracy {accuracy:.1%}"
            ),
        )
    training_seconds = time.perf_counter() - begin
    before = gather(model, test)
    images = f"{len(learning.labels):,} images of handwritten digits, {training.EPOCHS} epochs"
    output.show(f"{images}: {duration(training_seconds)}", f"test accuracy {_accuracy(before)}")

    output.show(heading("2  Pack"))
    packed = lottapack.pack(model, pack_path)
    output.show(f"{pack_path.name}: {packed.size:,} bytes, sha256 {packed.sha256[:16]}...")

    output.show(heading("3  Inspect"))
    summary = lottapack.inspect(pack_path)
    output.show(header(summary))

    with sharing.opened() as shop:
        output.show(heading("4  Push", f"to a registry in this process, {shop.url}"))
        pushed = sharing.push(shop, pack_path)
        output.show(
            f"$ lottapack push {pack_path.name} {sharing.REPO} --tag {sharing.TAG}", f"commit {pushed['revision']}"
        )

        output.show(heading("5  Pull and rebuild", "the model is deleted; a new process knows only the address"))
        del model
        rebuilt = _rebuild(shop)
        after = rebuilt.evidence
        output.show(
            f"process {rebuilt.process} pulled {rebuilt.received:,} bytes in {duration(rebuilt.pull_seconds)},",
            f"then generated and loaded all weights in {duration(rebuilt.load_seconds)}",
        )

        output.show(heading("6  Compare"))
        differing = _differing(before, after)
        output.show(table(["", "before", "rebuilt", "same"], _rows(before, after)))

        output.show(heading("7  Verify", "the pack as received over the network"))
        checked = lottapack.verify(rebuilt.path)
        output.show(f"{sum(check.status == 'ok' for check in checked.checks)} of {len(checked.checks)} checks passed")
        if checked.sha256 != packed.sha256:
            differing = (*differing, "the pulled file")

    output.show(heading("8  Sizes", "both files as stored on disk"))
    full_size = lottapack.export(pack_path, full_path).stat().st_size
    ratio = full_size / packed.size
    sizes = [
        ["pack", f"{packed.size:,}", size_text(packed.size), "1"],
        ["full checkpoint, float32", f"{full_size:,}", size_text(full_size), f"{ratio:.1f}"],
    ]
    output.show(table(["file", ">bytes", ">size", ">ratio"], sizes))

    if differing or not checked.ok:
        output.show(heading("DIFFERENT", f"rebuilt differently: {', '.join(differing or ['see verify'])}"))
    else:
        output.show(
            heading(
                "SAME",
                f"all {after.values:,} values bit for bit, from a file {ratio:.1f} times smaller than the checkpoint",
            )
        )
    return Outcome(
        same=checked.ok and not differing,
        differing=differing,
        parameters=summary.numel,
        trained=summary.trained,
        values=after.values,
        verified=checked.ok,
        training_seconds=training_seconds,
        pull_seconds=rebuilt.pull_seconds,
        load_seconds=rebuilt.load_seconds,
        before=msgspec.to_builtins(before),
        after=msgspec.to_builtins(after),
        pack=pack_path.name,
        pack_size=packed.size,
        pack_sha256=packed.sha256,
        reference=_REFERENCE,
        revision=rebuilt.revision,
        full=full_path.name,
        full_size=full_size,
        ratio=ratio,
    )


@contextmanager
def _folder(wanted: Path | None) -> Iterator[Path]:
    """Yield the folder to work in: ``wanted``, created if missing, or a temporary one."""
    if wanted is None:
        with TemporaryDirectory(prefix="lottapack-demo-") as name:
            yield Path(name)
        return
    try:
        wanted.mkdir(exist_ok=True)
    except OSError as fault:
        hint = "Name a new folder in an existing one."
        raise OutputError(f"cannot make the folder {wanted}: {fault.strerror or fault}", hint=hint) from fault
    yield wanted


def _rebuild(shop: sharing.Shop) -> Rebuilt:
    """Pull and load the pack in a new process."""
    return msgspec.json.decode(sharing.run(shop, "lottapack_cli.demo.rebuild", _REFERENCE), type=Rebuilt)


def _differing(before: Evidence, after: Evidence) -> tuple[str, ...]:
    """Return what differs: names of tensors, and the results on the test images."""
    names = sorted(before.weights.keys() | after.weights.keys())
    found = [name for name in names if before.weights.get(name) != after.weights.get(name)]
    if (before.correct, before.total) != (after.correct, after.total):
        found.append("test accuracy")
    return (*found, *(["logits"] if before.logits != after.logits else []))


def _rows(before: Evidence, after: Evidence) -> list[list[str]]:
    equal = sum(after.weights.get(name) == digest for name, digest in before.weights.items())

    def row(what: str, one: str, other: str, same: bool) -> list[str]:
        return [what, one, other, "yes" if same else "NO"]

    return [
        row("values of weights and adapters", f"{before.values:,}", f"{after.values:,}", before.values == after.values),
        row(
            "tensors with the same SHA-256",
            f"{len(before.weights)}",
            f"{equal}",
            before.weights == after.weights,
        ),
        row("test accuracy", _fraction(before), _fraction(after), _fraction(before) == _fraction(after)),
        row("logits, SHA-256", f"{before.logits[:12]}...", f"{after.logits[:12]}...", before.logits == after.logits),
    ]


def _fraction(evidence: Evidence) -> str:
    return f"{evidence.correct} / {evidence.total}"


def _accuracy(evidence: Evidence) -> str:
    return f"{evidence.correct / evidence.total:.2%} ({evidence.correct} of {evidence.total} images)"
