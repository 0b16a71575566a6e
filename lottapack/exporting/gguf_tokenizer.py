"""The tokenizer of a pack in GGUF's form: byte-level BPE as ``gpt2``, BPE with spaces as ``▁`` as ``llama``.

GGUF names how text is split before BPE, and does not describe it. Splits without a name are refused, since other
tokens would come out without a word. One thing readers decide for themselves: whether a text
that begins with a space, or that follows a special token, gets a space before it. llama.cpp adds it, as the normaliser
``Prepend`` does; transformers does not.
"""

import json
from dataclasses import dataclass, field
from typing import Any

from lottapack.errors import UnsupportedError
from lottapack.format.files import content, files_of
from lottapack.format.packfile import PackFile

_FILE = "tokenizer.json"
_CONFIG = "tokenizer_config.json"
_TEMPLATE = "chat_template.jinja"
_NORMAL, _UNKNOWN, _CONTROL, _USER, _UNUSED, _BYTE = 1, 2, 3, 4, 5, 6
_LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LOWEST = -1e9
"""The score of a token that no merge makes."""


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer for a GGUF file. ``model``: GGUF's name of its kind, ``no_vocab`` for a pack without one."""

    model: str
    pre: str = ""
    tokens: list[str] = field(default_factory=list)
    kinds: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    merges: list[str] = field(default_factory=list)
    special: dict[str, int] = field(default_factory=dict)
    add_bos: bool = False
    add_space: bool | None = None
    template: str = ""

    def add_to(self, writer: Any) -> None:
        """Add it to a GGUF writer."""
        writer.add_tokenizer_model(self.model)
        if not self.tokens:
            return
        if self.pre:
            writer.add_tokenizer_pre(self.pre)
        writer.add_token_list(self.tokens)
        writer.add_token_types(self.kinds)
        if self.scores:
            writer.add_token_scores(self.scores)
        if self.merges:
            writer.add_token_merges(self.merges)
        for name, token in self.special.items():
            getattr(writer, f"add_{name}_token_id")(token)
        writer.add_add_bos_token(self.add_bos)
        if self.add_space is not None:
            writer.add_add_space_prefix(self.add_space)
        if self.template:
            writer.add_chat_template(self.template)


def read(pack: PackFile, config: dict[str, Any]) -> Vocabulary:
    """Return the tokenizer of a pack. Raises UnsupportedError for one that GGUF cannot express."""
    files = files_of(pack.descriptor)
    if _FILE not in files:
        return Vocabulary("no_vocab")
    where = f"{pack.path}: {_FILE}"
    try:
        tokenizer = json.loads(content(pack, _FILE))
        settings = json.loads(content(pack, _CONFIG)) if _CONFIG in files else {}
        return _vocabulary(pack, tokenizer, settings, config)
    except UnsupportedError as fault:
        raise UnsupportedError(f"{where}: {fault.message}", hint=fault.hint) from fault
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as fault:
        raise _refused(f"{where}: cannot read it as a tokenizer ({type(fault).__name__}: {fault})") from fault


def _vocabulary(
    pack: PackFile, tokenizer: dict[str, Any], settings: dict[str, Any], config: dict[str, Any]
) -> Vocabulary:
    model = tokenizer["model"]
    if model.get("type") != "BPE":
        raise _refused(f"cannot write a tokenizer of type {model.get('type')} as GGUF, only BPE")
    by_bytes = model.get("byte_fallback", False)
    pre, add_space = ("", _space(tokenizer)) if by_bytes else (_split(tokenizer), None)
    added = {one["id"]: one for one in tokenizer.get("added_tokens", [])}
    ids = {
        **{number: text for text, number in model["vocab"].items()},
        **{key: one["content"] for key, one in added.items()},
    }
    count = max(config["vocab_size"], max(ids) + 1)
    if count > config["vocab_size"]:
        raise _refused(f"it has {count:,} tokens, but the model {config['vocab_size']:,}")
    unknown = model.get("unk_token")
    tokens = [ids.get(number, f"[PAD{number}]") for number in range(count)]
    kinds = [
        _UNUSED if number not in ids else _kind(ids[number], added.get(number), unknown, by_bytes)
        for number in range(count)
    ]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    special = {
        name: config[f"{name}_token_id"]
        for name in ("bos", "eos", "pad")
        if isinstance(config.get(f"{name}_token_id"), int)
    }
    if unknown in model["vocab"]:
        special["unk"] = model["vocab"][unknown]
    return Vocabulary(
        model="llama" if by_bytes else "gpt2",
        pre=pre,
        tokens=tokens,
        kinds=kinds,
        scores=_scores(tokens, merges) if by_bytes else [],
        merges=merges,
        special=special,
        add_bos=_adds_bos(tokenizer, settings),
        add_space=add_space,
        template=_template(pack, settings),
    )


def _kind(text: str, added: dict[str, Any] | None, unknown: str | None, by_bytes: bool) -> int:
    if text == unknown:
        return _UNKNOWN
    if added is not None:
        return _CONTROL if added["special"] else _USER
    is_byte = by_bytes and len(text) == 6 and text.startswith("<0x") and text.endswith(">")
    return _BYTE if is_byte else _NORMAL


def _scores(tokens: list[str], merges: list[str]) -> list[float]:
    """Return scores by which llama.cpp merges in the order of the tokenizer's own merges."""
    order: dict[str, float] = {}
    for number, merge in enumerate(merges):
        order.setdefault(merge.replace(" ", ""), -float(number))
    return [order.get(token, _LOWEST) for token in tokens]


def _parts(step: dict[str, Any] | None, key: str) -> list[dict[str, Any]]:
    """Return the steps of a sequence, or the one step, or none."""
    if step is None:
        return []
    return list(step[key]) if step["type"] == "Sequence" else [step]


def _split(tokenizer: dict[str, Any]) -> str:
    """Return GGUF's name of how byte-level text is split."""
    steps = _parts(tokenizer.get("pre_tokenizer"), "pretokenizers")
    if tokenizer.get("normalizer") is not None:
        raise _refused("GGUF's byte-level tokenizers do not normalise text, but this one does")
    if any(step.get("add_prefix_space") for step in steps):
        raise _refused("GGUF's byte-level tokenizers do not add a space before text, but this one does")
    if [step["type"] for step in steps] == ["ByteLevel"] and steps[0].get("use_regex", True):
        return "gpt-2"
    split = {"type": "Split", "pattern": {"Regex": _LLAMA_3}, "behavior": "Isolated", "invert": False}
    if len(steps) == 2 and steps[0] == split and steps[1]["type"] == "ByteLevel":
        return "llama-bpe"
    raise _refused("GGUF does not have a name for how this tokenizer splits text")


def _space(tokenizer: dict[str, Any]) -> bool:
    """Return whether a tokenizer with ``▁`` for spaces adds one before text."""
    before = _parts(tokenizer.get("pre_tokenizer"), "pretokenizers")
    normal = _parts(tokenizer.get("normalizer"), "normalizers")
    space = {"type": "Metaspace", "replacement": "▁", "split": False}
    if len(before) == 1 and not normal and space.items() <= before[0].items():
        return bool(before[0].get("prepend_scheme", "always") != "never")
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    if not before and normal in ([replace], [{"type": "Prepend", "prepend": "▁"}, replace]):
        return len(normal) == 2
    raise _refused("GGUF does not have a name for how this tokenizer splits text")


def _adds_bos(tokenizer: dict[str, Any], settings: dict[str, Any]) -> bool:
    if isinstance(settings.get("add_bos_token"), bool):
        return bool(settings["add_bos_token"])
    for step in _parts(tokenizer.get("post_processor"), "processors"):
        if step["type"] == "TemplateProcessing" and "SpecialToken" in step["single"][0]:
            return True
    return False


def _template(pack: PackFile, settings: dict[str, Any]) -> str:
    if _TEMPLATE in files_of(pack.descriptor):
        return content(pack, _TEMPLATE).decode()
    found = settings.get("chat_template", "")
    return found if isinstance(found, str) else ""


def _refused(message: str) -> UnsupportedError:
    hint = "Export it with `format='transformers'`, and convert that with llama.cpp's own converter."
    return UnsupportedError(message, hint=hint)
