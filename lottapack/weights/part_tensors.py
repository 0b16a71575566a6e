"""Parts of the tensors of a pack, made without the rest: generated, read, or merged with the fixed bits of the whole.

Each element of a merged weight is a sum of its own, so that any part of it has the bits that the whole would have
(spec: merge). Only a magnitude looks at all weights of an output; these are generated a few at a time.
"""

from collections.abc import Iterator
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from lottapack import rng
from lottapack.errors import IntegrityError, Problem
from lottapack.format import dtypes
from lottapack.format.descriptor import Adapted, Constant, Stored
from lottapack.format.packfile import Held, PackFile
from lottapack.format.recipe import scaling_factor
from lottapack.format.shapes import numel
from lottapack.weights.constructed import constructed_weights, is_constructed
from lottapack.weights.merge import length_factors, merged
from lottapack.weights.parts import Part, pieces, whole
from lottapack.weights.rebuild import adapter_tensors, constant_tensor, stored_tensor

PIECE = 1 << 20
"""Elements of a piece: a few MiB, enough to keep every thread busy."""

_FEW = 16
"""Runs up to which slices are faster than an index for each element."""


class PlainTensor:
    """One entry of the plain model's state_dict, in its recorded dtype, part by part.

    ``shape``: of the whole. An adapter's tensors are read, and their hashes checked, once.
    """

    def __init__(self, pack: PackFile, name: str, device: torch.device) -> None:
        self.pack, self.device = pack, device
        self.name = pack.descriptor.resolve(name)
        self.entry = pack.descriptor.parameters[self.name]
        self.shape: tuple[int, ...] = self.entry.shape  # type: ignore[union-attr]
        self.dtype = dtypes.torch_dtype(self.entry.dtype)  # type: ignore[union-attr]

    def pieces(self) -> Iterator[Tensor]:
        """Everything, a piece at a time, in row-major order. What is read counts only after the last (hashes)."""
        if isinstance(self.entry, Stored):
            yield from stored_pieces(self.pack, self.name)
        else:
            for part in pieces(self.shape, PIECE):
                yield self.part(part)

    def part(self, part: Part) -> Tensor:
        """A part, with adapters merged, of the part's shape."""
        if isinstance(self.entry, Stored):
            return stored_part(self.pack, self.name, part).to(self.device)
        if isinstance(self.entry, Constant):
            return constant_tensor(self.entry, self.device, shape=part.shape)
        weight = self.backbone(part)
        if not isinstance(self.entry, Adapted) or not part.numel:
            return weight
        if self._magnitude is None:
            return self._merged(weight, part)
        # Binary32 throughout: a length is that of the unrounded weights.
        found = self._merged(weight.float(), part)
        factors = self._factors(part, found)
        across = (1, -1) if self.entry.fan_in_fan_out else (-1, *[1] * (len(self.shape) - 1))
        return found.mul_(factors.view(across)).to(self.dtype)

    def backbone(self, part: Part) -> Tensor:
        """A part of the generated weight, without its adapter."""
        memory = torch.empty(part.shape, dtype=self.dtype, device=self.device)
        if is_constructed(self.pack):
            return memory.copy_(part.take(constructed_weights(self.pack)[self.name]))
        return rng.fill_runs_(memory, self.pack.source(self.name), *part.runs())

    def check_fingerprint(self) -> None:
        """Generate everything once, keeping nothing of it, and compare fingerprints. Raises IntegrityError."""
        assert not isinstance(self.entry, Stored | Constant)
        recorded = self.entry.fingerprint  # type: ignore[union-attr]
        if is_constructed(self.pack):
            constructed_weights(self.pack)  # hands out only what was compared
            return
        found = rng.fingerprint_hex(rng.fingerprint_of(self.pack.source(self.name), numel(self.shape)))
        if found != recorded:
            problem = Problem("fingerprint", self.name, f"rebuilt with fingerprint {found}, recorded {recorded}")
            hint = "The pack's descriptor was changed, or this device computes wrong bits: try another device."
            raise IntegrityError(str(self.pack.path), [problem], hint=hint)

    @cached_property
    def _adapter(self) -> dict[str, Tensor]:
        return adapter_tensors(self.pack, self.name, self.device)

    @property
    def _magnitude(self) -> Tensor | None:
        return self._adapter.get("magnitude")

    def _merged(self, weight: Tensor, part: Part) -> Tensor:
        """The merge of a part, of the weight's dtype, before a magnitude."""
        assert isinstance(self.entry, Adapted)
        rest = Part(part.whole[1:], part.ranges[1:])
        numbers = torch.arange(numel(rest.whole), dtype=torch.int64, device="cpu")
        rows, columns = self._index(part.indices(0)), rest.take(numbers.view(rest.whole))
        outputs, inputs = rows, columns.reshape(-1).to(self.device)
        if self.entry.fan_in_fan_out:
            outputs, inputs = inputs, outputs
        return merged(
            weight,
            self._adapter["lora_A"][:, inputs],
            self._adapter["lora_B"][outputs],
            self._adapter.get("beta"),
            scaling=scaling_factor(self.entry.alpha, self.entry.rank, self.entry.scaling),
            fan_in_fan_out=self.entry.fan_in_fan_out,
        )

    def _factors(self, part: Part, found: Tensor) -> Tensor:
        """What a magnitude multiplies each output of a part with. ``found``: the part, if that is enough to know it."""
        assert isinstance(self.entry, Adapted)
        assert self._magnitude is not None
        axis = 1 if self.entry.fan_in_fan_out else 0
        outputs = part.ranges[axis]
        if self._known is not None and self._known[0] == outputs:
            return self._known[1]
        wide = whole(self.shape).with_range(axis, outputs)
        if wide == part:
            factors = self._lengths(found, part.indices(axis))
        else:
            step = max(1, PIECE * part.shape[axis] // max(1, wide.numel))
            parts = []
            for lo, hi in outputs:
                for first in range(lo, hi, step):
                    some = wide.with_range(axis, ((first, min(first + step, hi)),))
                    parts.append(self._lengths(self._merged(self.backbone(some).float(), some), some.indices(axis)))
            factors = torch.cat(parts)
        self._known = outputs, factors
        return factors

    _known: tuple[object, Tensor] | None = None

    def _lengths(self, weight: Tensor, outputs: "np.ndarray[tuple[int], np.dtype[np.int64]]") -> Tensor:
        assert isinstance(self.entry, Adapted)
        assert self._magnitude is not None
        inputs = weight if self.entry.fan_in_fan_out else weight.flatten(1).t()
        return length_factors(inputs.contiguous(), self._magnitude[self._index(outputs)])

    def _index(self, indices: "np.ndarray[tuple[int], np.dtype[np.int64]]") -> Tensor:
        return torch.from_numpy(indices).to(self.device)


def stored_pieces(pack: PackFile, held: Held) -> Iterator[Tensor]:
    """What the file holds as flat pieces, in order, on the CPU. They count only after the last: its hash comes then.

    A coded parameter is decoded whole.
    """
    info = pack.as_it_is(held)
    if info is None:
        yield stored_tensor(pack, held, torch.device("cpu")).view(-1)
        return
    for piece in pack.pieces(info, 8 * PIECE):
        yield torch.frombuffer(piece, dtype=dtypes.torch_dtype(info.dtype))


def stored_part(pack: PackFile, held: Held, part: Part) -> Tensor:
    """A part of what the file holds, on the CPU. All of its bytes are read for the hash, and only the part is kept."""
    found = torch.empty(part.numel, dtype=dtypes.torch_dtype(pack.form(held)[0]), device="cpu")
    starts, lengths = part.runs()
    ends, places = starts + lengths, np.concatenate([[0], np.cumsum(lengths)])
    begin = 0
    for piece in stored_pieces(pack, held):
        end = begin + piece.numel()
        first, last = int(np.searchsorted(ends, begin, "right")), int(np.searchsorted(starts, end, "left"))
        if last - first > _FEW:
            lo, hi = np.maximum(starts[first:last], begin), np.minimum(ends[first:last], end)
            place = int(places[first] + lo[0] - starts[first])
            count = hi - lo
            index = np.arange(count.sum()) + np.repeat(lo - begin - np.cumsum(count) + count, count)
            found[place : place + index.size] = piece[torch.from_numpy(index)]
        else:
            for run in range(first, last):
                low, high = max(int(starts[run]), begin), min(int(ends[run]), end)
                place = int(places[run]) + low - int(starts[run])
                found[place : place + high - low] = piece[low - begin : high - begin]
        begin = end
    return found.view(part.shape)
