"""The fields of commands that train, run or measure models."""

from lottapack_cli.schemas.kinds import (
    COUNT,
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

_EVIDENCE = record(
    "The model as computed by one process.",
    weights=by_name("SHA-256 of each tensor's bits, by name."),
    values=whole("Number of elements in them."),
    correct=whole("Number of test images that were classified correctly."),
    total=whole("Number of test images."),
    logits=text("SHA-256 of the logits."),
)

_POINT = record(
    "The runs of one rank, or of full training.",
    rank=or_null(whole("The rank, or null for full training.")),
    scores=items("The score of each seed, from seed 0.", {"type": "number"}),
    mean=number("Their mean."),
    deviation=or_null(number("Their standard deviation, or null for one seed.")),
    trained=whole("Elements that train."),
    total=whole("Elements of the plain model."),
    seconds=number("The median time of a run."),
)

COMMANDS: dict[str, tuple[dict[str, Schema], ...]] = {
    "study": (
        {
            "rank": or_null(whole("The smallest rank within the tolerance, or null if none is.")),
            "tolerance": number("How far a rank may stay behind full training."),
            "target": number("The score that a rank must reach."),
            "seeds": whole("How many seeds decided."),
            "maximise": flag("Whether a larger score is better."),
            "full": _POINT,
            "curve": items("Random backbones by rank.", _POINT),
            "lora": items("Plain LoRA by rank, with --pretrained.", _POINT),
            "plot": or_null(text("The picture of --plot.")),
        },
    ),
    "run": (
        {
            "path": text("The pack."),
            "backbone": text("How it was loaded: materialised, virtual or blocks."),
            "load_seconds": number("Seconds to load it."),
            "seconds": number("Seconds to run it."),
            "peak_bytes": whole("The largest resident size of the process, or 0 where unknown."),
            "tokens": items("Ids of the new tokens.", COUNT),
            "tokens_per_s": number("Tokens a second, the prompt's pass included."),
            "text": text("The new tokens as text, where there is a tokenizer."),
            "outputs": or_null(by_name("Shapes of the outputs by name.", items("A shape.", COUNT))),
            "output": or_null(text("The file that they were written to.")),
            "prompt": text("The text or the token ids that it went on from."),
            "values": or_null(
                by_name("Outputs of at most 64 numbers by name.", anything("Nested lists, or a number."))
            ),
        },
    ),
    "bench": (
        {
            "device": text("The device."),
            "machine": text("Processor or GPU, threads and versions."),
            "elements": whole("Weights that each case generates."),
            "rounds": whole("Rounds; the result is their median."),
            "speeds": items(
                "Each case.",
                record(
                    "One case.",
                    case=text("A distribution, or the case to compare it with."),
                    dtype=text("The weights' dtype."),
                    weights_per_s=number("Weights per second."),
                    of_fill=number("Its speed divided by that of filling memory."),
                    of_randn=number("Its speed divided by that of torch.randn."),
                    of_clone=number("Its speed divided by that of cloning a checkpoint."),
                    of_download=number("Its speed divided by that of a download at 1 Gbit/s."),
                ),
            ),
        },
        {
            "device": text("The device."),
            "machine": text("Processor or GPU, threads and versions."),
            "shape": items("The shape of the weights.", COUNT),
            "rounds": whole("Rounds; the result is their median."),
            "products": items(
                "Each case, with --virtual.",
                record(
                    "One case.",
                    case=text("How the weights are stored or generated."),
                    inputs=whole("Number of input vectors."),
                    weights_per_s=number("Weights per second."),
                    of_float32=number("Its speed divided by that with float32 weights in memory."),
                    of_bfloat16=number("Its speed divided by that with bfloat16 weights in memory."),
                    weight_bytes=whole("Memory for weights, in bytes."),
                ),
            ),
        },
    ),
    "demo": (
        {
            "same": flag("Whether everything was rebuilt bit for bit."),
            "differing": items("What was not rebuilt bit for bit."),
            "parameters": whole("Number of parameters of the model."),
            "trained": whole("Number of trained elements."),
            "values": whole("Number of elements that were compared."),
            "verified": flag("Whether verify passed."),
            "training_seconds": number("Seconds for training."),
            "pull_seconds": number("Seconds for pulling."),
            "load_seconds": number("Seconds for loading."),
            "before": _EVIDENCE,
            "after": _EVIDENCE,
            "pack": text("The pack's file name."),
            "pack_size": SIZE,
            "pack_sha256": SHA256,
            "reference": text("The reference that it was pushed to."),
            "revision": text("The commit."),
            "full": text("The full checkpoint's file name."),
            "full_size": SIZE,
            "ratio": number("full_size divided by pack_size."),
        },
    ),
}
