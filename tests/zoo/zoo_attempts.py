"""Inputs for models of transformers that nobody looked at, for sweep.py: some to try in turn."""

import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from zoo_runs import inputs_for

Inputs = dict[str, Any]


class Guess:
    """What can be read off a model: the arguments that it takes, and settings of its configuration and those in it."""

    def __init__(self, model: nn.Module) -> None:
        config: Any = model.config
        self.parts = [config, *(getattr(config, name, None) for name in getattr(config, "sub_configs", {}))]
        self.takes = inspect.signature(model.forward).parameters
        self.random = torch.Generator().manual_seed(4)
        self.width, self.channels = self.setting("hidden_size", 32), self.setting("num_channels", 3)
        self.frames = self.setting("num_frames", 2)
        side = self.setting("image_size", 32)
        self.side = side if isinstance(side, int) else 32

    def setting(self, name: str, default: Any) -> Any:
        """A setting of the first part that has it; the first item of several."""
        found = next((getattr(part, name) for part in self.parts if getattr(part, name, None) is not None), default)
        return found[0] if isinstance(found, list | tuple) and found else found

    def taken(self, inputs: Inputs) -> Inputs:
        """Those inputs that the model takes."""
        return {name: value for name, value in inputs.items() if name in self.takes}

    def noise(self, *shape: int) -> Tensor:
        """Floating values."""
        return torch.randn(shape, generator=self.random)

    def tokens(self, length: int = 8) -> Tensor:
        """Two texts."""
        return torch.randint(5, 32, (2, length), generator=self.random)


def attempts(model: nn.Module) -> Iterator[Inputs]:
    """The likeliest first."""
    guess, first = Guess(model), inputs_for(model)
    yield first
    yield from _patches(guess)
    tokens = guess.tokens()
    if type(model).__name__.endswith("ForMultipleChoice"):
        yield guess.taken({name: torch.stack([value, value], 1) for name, value in first.items()})
    usual = {
        "input_ids": tokens,
        "decoder_input_ids": tokens,
        "attention_mask": torch.ones_like(tokens),
        "decoder_attention_mask": torch.ones_like(tokens),
        "bbox": torch.randint(0, 20, (2, 8, 4), generator=guess.random).sort(-1).values,
        "token_type_ids": torch.zeros_like(tokens),
        "pixel_values": guess.noise(2, guess.channels, guess.side, guess.side),
        "pixel_values_videos": guess.noise(2, guess.frames, guess.channels, guess.side, guess.side),
        "input_values": guess.noise(2, 1600),
        "input_features": guess.noise(2, 80, 200),
        "past_values": guess.noise(2, guess.setting("context_length", 16)),
        "inputs_embeds": guess.noise(2, 8, guess.width),
    }
    needed = {
        name: usual[name]
        for name, one in guess.takes.items()
        if one.default is inspect.Parameter.empty and name in usual
    }
    yield {**needed, **first}
    yield {**first, **guess.taken({name: usual[name] for name in ("pixel_values", "decoder_input_ids")})}
    text = guess.taken({name: usual[name] for name in ("input_ids", "attention_mask")})
    yield from _pictures(guess, text)
    for name in ("pixel_values_videos", "past_values"):
        if name in guess.takes:
            yield {**text, name: usual[name]}
    yield from _sounds(guess, needed)
    if text:
        yield from _texts(guess, text, usual)
    if "inputs_embeds" in guess.takes:
        yield {"inputs_embeds": usual["inputs_embeds"]}
    width, side = guess.width, guess.side
    for shape in ((2, 8, width), (2, width, 8), (2, width), (2, guess.channels, side, side)):
        yield {next(iter(guess.takes)): guess.noise(*shape)}


def _pictures(guess: Guess, text: Inputs) -> Iterator[Inputs]:
    if "pixel_values" not in guess.takes:
        return
    for side in (guess.side, 32, 64, 128, 224):
        for shape in ((2, guess.channels, side, side), (2, guess.frames, guess.channels, side, side)):
            yield {**text, "pixel_values": guess.noise(*shape)}
            yield {"pixel_values": guess.noise(*shape)}


def _patches(guess: Guess) -> Iterator[Inputs]:
    """For encoders of pictures cut into patches, of which only their grid is known."""
    grid = next((name for name in guess.takes if name.endswith("grid_thw")), None)
    main = next((name for name in ("pixel_values", "hidden_states") if name in guess.takes), None)
    if grid is None or main is None:
        return
    side = guess.setting("patch_size", 14)
    for frames in (guess.setting("temporal_patch_size", 2), 1):
        patches = guess.noise(16, guess.channels * frames * side * side)
        for shaped in (patches, patches.view(16, guess.channels, frames, side, side).squeeze(2)):
            yield {main: shaped, grid: torch.tensor([[1, 4, 4]])}


def _sounds(guess: Guess, needed: Inputs) -> Iterator[Inputs]:
    more = guess.taken({"decoder_input_values": guess.noise(2, 8, 80), "decoder_input_ids": guess.tokens()})
    if "input_features" in guess.takes:
        bins = (guess.setting(name, 80) for name in ("num_mel_bins", "input_feat_per_channel", "feature_size"))
        longest = 2 * guess.setting("max_source_positions", 32)
        for mel in dict.fromkeys((*bins, 80, 128)):
            for shape in ((2, 64, mel), (2, mel, 64), (2, mel, longest), (2, mel, 3000)):
                sound = {"input_features": guess.noise(*shape)}
                yield sound
                yield {**needed, **sound, **more}
    if "input_values" in guess.takes:
        for shape in ((2, 6400), (2, 1, 6400), (2, 64, 80), (2, 128, 128), (2, 8, 80)):
            sound = {"input_values": guess.noise(*shape)}
            yield sound
            yield {**sound, **more}


def _texts(guess: Guess, text: Inputs, usual: Inputs) -> Iterator[Inputs]:
    yield text
    yield {"input_ids": usual["input_ids"]}
    yield guess.taken({name: usual[name] for name in ("input_ids", "decoder_input_ids")})
    for length in (16, 32, 64):
        yield {"input_ids": guess.tokens(length)}
    yield guess.taken({name: usual[name] for name in ("input_ids", "bbox", "token_type_ids", "pixel_values")})
    if "labels" in guess.takes:
        yield {"input_ids": usual["input_ids"], "labels": usual["input_ids"]}
        yield {"input_ids": usual["input_ids"], "labels": torch.zeros(2, dtype=torch.long)}
