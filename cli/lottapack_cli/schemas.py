"""What ``--json`` prints, field by field: the one place. The documentation's page is made of it, and the tests hold it.

A number that is not finite is one of the texts ``"NaN"``, ``"Infinity"`` and ``"-Infinity"``, as JSON has no number for
it. Paths are texts. A field is there always; what does not apply is ``null`` or empty.
"""

from typing import Any

from lottapack_cli.render import NOT_FINITE

Schema = dict[str, Any]


def _text(meaning: str, *choices: str) -> Schema:
    return {"type": "string", "description": meaning, **({"enum": list(choices)} if choices else {})}


def _whole(meaning: str) -> Schema:
    return {"type": "integer", "description": meaning}


def _number(meaning: str) -> Schema:
    return {"anyOf": [{"type": "number"}, {"enum": list(NOT_FINITE.values())}], "description": meaning}


def _flag(meaning: str) -> Schema:
    return {"type": "boolean", "description": meaning}


def _any(meaning: str) -> Schema:
    return {"description": meaning}


def _or_null(schema: Schema) -> Schema:
    inner = {key: value for key, value in schema.items() if key != "description"}
    return {"anyOf": [inner, {"type": "null"}], "description": schema["description"]}


def _list(meaning: str, of: Schema | None = None) -> Schema:
    return {"type": "array", "description": meaning, "items": of or {"type": "string"}}


def _by_name(meaning: str, of: Schema | None = None) -> Schema:
    return {"type": "object", "description": meaning, "additionalProperties": of or {"type": "string"}}


def _record(meaning: str, **fields: Schema) -> Schema:
    return {
        "type": "object",
        "description": meaning,
        "properties": fields,
        "required": list(fields),
        "additionalProperties": False,
    }


OK = _flag("Whether the command did what was asked, and what it checks is in order.")
WARNINGS = _list("Warnings, which without --json stand on standard error.")
_PATH, _SIZE, _SHA256 = _text("The file."), _whole("Its bytes."), _text("SHA-256 of the file, 64 hex digits.")
_COUNT = {"type": "integer"}

_ERROR = _record(
    "What failed.",
    kind=_text("The error's class in lottapack.errors; UsageError for a wrong command line, or Interrupted."),
    message=_text("What failed, and where."),
    hint=_text("The next step, or empty."),
    problems=_list(
        "Everything wrong with a pack; empty for other errors.",
        _record(
            "One thing wrong.",
            kind=_text("The word of spec/v1/refusals.md."),
            where=_text("The place in the file."),
            message=_text("The fault in words."),
        ),
    ),
)

_PACKED = {
    "path": _text("The pack."),
    "size": _SIZE,
    "sha256": _SHA256,
    "stored_instead": _by_name("Generated parameters that had to be stored: their bytes by name.", _COUNT),
    "kept": _list(
        "Tensors that are in another form than they were.",
        _record(
            "One tensor.",
            name=_text("The tensor."),
            group=_text("Its group, such as embeddings."),
            form=_text("The id of its coding, or its new dtype."),
            size_before=_whole("Bytes before."),
            size=_whole("Bytes in the pack."),
            worst=_number("The largest error of an element, as a part of the tensor's root mean square."),
            mean=_number("The mean error, as a part of the same."),
            rms=_number("The root mean square error, as a part of the same."),
            numel=_whole("Elements."),
        ),
    ),
    "left_out": _list("What of the checkpoint is not in the pack, because --ignore or --key said so."),
    "files": _by_name("Files that the pack carries beside the model: their bytes by name.", _COUNT),
    "files_left": _list("Files beside the checkpoint that are not in the pack."),
    "checked": _or_null(
        _record(
            "What --check found.",
            unmerged=_number("The largest difference of an output."),
            merged=_number("The same with adapters merged."),
            largest=_number("The largest output of the trained model."),
            exact=_flag("Whether the pack keeps every trained tensor as it was."),
        )
    ),
    "costs": _list(
        "What each form would cost, where --max-size or --max-error is given.",
        _record(
            "One form for a group.",
            group=_text("The group."),
            form=_text("The coding."),
            bits=_number("Bits of an element."),
            size=_whole("Bytes of the whole group."),
            rms=_number("The error, as a part of the root mean square."),
        ),
    ),
    "layers": _list(
        "What was found in each weight, with --from-merged or --rng torch-cpu.",
        _record(
            "One weight.",
            name=_text("The weight."),
            role=_text("What became of it.", "seeded", "adapted", "stored"),
            rank=_or_null(_whole("The rank of its adapter.")),
            beta=_or_null(_number("Its beta.")),
            error=_or_null(_number("The relative error, in Frobenius norms.")),
            size=_whole("Bytes of a stored weight."),
        ),
    ),
}

_CHECKS = {
    "path": _PATH,
    "sha256": _SHA256,
    "checks": _list(
        "Each check.",
        _record(
            "One check.",
            what=_text(
                "What was checked.",
                *("format", "signature", "sha256", "bool", "coding", "fingerprint", "architecture"),
            ),
            where=_text("The tensor or parameter."),
            status=_text("The outcome.", "ok", "failed", "skipped"),
            detail=_text("More, or empty."),
        ),
    ),
}

_FILE = _record("One file.", name=_text("Its name."), size=_SIZE)

_INSPECTED = {
    "path": _PATH,
    "file_size": _SIZE,
    "format_version": _text("The version of the format."),
    "family": _text("The architecture family: torch.nn, transformers, timm or python."),
    "architecture": _text("The model's class."),
    "config": _by_name("Its configuration.", _any("Whatever the class takes.")),
    "rng": _text("The generator."),
    "seed": _text("The seed, 16 hex digits."),
    "tables": _by_name("Tables that the pack carries: their bits by name.", _COUNT),
    "numel": _whole("Elements of the model, ties once."),
    "trained": _whole("How many numbers were trained."),
    "parameters": _list(
        "Each parameter. What its role does not have is null.",
        _record(
            "One parameter.",
            name=_text("Its name."),
            role=_text("How the pack has it.", "adapted", "seeded", "stored", "constant", "tied"),
            shape=_or_null(_list("Its shape.", _COUNT)),
            dtype=_or_null(_text("Its dtype.")),
            distribution=_or_null(_text("The table that it is drawn from.")),
            scale=_or_null(_number("What the table's values are multiplied by.")),
            rank=_or_null(_whole("The rank of its adapter.")),
            alpha=_or_null(_number("The adapter's alpha.")),
            scaling=_or_null(_text("How the adapter is scaled.")),
            beta=_or_null(_number("The factor of the backbone; 1 where it is fixed.")),
            beta_learned=_or_null(_flag("Whether beta was learned.")),
            magnitude=_or_null(_flag("Whether it has a magnitude, as in DoRA.")),
            group=_or_null(_text("What a stored tensor is for.")),
            coding=_or_null(_text("Its coding.")),
            trained=_or_null(_flag("Whether it was trained.")),
            to=_or_null(_text("The parameter that it is tied to.")),
        ),
    ),
    "provenance": _by_name("Tools that wrote the pack: their versions by name."),
    "torch": _or_null(_text("The torch that drew the weights, for torch-cpu.")),
    "capability": _or_null(_text("The processor's capability that it used.")),
    "scaffolds": _by_name("More scaffolds: their seeds by name."),
    "allow": _list("Packages that a loader must allow by name."),
    "files": _by_name("Files beside the model: their bytes by name.", _COUNT),
}

_REPORTED = {
    "path": _PATH,
    "size": _SIZE,
    "numel": _whole("Elements of the model, ties once."),
    "bits_per_weight": _number("Bits in the file for each of them."),
    "forms": _list(
        "The pack, and the full checkpoint in other forms.",
        _record(
            "One form.",
            label=_text("Its name."),
            size=_SIZE,
            ratio=_number("How many times the pack's size."),
            seconds=_by_name("Seconds to download it: by the link's Mbit/s.", {"type": "number"}),
        ),
    ),
    "by_role": _by_name("The pack's bytes by how they are kept.", _COUNT),
    "by_group": _by_name("The pack's bytes by what they are for.", _COUNT),
    "bits_by_group": _by_name("Bits in the file for each number of a group.", {"type": "number"}),
    "saved": _by_name("Bytes that each step saves beside the full model; negative where it costs.", _COUNT),
    "memory": _by_name("Bytes in memory once loaded, by the backbone that load() is told.", _COUNT),
    "plot": _or_null(_text("The picture that was drawn.")),
}

_TABLED = {
    "rows": _list(
        "A row for each pack.",
        _record(
            "One pack beside the paper's figures, which are null for a model that is not one of the paper's.",
            scale=_or_null(_text("The paper's name of the model.")),
            form=_text("How it is packed."),
            size=_SIZE,
            mib=_number("Its size in MiB."),
            numel=_whole("Elements of the model."),
            bits_per_weight=_number("Bits for each of them."),
            paper_fp16=_or_null(_whole("The paper's size in fp16, MiB.")),
            paper_4bit=_or_null(_whole("The paper's size in 4 bits, MiB.")),
            paper_lottalora=_or_null(_whole("The paper's size of the LottaLoRA, MiB.")),
            of_paper=_or_null(_number("mib over paper_lottalora.")),
            of_fp16=_or_null(_number("size over that of the fp16 pack.")),
            path=_or_null(_text("The pack.")),
        ),
    )
}

_EVIDENCE = _record(
    "The model as one process saw it.",
    weights=_by_name("SHA-256 of each tensor's bits, by name."),
    values=_whole("Numbers in them."),
    correct=_whole("Test images that were classified rightly."),
    total=_whole("Test images."),
    logits=_text("SHA-256 of the logits."),
)

_TOKEN = {
    "name": _text("Whose it is."),
    "rights": _text("What it may.", "read", "write"),
}

_COPIED = {
    "target": _text("The folder of the copy."),
    "repositories": _whole("Repositories in it."),
    "blobs": _whole("Files in it, each hashed."),
    "size": _whole("Their bytes."),
    "new": _whole("How many of them this run copied."),
}

COMMANDS: dict[str, tuple[dict[str, Schema], ...]] = {
    "pack": (_PACKED,),
    "inspect": (_INSPECTED,),
    "verify": (
        _CHECKS,
        {
            "packs": _list(
                "With several packs: each of them.",
                {
                    "anyOf": [
                        _record(
                            "One pack.",
                            ok=OK,
                            pack=_text("As it was named."),
                            exit_code=_whole("What verify of it alone exits with."),
                            **found,
                        )
                        for found in (_CHECKS, {"error": _ERROR})
                    ]
                },
            )
        },
    ),
    "sign": ({"path": _text("The pack."), "signature": _text("The signature.")},),
    "export": ({"path": _text("The file, or the folder's main file."), "size": _whole("Bytes of all weights.")},),
    "report": (_REPORTED, _TABLED),
    "run": (
        {
            "path": _text("The pack."),
            "backbone": _text("How it was loaded: materialised, virtual or blocks."),
            "load_seconds": _number("Seconds to load it."),
            "seconds": _number("Seconds to run it."),
            "peak_bytes": _whole("The largest resident size of the process, or 0 where unknown."),
            "tokens": _list("Ids of the new tokens.", _COUNT),
            "tokens_per_s": _number("Tokens a second, the prompt's pass included."),
            "text": _text("The new tokens as text, where there is a tokenizer."),
            "outputs": _or_null(_by_name("Shapes of the outputs by name.", _list("A shape.", _COUNT))),
            "output": _or_null(_text("The file that they were written to.")),
            "prompt": _text("The text or the token ids that it went on from."),
            "values": _or_null(_by_name("Outputs of at most 64 numbers by name.", _any("Nested lists, or a number."))),
        },
    ),
    "push": (
        {
            "reference": _text("Where it is now."),
            "revision": _or_null(_text("The commit, or the manifest's digest; null where a dry run cannot know it.")),
            "sha256": _SHA256,
            "size": _SIZE,
            "sent": _list("Files that the registry did not have.", _FILE),
            "already": _list("Files that it had.", _FILE),
            "created": _flag("Whether the repository is new."),
            "dry_run": _flag("Whether nothing was changed."),
            "url": _text("Where to look at it."),
            "removed": _list("A signature that was there, and is not of this pack."),
        },
    ),
    "pull": (
        {
            "path": _text("The pack: in the cache, or where --output says."),
            "reference": _text("What was asked for."),
            "revision": _text("The commit or digest that it stood for."),
            "sha256": _SHA256,
            "size": _SIZE,
            "received": _whole("Bytes that came over the network now; 0 from the cache."),
            "exported": _or_null(_text("What --export wrote.")),
        },
    ),
    "list": (
        {
            "owner": _text("Whose packs."),
            "packs": _list(
                "Each repository with a pack.",
                _record(
                    "One repository.",
                    reference=_text("What to pull."),
                    modified=_or_null(_text("When it changed, ISO 8601, where the registry says.")),
                    private=_or_null(_flag("Whether it is private, where the registry says.")),
                ),
            ),
        },
    ),
    "log": (
        {
            "reference": _text("The repository."),
            "entries": _list(
                "Commits, newest first, or tagged images.",
                _record(
                    "One of them.",
                    revision=_text("The commit or digest."),
                    names=_list("Tags and branches that stand for it."),
                    when=_or_null(_text("ISO 8601, where the registry says.")),
                    title=_text("The commit's title, or the pack's name."),
                    authors=_list("Who made it."),
                ),
            ),
        },
    ),
    "bench": (
        {
            "device": _text("Where."),
            "machine": _text("Processor or GPU, threads, versions."),
            "elements": _whole("Weights that each case writes."),
            "rounds": _whole("Rounds, of which the median counts."),
            "speeds": _list(
                "Each case.",
                _record(
                    "One case.",
                    case=_text("A distribution, or what it is compared with."),
                    dtype=_text("The weights' dtype."),
                    weights_per_s=_number("Weights a second."),
                    of_fill=_number("How many times as fast as a fill of the memory."),
                    of_randn=_number("How many times as fast as torch.randn."),
                    of_clone=_number("How many times as fast as a clone of a checkpoint."),
                    of_download=_number("How many times as fast as a download at 1 Gbit/s."),
                ),
            ),
        },
        {
            "device": _text("Where."),
            "machine": _text("Processor or GPU, threads, versions."),
            "shape": _list("Of the weights.", _COUNT),
            "rounds": _whole("Rounds, of which the median counts."),
            "products": _list(
                "Each case, with --virtual.",
                _record(
                    "One case.",
                    case=_text("How the weights are had."),
                    inputs=_whole("Vectors that are multiplied."),
                    weights_per_s=_number("Weights a second."),
                    of_float32=_number("How many times as fast as with float32 weights in memory."),
                    of_bfloat16=_number("How many times as fast as with bfloat16 weights in memory."),
                    weight_bytes=_whole("Memory for weights."),
                ),
            ),
        },
    ),
    "demo": (
        {
            "same": _flag("Whether all was rebuilt bit for bit."),
            "differing": _list("What was not."),
            "parameters": _whole("Parameters of the model."),
            "trained": _whole("How many numbers were trained."),
            "values": _whole("Numbers that were compared."),
            "verified": _flag("Whether verify passed."),
            "training_seconds": _number("Seconds to train."),
            "pull_seconds": _number("Seconds to pull."),
            "load_seconds": _number("Seconds to load."),
            "before": _EVIDENCE,
            "after": _EVIDENCE,
            "pack": _text("The pack's name."),
            "pack_size": _SIZE,
            "pack_sha256": _SHA256,
            "reference": _text("Where it was pushed."),
            "revision": _text("The commit."),
            "full": _text("The full checkpoint's name."),
            "full_size": _SIZE,
            "ratio": _number("full_size over pack_size."),
        },
    ),
    "serve": (
        {
            "url": _text("Its address, for HF_ENDPOINT; the object is printed once it answers."),
            "root": _text("The registry's folder."),
            "anonymous_read": _flag("Whether reading public repositories needs no token."),
            "tokens": _whole("How many tokens there are."),
        },
    ),
    "serve check": (
        {
            "root": _text("The registry's folder."),
            "blobs": _whole("Files that were hashed."),
            "size": _whole("Their bytes."),
            "damaged": _list(
                "Those that are not what they should be.",
                _record(
                    "One file.",
                    sha256=_text("Its hash."),
                    size=_SIZE,
                    fault=_text("What is wrong.", "missing", "changed"),
                    files=_list("All its uses, as owner/name: path."),
                ),
            ),
        },
    ),
    "serve backup": (_COPIED,),
    "serve restore": (_COPIED,),
    "serve token add": ({**_TOKEN, "token": _text("The token: it is shown this once.")},),
    "serve token list": (
        {"tokens": _list("Each token.", _record("One token.", **_TOKEN, created=_text("When, ISO 8601 in UTC.")))},
    ),
    "serve token remove": ({"name": _text("Whose it was."), "removed": _flag("True.")},),
}
"""The fields of each command beside ``ok`` and ``warnings``; of several, one set for each way to call it."""

REFUSAL = _record("A command that was refused.", ok=_flag("False."), error=_ERROR, warnings=WARNINGS)


def schema_of(command: str) -> Schema:
    """The JSON schema of a command's object."""
    made = [_record(f"lottapack {command}", ok=OK, **fields, warnings=WARNINGS) for fields in COMMANDS[command]]
    return {"anyOf": [*made, REFUSAL]}


def document() -> Schema:
    """One JSON schema document with all commands among its ``$defs``."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What the commands of lottapack print with --json",
        "$defs": {command.replace(" ", "-"): schema_of(command) for command in COMMANDS},
    }
