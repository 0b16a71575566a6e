"""The tokenizer of a pack in GGUF's form: byte-level BPE as ``gpt2``, BPE with spaces as ``▁`` as ``llama``.

GGUF names how text is split before BPE, and does not describe it. Splits without a name are refused, because readers
would make other tokens in silence. Readers differ in one thing: whether a text that begins with a space, or that
follows a special token, gets a space before it. llama.cpp adds it, as the normaliser ``Prepend`` does; transformers
does not.
"""

import json
import re
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
_BYTE_TOKEN = re.compile("<0x[0-9A-F]{2}>")
_ENDS = ("eos", "eot", "eom")
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
    add_eos: bool = False
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
        if self.add_eos:
            writer.add_add_eos_token(True)
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
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as fault:
        raise _refused(f"{where}: cannot read it as a tokenizer ({type(fault).__name__}: {fault})") from fault


def _vocabulary(
    pack: PackFile, tokenizer: dict[str, Any], settings: dict[str, Any], config: dict[str, Any]
) -> Vocabulary:
    model = tokenizer["model"]
    if model.get("type") != "BPE":
        raise _refused(f"cannot write a tokenizer of type {model.get('type')} as GGUF, only BPE")
    if model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
        raise _refused("GGUF's tokenizers do not mark the inside or the end of words, but this one does")
    by_bytes = model.get("byte_fallback", False)
    pre, add_space = ("", _space(tokenizer)) if by_bytes else (_split(tokenizer), None)
    added = {one["id"]: one for one in tokenizer.get("added_tokens", [])}
    _check_numbers([*model["vocab"].values()], [*added])
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
    merges = [_merge(merge) for merge in model["merges"]]
    _refuse_other_words(model, merges, added, takes_whole_words=pre == "llama-bpe")
    special = _special(config)
    if "eos" not in special:
        # llama.cpp would take its own default: token 11 or 2.
        raise _refused("the model's eos_token_id is missing, so that a reader would end a text at a token of its own")
    if unknown in model["vocab"]:
        special["unk"] = model["vocab"][unknown]
    around = _around(tokenizer, settings, special)
    return Vocabulary(
        model="llama" if by_bytes else "gpt2",
        pre=pre,
        tokens=tokens,
        kinds=kinds,
        scores=_scores(tokens, merges) if by_bytes else [],
        merges=merges,
        special=special,
        add_bos="bos" in around,
        add_eos="eos" in around,
        add_space=add_space,
        template=_template(pack, settings),
    )


def _check_numbers(own: list[Any], added: list[Any]) -> None:
    """Raise ValueError unless each token has a number, and each number of a vocabulary one token."""
    if not all(type(number) is int and number >= 0 for number in own + added):
        raise ValueError("a token's number is not one")
    if len(set(own)) < len(own):
        raise ValueError("two tokens have one number")


def _merge(merge: str | list[str]) -> str:
    """Return a merge in GGUF's form, in which a space parts the two tokens."""
    parts = merge.split(" ") if isinstance(merge, str) else merge
    if len(parts) != 2 or any(not part or " " in part for part in parts):
        raise _refused(f"GGUF cannot write the merge {str(merge)[:100]!r}: it should be two tokens without spaces")
    return " ".join(parts)


def _kind(text: str, added: dict[str, Any] | None, unknown: str | None, by_bytes: bool) -> int:
    if text == unknown:
        return _UNKNOWN
    if added is not None:
        if any(added.get(flag) for flag in ("single_word", "lstrip", "rstrip")):
            raise _refused(f"GGUF finds {text!r} anywhere in a text, but this tokenizer looks at what is around it")
        return _CONTROL if added["special"] else _USER
    return _BYTE if by_bytes and _BYTE_TOKEN.fullmatch(text) else _NORMAL


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


def _special(config: dict[str, Any]) -> dict[str, int]:
    """Return the ids of special tokens. Several tokens that end a text are GGUF's eos, eot and eom."""
    ends = config.get("eos_token_id")
    ends = ends if isinstance(ends, list) else [ends]
    if len(ends) > len(_ENDS):
        raise _refused(f"GGUF has {len(_ENDS)} tokens that end a text, but the model {len(ends)}")
    named = {
        "bos": config.get("bos_token_id"),
        "pad": config.get("pad_token_id"),
        **dict(zip(_ENDS, ends, strict=False)),
    }
    special = {name: number for name, number in named.items() if number is not None}
    for name, number in special.items():
        if type(number) is not int or not 0 <= number < config["vocab_size"]:
            raise _refused(f"the model's {name}_token_id {number!r} is not one of its {config['vocab_size']:,} tokens")
    return special


def _around(tokenizer: dict[str, Any], settings: dict[str, Any], special: dict[str, int]) -> set[str]:
    """Return which of bos and eos a tokenizer adds around a text. Their ids go into ``special``."""
    found = set()
    for step in _parts(tokenizer.get("post_processor"), "processors"):
        if step["type"] == "ByteLevel":
            continue  # it only changes offsets
        kinds = ["Sequence" in one for one in step["single"]] if step["type"] == "TemplateProcessing" else []
        if kinds not in ([True], [False, True], [True, False], [False, True, False]):
            raise _refused("GGUF can add one token before a text and one after it, but this tokenizer adds others")
        for place, one in enumerate(step["single"]):
            if "Sequence" not in one:
                name = "bos" if place < kinds.index(True) else "eos"
                ids = step["special_tokens"][one["SpecialToken"]["id"]]["ids"]
                if ids != [special.setdefault(name, ids[0])]:
                    raise _refused(f"it adds the token {ids[0]} as {name}, but the model's is {special[name]}")
                found.add(name)
    for name in ("bos", "eos"):
        asked = settings.get(f"add_{name}_token")
        if isinstance(asked, bool):
            (found.add if asked else found.discard)(name)
    if lacking := sorted(found - special.keys()):
        raise _refused(f"it adds {lacking[0]} to a text, but the model's {lacking[0]}_token_id is missing")
    return found


def _refuse_other_words(
    model: dict[str, Any], merges: list[str], added: dict[int, dict[str, Any]], *, takes_whole_words: bool
) -> None:
    """Refuse a vocabulary with tokens that GGUF's reader makes and the tokenizer does not, or the other way round."""
    vocab, by_bytes = model["vocab"], model.get("byte_fallback")
    made = {merge.replace(" ", "") for merge in merges} | {model.get("unk_token")}
    unmade = [text for text, number in vocab.items() if len(text) > 1 and text not in made and number not in added]
    other = [text for text in unmade if not (by_bytes and _BYTE_TOKEN.fullmatch(text))]
    if bool(model.get("ignore_merges")) == takes_whole_words:
        # With a byte fallback the reader merges whatever gives a token.
        other = [text for text in other if by_bytes and _is_joined(text, vocab)]
    if other:
        raise _refused(
            f"its token {other[0]!r} does not come from its merges, so GGUF's reader would make other tokens"
        )


def _is_joined(text: str, vocab: dict[str, int]) -> bool:
    """Return whether two tokens of a vocabulary give a text."""
    return any(text[:cut] in vocab and text[cut:] in vocab for cut in range(1, len(text)))


def _template(pack: PackFile, settings: dict[str, Any]) -> str:
    if _TEMPLATE in files_of(pack.descriptor):
        return content(pack, _TEMPLATE).decode()
    found = settings.get("chat_template", "")
    return found if isinstance(found, str) else ""


def _refused(message: str) -> UnsupportedError:
    hint = "Export it with `format='transformers'`, and convert that with llama.cpp's own converter."
    return UnsupportedError(message, hint=hint)
