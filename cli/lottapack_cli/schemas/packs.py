"""The fields of commands about one pack or some, in files."""

from lottapack_cli.schemas.kinds import (
    COUNT,
    ERROR,
    OK,
    PATH,
    SHA256,
    SIZE,
    Schema,
    anything,
    by_name,
    flag,
    items,
    number,
    or_null,
    record,
    text,
    whole,
)

_PACKED = {
    "path": text("The pack."),
    "size": SIZE,
    "sha256": SHA256,
    "stored_instead": by_name("Bytes of generated parameters that had to be stored, by name.", COUNT),
    "kept": items(
        "Tensors that are stored in another form than in the checkpoint.",
        record(
            "One tensor.",
            name=text("The tensor."),
            group=text("Its group, such as embeddings."),
            form=text("The id of its coding, or its new dtype."),
            size_before=whole("Bytes before."),
            size=whole("Bytes in the pack."),
            worst=number("The largest error of an element, relative to the tensor's root mean square."),
            mean=number("The mean error, relative to the same."),
            rms=number("The root mean square error, relative to the same."),
            numel=whole("Number of elements."),
        ),
    ),
    "left_out": items("Tensors of the checkpoint that are not in the pack because of --ignore or --key."),
    "files": by_name("Bytes of the files that the pack contains besides the model, by name.", COUNT),
    "files_left": items("Files next to the checkpoint that are not in the pack."),
    "checked": or_null(
        record(
            "What --check found.",
            unmerged=number("The largest difference of an output."),
            merged=number("The same with adapters merged."),
            largest=number("The largest output of the trained model."),
            exact=flag("Whether the pack stores every trained tensor without change."),
        )
    ),
    "costs": items(
        "The size and error of each form, with --max-size or --max-error.",
        record(
            "One form of a group.",
            group=text("The group."),
            form=text("The coding."),
            bits=number("Bits per element."),
            size=whole("Size of the whole group in bytes."),
            rms=number("The error, relative to the root mean square."),
        ),
    ),
    "layers": items(
        "What was found in each weight, with --from-merged or --rng torch-cpu.",
        record(
            "One weight.",
            name=text("The weight."),
            role=text("How it is stored.", "seeded", "adapted", "stored"),
            rank=or_null(whole("The rank of its adapter.")),
            beta=or_null(number("Its beta.")),
            error=or_null(number("The relative error, in Frobenius norms.")),
            size=whole("Size of a stored weight in bytes."),
        ),
    ),
}

_CHECKS = {
    "path": PATH,
    "sha256": SHA256,
    "checks": items(
        "Each check.",
        record(
            "One check.",
            what=text(
                "What was checked.",
                *("format", "signature", "sha256", "bool", "coding", "fingerprint", "architecture"),
            ),
            where=text("The tensor or parameter."),
            status=text("The outcome.", "ok", "failed", "skipped"),
            detail=text("Details, or empty."),
        ),
    ),
}

_INSPECTED = {
    "path": PATH,
    "file_size": SIZE,
    "format_version": text("The version of the format."),
    "family": text("The architecture family: torch.nn, transformers, timm or python."),
    "architecture": text("The model's class."),
    "config": by_name("Its configuration.", anything("Any value that the class accepts.")),
    "rng": text("The generator of random numbers."),
    "seed": text("The seed, 16 hex digits."),
    "tables": by_name("Bits of the tables that the pack contains, by name.", COUNT),
    "numel": whole("Number of elements of the model; tied ones count once."),
    "trained": whole("Number of trained elements."),
    "parameters": items(
        "Each parameter. Fields that do not apply to its role are null.",
        record(
            "One parameter.",
            name=text("Its name."),
            role=text("How the pack stores it.", "adapted", "seeded", "stored", "constant", "tied"),
            shape=or_null(items("Its shape.", COUNT)),
            dtype=or_null(text("Its dtype.")),
            distribution=or_null(text("The table that its values come from.")),
            scale=or_null(number("The factor of the table's values.")),
            rank=or_null(whole("The rank of its adapter.")),
            alpha=or_null(number("The adapter's alpha.")),
            scaling=or_null(text("How the adapter is scaled.")),
            beta=or_null(number("The factor of the backbone; 1 if it is fixed.")),
            beta_learned=or_null(flag("Whether beta was learned.")),
            magnitude=or_null(flag("Whether it has a magnitude, as in DoRA.")),
            vectors=or_null(items("Other vectors that its adapter learns, such as lambda_b and lambda_d (VeRA).")),
            group=or_null(text("The group of a stored tensor, such as norms.")),
            coding=or_null(text("Its coding.")),
            trained=or_null(flag("Whether it was trained.")),
            to=or_null(text("The parameter that it is tied to.")),
        ),
    ),
    "provenance": by_name("Versions of the tools that wrote the pack, by name."),
    "torch": or_null(text("The version of torch that generated the weights, for torch-cpu.")),
    "capability": or_null(text("The processor capability that torch used.")),
    "scaffolds": by_name("Seeds of further scaffolds, by name."),
    "allow": items("Packages that the pack needs to import, which a loader must allow by name."),
    "files": by_name("Bytes of the files besides the model, by name.", COUNT),
    "results": items(
        "The scores that the pack carries.",
        record(
            "One score.",
            task=text("The task, in the Hub's words."),
            dataset=text("The data set."),
            metric=text("The metric."),
            score=number("Its value."),
            split=or_null(text("The part of the data set.")),
            deviation=or_null(number("The standard deviation over seeds.")),
            seeds=or_null(whole("How many seeds.")),
            rank=or_null(whole("The rank of the adapters.")),
            full=or_null(number("The score of full training.")),
            chance=or_null(number("The score of a guess.")),
        ),
    ),
    "plot": or_null(text("The picture of --plot.")),
}

_REPORTED = {
    "path": PATH,
    "size": SIZE,
    "numel": whole("Number of elements of the model; tied ones count once."),
    "bits_per_weight": number("Bits in the file per element."),
    "forms": items(
        "The pack, and the full checkpoint in other forms.",
        record(
            "One form.",
            label=text("Its name."),
            size=SIZE,
            ratio=number("Its size divided by the pack's size."),
            seconds=by_name("Seconds to download it, by the speed of the link in Mbit/s.", {"type": "number"}),
        ),
    ),
    "by_role": by_name("The pack's bytes, by how parameters are stored.", COUNT),
    "by_group": by_name("The pack's bytes, by group of parameters.", COUNT),
    "bits_by_group": by_name("Bits in the file per element of a group.", {"type": "number"}),
    "saved": by_name("Bytes that each step saves compared with the full model; negative if it adds bytes.", COUNT),
    "memory": by_name("Bytes in memory after loading, by the `backbone` argument of load().", COUNT),
    "plot": or_null(text("The image file that was written.")),
}

_TABLED = {
    "rows": items(
        "A row for each pack.",
        record(
            "One pack and the paper's figures, which are null for a model that is not in the paper.",
            scale=or_null(text("The paper's name of the model.")),
            form=text("How it is packed."),
            size=SIZE,
            mib=number("Its size in MiB."),
            numel=whole("Number of elements of the model."),
            bits_per_weight=number("Bits per element."),
            paper_fp16=or_null(whole("The paper's size in fp16, in MiB.")),
            paper_4bit=or_null(whole("The paper's size in 4 bits, in MiB.")),
            paper_lottalora=or_null(whole("The paper's size of the LottaLoRA, in MiB.")),
            of_paper=or_null(number("mib divided by paper_lottalora.")),
            of_fp16=or_null(number("size divided by that of the fp16 pack.")),
            path=or_null(text("The pack.")),
        ),
    )
}

COMMANDS: dict[str, tuple[dict[str, Schema], ...]] = {
    "pack": (_PACKED,),
    "inspect": (_INSPECTED,),
    "verify": (
        _CHECKS,
        {
            "packs": items(
                "Each pack, if several are given.",
                {
                    "anyOf": [
                        record(
                            "One pack.",
                            ok=OK,
                            pack=text("As it was named."),
                            exit_code=whole("What verify of it alone exits with."),
                            **found,
                        )
                        for found in (_CHECKS, {"error": ERROR})
                    ]
                },
            )
        },
    ),
    "sign": ({"path": text("The pack."), "signature": text("The signature.")},),
    "export": ({"path": text("The file, or the folder's main file."), "size": whole("Bytes of all weights.")},),
    "report": (_REPORTED, _TABLED),
}
