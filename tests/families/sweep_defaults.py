"""Build every model type of transformers, or timm models, at default configurations on meta.

Run by hand: ``python tests/families/sweep_defaults.py transformers 0 2`` (part 0 of 2), or ``... timm 0 1``. Prints a
line for each class and counts. Exits with 1 where lottapack refuses what the library itself builds.
"""

import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress

import torch
import torchvision_without_ops  # noqa: F401

from lottapack import arch, errors
from lottapack.arch.budget import Budget
from lottapack.arch.skeleton import shapes_of
from lottapack.arch.transformers_models import construct, plain_config
from lottapack.format.descriptor import Architecture

Case = tuple[str, Callable[[], Architecture], Callable[[Architecture], object]]
"""A label, what describes the model, and what builds it by the library alone."""

TIMM = """
resnet18 resnet50 resnext50_32x4d seresnet50 regnety_032 densenet121 vgg16 mobilenetv3_large_100
mobilenetv4_conv_small efficientnet_b0 efficientnetv2_s tf_efficientnet_b0 convnext_tiny convnextv2_tiny
vit_tiny_patch16_224 vit_base_patch16_224 vit_large_patch14_clip_224 vit_so400m_patch14_siglip_224
deit3_small_patch16_224 beit_base_patch16_224 eva02_tiny_patch14_224 eva02_large_patch14_448
vit_small_patch16_dinov3 vit_7b_patch16_dinov3 swin_tiny_patch4_window7_224 swin_large_patch4_window12_384
swinv2_tiny_window8_256 swinv2_cr_tiny_224 levit_128s levit_384 maxvit_tiny_tf_224 coatnet_0_rw_224 mixer_b16_224
cait_s24_224 convit_tiny xcit_tiny_12_p16_224 pvt_v2_b0 twins_svt_small poolformer_s12 focalnet_tiny_srf davit_tiny
edgenext_small mobilevit_s mobilevitv2_100 fastvit_t8 hiera_tiny_224 mvitv2_tiny nest_tiny volo_d1_224
crossvit_tiny_240 naflexvit_base_patch16_gap samvit_base_patch16 repvit_m1 tiny_vit_5m_224 inception_v3 nasnetalarge
hrnet_w18 nfnet_f0 ghostnet_100 csatv2
"""


def of_transformers() -> Iterator[Case]:
    """Return two classes of each model type."""
    import transformers
    from transformers.models.auto import modeling_auto
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    transformers.logging.set_verbosity_error()
    mappings = [
        getattr(modeling_auto, n) for n in dir(modeling_auto) if n.startswith("MODEL_") and n.endswith("_MAPPING")
    ]
    for kind in sorted(CONFIG_MAPPING.keys()):
        classes: set[type] = set()
        with suppress(Exception):
            config_class = CONFIG_MAPPING[kind]
            config = config_class()
            for mapping in mappings:
                with suppress(Exception):
                    found = mapping.get(config_class, None)
                    classes |= set(found) if isinstance(found, tuple | list) else {found} if found else set()
        for cls in sorted(classes, key=lambda cls: cls.__name__)[:2]:
            yield (
                f"{kind} {cls.__name__}",
                lambda name=cls.__name__, config=config: arch.checked(
                    "transformers", name, plain_config(config.to_dict())
                ),
                lambda made: construct(made.class_, made.config),
            )


def of_timm() -> Iterator[Case]:
    import timm

    for name in TIMM.split():
        if timm.is_model(name):
            yield name, lambda name=name: arch.checked("timm", name, {}), lambda made: timm.create_model(made.class_)


def outcome(describe: Callable[[], Architecture], plainly: Callable[[Architecture], object]) -> tuple[str, str]:
    """Return the result as one word and as a message."""
    try:
        architecture = describe()
    except errors.LottapackError as fault:
        return "undescribable", str(fault)
    start = time.process_time()
    try:
        shapes = shapes_of(arch.build(architecture))
        middle = time.process_time()
        arch.build(architecture, Budget.of_shapes((shape, 4) for shape in shapes.values()))
    except errors.LottapackError as fault:
        try:
            with torch.device("meta"):
                plainly(architecture)
        except Exception as own:  # noqa: BLE001
            # Whatever the library itself raises.
            return "refused by the library too", f"{fault} / {own!r}"
        return f"REFUSED ({type(fault).__name__})", str(fault)
    return "built", f"{len(shapes)} tensors, {middle - start:.2f} s, {time.process_time() - middle:.2f} s"


def main(family: str, part: int, parts: int) -> int:
    """Print a line for each model and the counts."""
    warnings.filterwarnings("ignore")
    counts: Counter[str] = Counter()
    for number, (label, describe, plainly) in enumerate(of_timm() if family == "timm" else of_transformers()):
        if number % parts == part:
            word, words = outcome(describe, plainly)
            counts[word] += 1
            print(f"{label}: {word}: {' '.join(words.split())[:400]}", flush=True)
    print(", ".join(f"{count} {word}" for word, count in counts.most_common()))
    return int(any(word.startswith("REFUSED") for word in counts))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
