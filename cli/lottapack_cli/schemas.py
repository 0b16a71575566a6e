"""The fields that ``--json`` prints. The documentation's page is generated from this module, and tests compare it.

A number that is not finite is one of the texts ``"NaN"``, ``"Infinity"`` and ``"-Infinity"``, since JSON does not
support it. Paths are texts. Every field is always present; one that does not apply is ``null`` or empty.
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


OK = _flag("Whether the command succeeded and all its checks passed.")
WARNINGS = _list("Warnings, which are printed on standard error without --json.")
_PATH, _SIZE, _SHA256 = _text("The file."), _whole("Its size in bytes."), _text("SHA-256 of the file, 64 hex digits.")
_COUNT = {"type": "integer"}

_ERROR = _record(
    "What failed.",
    kind=_text("The error's class in lottapack.errors; UsageError for a wrong command line, or Interrupted."),
    message=_text("What failed, and where."),
    hint=_text("The next step, or empty."),
    problems=_list(
        "Everything wrong with a pack; empty for other errors.",
        _record(
            "One fault.",
            kind=_text("The kind of fault, from spec/v1/refusals.md."),
            where=_text("The place in the file."),
            message=_text("The fault as text."),
        ),
    ),
)

_PACKED = {
    "path": _text("The pack."),
    "size": _SIZE,
    "sha256": _SHA256,
    "stored_instead": _by_name("Bytes of generated parameters that had to be stored, by name.", _COUNT),
    "kept": _list(
        "Tensors that are stored in another form than in the checkpoint.",
        _record(
            "One tensor.",
            name=_text("The tensor."),
            group=_text("Its group, such as embeddings."),
            form=_text("The id of its coding, or its new dtype."),
            size_before=_whole("Bytes before."),
            size=_whole("Bytes in the pack."),
            worst=_number("The largest error of an element, relative to the tensor's root mean square."),
            mean=_number("The mean error, relative to the same."),
            rms=_number("The root mean square error, relative to the same."),
            numel=_whole("Number of elements."),
        ),
    ),
    "left_out": _list("Tensors of the checkpoint that are not in the pack because of --ignore or --key."),
    "files": _by_name("Bytes of the files that the pack contains besides the model, by name.", _COUNT),
    "files_left": _list("Files next to the checkpoint that are not in the pack."),
    "checked": _or_null(
        _record(
            "What --check found.",
            unmerged=_number("The largest difference of an output."),
            merged=_number("The same with adapters merged."),
            largest=_number("The largest output of the trained model."),
            exact=_flag("Whether the pack stores every trained tensor without change."),
        )
    ),
    "costs": _list(
        "The size and error of each form, with --max-size or --max-error.",
        _record(
            "One form of a group.",
            group=_text("The group."),
            form=_text("The coding."),
            bits=_number("Bits per element."),
            size=_whole("Size of the whole group in bytes."),
            rms=_number("The error, relative to the root mean square."),
        ),
    ),
    "layers": _list(
        "What was found in each weight, with --from-merged or --rng torch-cpu.",
        _record(
            "One weight.",
            name=_text("The weight."),
            role=_text("How it is stored.", "seeded", "adapted", "stored"),
            rank=_or_null(_whole("The rank of its adapter.")),
            beta=_or_null(_number("Its beta.")),
            error=_or_null(_number("The relative error, in Frobenius norms.")),
            size=_whole("Size of a stored weight in bytes."),
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
            detail=_text("Details, or empty."),
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
    "config": _by_name("Its configuration.", _any("Any value that the class accepts.")),
    "rng": _text("The generator of random numbers."),
    "seed": _text("The seed, 16 hex digits."),
    "tables": _by_name("Bits of the tables that the pack contains, by name.", _COUNT),
    "numel": _whole("Number of elements of the model; tied ones count once."),
    "trained": _whole("Number of trained elements."),
    "parameters": _list(
        "Each parameter. Fields that do not apply to its role are null.",
        _record(
            "One parameter.",
            name=_text("Its name."),
            role=_text("How the pack stores it.", "adapted", "seeded", "stored", "constant", "tied"),
            shape=_or_null(_list("Its shape.", _COUNT)),
            dtype=_or_null(_text("Its dtype.")),
            distribution=_or_null(_text("The table that its values come from.")),
            scale=_or_null(_number("The factor of the table's values.")),
            rank=_or_null(_whole("The rank of its adapter.")),
            alpha=_or_null(_number("The adapter's alpha.")),
            scaling=_or_null(_text("How the adapter is scaled.")),
            beta=_or_null(_number("The factor of the backbone; 1 if it is fixed.")),
            beta_learned=_or_null(_flag("Whether beta was learned.")),
            magnitude=_or_null(_flag("Whether it has a magnitude, as in DoRA.")),
            vectors=_or_null(_list("Other vectors that its adapter learns, such as lambda_b and lambda_d (VeRA).")),
            group=_or_null(_text("The group of a stored tensor, such as norms.")),
            coding=_or_null(_text("Its coding.")),
            trained=_or_null(_flag("Whether it was trained.")),
            to=_or_null(_text("The parameter that it is tied to.")),
        ),
    ),
    "provenance": _by_name("Versions of the tools that wrote the pack, by name."),
    "torch": _or_null(_text("The version of torch that generated the weights, for torch-cpu.")),
    "capability": _or_null(_text("The processor capability that torch used.")),
    "scaffolds": _by_name("Seeds of further scaffolds, by name."),
    "allow": _list("Packages that the pack needs to import, which a loader must allow by name."),
    "files": _by_name("Bytes of the files besides the model, by name.", _COUNT),
    "results": _list(
        "The scores that the pack carries.",
        _record(
            "One score.",
            task=_text("The task, in the Hub's words."),
            dataset=_text("The data set."),
            metric=_text("The metric."),
            score=_number("Its value."),
            split=_or_null(_text("The part of the data set.")),
            deviation=_or_null(_number("The standard deviation over seeds.")),
            seeds=_or_null(_whole("How many seeds.")),
            rank=_or_null(_whole("The rank of the adapters.")),
            full=_or_null(_number("The score of full training.")),
            chance=_or_null(_number("The score of a guess.")),
        ),
    ),
    "plot": _or_null(_text("The picture of --plot.")),
}

_REPORTED = {
    "path": _PATH,
    "size": _SIZE,
    "numel": _whole("Number of elements of the model; tied ones count once."),
    "bits_per_weight": _number("Bits in the file per element."),
    "forms": _list(
        "The pack, and the full checkpoint in other forms.",
        _record(
            "One form.",
            label=_text("Its name."),
            size=_SIZE,
            ratio=_number("Its size divided by the pack's size."),
            seconds=_by_name("Seconds to download it, by the speed of the link in Mbit/s.", {"type": "number"}),
        ),
    ),
    "by_role": _by_name("The pack's bytes, by how parameters are stored.", _COUNT),
    "by_group": _by_name("The pack's bytes, by group of parameters.", _COUNT),
    "bits_by_group": _by_name("Bits in the file per element of a group.", {"type": "number"}),
    "saved": _by_name("Bytes that each step saves compared with the full model; negative if it adds bytes.", _COUNT),
    "memory": _by_name("Bytes in memory after loading, by the `backbone` argument of load().", _COUNT),
    "plot": _or_null(_text("The image file that was written.")),
}

_TABLED = {
    "rows": _list(
        "A row for each pack.",
        _record(
            "One pack and the paper's figures, which are null for a model that is not in the paper.",
            scale=_or_null(_text("The paper's name of the model.")),
            form=_text("How it is packed."),
            size=_SIZE,
            mib=_number("Its size in MiB."),
            numel=_whole("Number of elements of the model."),
            bits_per_weight=_number("Bits per element."),
            paper_fp16=_or_null(_whole("The paper's size in fp16, in MiB.")),
            paper_4bit=_or_null(_whole("The paper's size in 4 bits, in MiB.")),
            paper_lottalora=_or_null(_whole("The paper's size of the LottaLoRA, in MiB.")),
            of_paper=_or_null(_number("mib divided by paper_lottalora.")),
            of_fp16=_or_null(_number("size divided by that of the fp16 pack.")),
            path=_or_null(_text("The pack.")),
        ),
    )
}

_EVIDENCE = _record(
    "The model as computed by one process.",
    weights=_by_name("SHA-256 of each tensor's bits, by name."),
    values=_whole("Number of elements in them."),
    correct=_whole("Number of test images that were classified correctly."),
    total=_whole("Number of test images."),
    logits=_text("SHA-256 of the logits."),
)

_TOKEN = {
    "name": _text("The owner of the token."),
    "rights": _text("What the token permits.", "read", "write"),
}

_COPIED = {
    "target": _text("The folder of the copy."),
    "repositories": _whole("Number of repositories in it."),
    "blobs": _whole("Number of files in it, each hashed."),
    "size": _whole("Their size in bytes."),
    "new": _whole("Number of files that this run copied."),
}

_POINT = _record(
    "The runs of one rank, or of full training.",
    rank=_or_null(_whole("The rank, or null for full training.")),
    scores=_list("The score of each seed, from seed 0.", {"type": "number"}),
    mean=_number("Their mean."),
    deviation=_or_null(_number("Their standard deviation, or null for one seed.")),
    trained=_whole("Elements that train."),
    total=_whole("Elements of the plain model."),
    seconds=_number("The median time of a run."),
)

COMMANDS: dict[str, tuple[dict[str, Schema], ...]] = {
    "pack": (_PACKED,),
    "inspect": (_INSPECTED,),
    "verify": (
        _CHECKS,
        {
            "packs": _list(
                "Each pack, if several are given.",
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
    "study": (
        {
            "rank": _or_null(_whole("The smallest rank within the tolerance, or null if none is.")),
            "tolerance": _number("How far a rank may stay behind full training."),
            "target": _number("The score that a rank must reach."),
            "seeds": _whole("How many seeds decided."),
            "maximise": _flag("Whether a larger score is better."),
            "full": _POINT,
            "curve": _list("Random backbones by rank.", _POINT),
            "lora": _list("Plain LoRA by rank, with --pretrained.", _POINT),
            "plot": _or_null(_text("The picture of --plot.")),
        },
    ),
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
            "reference": _text("The reference of the pushed pack."),
            "revision": _or_null(_text("The commit, or the manifest's digest; null if a dry run cannot know it.")),
            "sha256": _SHA256,
            "size": _SIZE,
            "sent": _list("Files that were sent, since the registry did not have them.", _FILE),
            "already": _list("Files that the registry already had.", _FILE),
            "created": _flag("Whether the repository is new."),
            "dry_run": _flag("Whether nothing was changed."),
            "url": _text("The address of its page."),
            "removed": _list("A signature in the registry that belongs to another pack, and was removed."),
            "modelpack": _or_null(_text("The reference of the ModelPack manifest, if it was asked for.")),
        },
    ),
    "pull": (
        {
            "path": _text("The pack, in the cache or at --output."),
            "reference": _text("The requested reference."),
            "revision": _text("The commit or digest that it points to."),
            "sha256": _SHA256,
            "size": _SIZE,
            "received": _whole("Bytes received over the network by this call; 0 if the pack was in the cache."),
            "exported": _or_null(_text("The file or folder that --export wrote.")),
        },
    ),
    "list": (
        {
            "owner": _text("The owner of the packs."),
            "packs": _list(
                "Each repository with a pack.",
                _record(
                    "One repository.",
                    reference=_text("The reference to pull."),
                    modified=_or_null(_text("When it changed, in ISO 8601, if the registry reports it.")),
                    private=_or_null(_flag("Whether it is private, if the registry reports it.")),
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
                    "One commit or image.",
                    revision=_text("The commit or digest."),
                    names=_list("Tags and branches that point to it."),
                    when=_or_null(_text("When it was made, in ISO 8601, if the registry reports it.")),
                    title=_text("The commit's title, or the pack's name."),
                    authors=_list("Its authors."),
                ),
            ),
        },
    ),
    "bench": (
        {
            "device": _text("The device."),
            "machine": _text("Processor or GPU, threads and versions."),
            "elements": _whole("Weights that each case generates."),
            "rounds": _whole("Rounds; the result is their median."),
            "speeds": _list(
                "Each case.",
                _record(
                    "One case.",
                    case=_text("A distribution, or the case to compare it with."),
                    dtype=_text("The weights' dtype."),
                    weights_per_s=_number("Weights per second."),
                    of_fill=_number("Its speed divided by that of filling memory."),
                    of_randn=_number("Its speed divided by that of torch.randn."),
                    of_clone=_number("Its speed divided by that of cloning a checkpoint."),
                    of_download=_number("Its speed divided by that of a download at 1 Gbit/s."),
                ),
            ),
        },
        {
            "device": _text("The device."),
            "machine": _text("Processor or GPU, threads and versions."),
            "shape": _list("The shape of the weights.", _COUNT),
            "rounds": _whole("Rounds; the result is their median."),
            "products": _list(
                "Each case, with --virtual.",
                _record(
                    "One case.",
                    case=_text("How the weights are stored or generated."),
                    inputs=_whole("Number of input vectors."),
                    weights_per_s=_number("Weights per second."),
                    of_float32=_number("Its speed divided by that with float32 weights in memory."),
                    of_bfloat16=_number("Its speed divided by that with bfloat16 weights in memory."),
                    weight_bytes=_whole("Memory for weights, in bytes."),
                ),
            ),
        },
    ),
    "demo": (
        {
            "same": _flag("Whether everything was rebuilt bit for bit."),
            "differing": _list("What was not rebuilt bit for bit."),
            "parameters": _whole("Number of parameters of the model."),
            "trained": _whole("Number of trained elements."),
            "values": _whole("Number of elements that were compared."),
            "verified": _flag("Whether verify passed."),
            "training_seconds": _number("Seconds for training."),
            "pull_seconds": _number("Seconds for pulling."),
            "load_seconds": _number("Seconds for loading."),
            "before": _EVIDENCE,
            "after": _EVIDENCE,
            "pack": _text("The pack's file name."),
            "pack_size": _SIZE,
            "pack_sha256": _SHA256,
            "reference": _text("The reference that it was pushed to."),
            "revision": _text("The commit."),
            "full": _text("The full checkpoint's file name."),
            "full_size": _SIZE,
            "ratio": _number("full_size divided by pack_size."),
        },
    ),
    "serve": (
        {
            "url": _text("Its address, for HF_ENDPOINT. The object is printed when the server is ready."),
            "root": _text("The registry's folder."),
            "anonymous_read": _flag("Whether reading public repositories needs no token."),
            "tokens": _whole("Number of tokens."),
        },
    ),
    "serve check": (
        {
            "root": _text("The registry's folder."),
            "blobs": _whole("Number of files that were hashed."),
            "size": _whole("Their size in bytes."),
            "damaged": _list(
                "Files that are missing or changed.",
                _record(
                    "One file.",
                    sha256=_text("Its hash."),
                    size=_SIZE,
                    fault=_text("What is wrong.", "missing", "changed"),
                    files=_list("Where it is used, as owner/name: path."),
                ),
            ),
        },
    ),
    "serve backup": (_COPIED,),
    "serve restore": (_COPIED,),
    "serve token add": ({**_TOKEN, "token": _text("The token, which is shown only once.")},),
    "serve token list": (
        {
            "tokens": _list(
                "Each token.",
                _record("One token.", **_TOKEN, created=_text("When it was created, in ISO 8601 and UTC.")),
            )
        },
    ),
    "serve token remove": ({"name": _text("The owner of the token."), "removed": _flag("True.")},),
}
"""The fields of each command besides ``ok`` and ``warnings``; several sets if the command has several modes."""

REFUSAL = _record("A command that was refused.", ok=_flag("False."), error=_ERROR, warnings=WARNINGS)


def schema_of(command: str) -> Schema:
    """Return the JSON schema of a command's object."""
    made = [_record(f"lottapack {command}", ok=OK, **fields, warnings=WARNINGS) for fields in COMMANDS[command]]
    return {"anyOf": [*made, REFUSAL]}


def document() -> Schema:
    """Return one JSON schema document with all commands in its ``$defs``."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What the commands of lottapack print with --json",
        "$defs": {command.replace(" ", "-"): schema_of(command) for command in COMMANDS},
    }
