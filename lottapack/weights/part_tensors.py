"""Make parts of a pack's tensors without the rest: generated, read, or merged with the same bits as the whole.

Each element of a merged weight is a sum of its own, so any part of it has the bits that the whole would have (spec:
merge). Only a magnitude depends on all weights of an output; these are generated a few at a time.
"""

from collections.abc import Iterator
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from lottapack import rng
from lottapack.format import dtypes
from lottapack.format.descriptor import Adapted, Constant, Stored
from lottapack.format.factors import BY_INPUT, BY_OUTPUT, batch_dims_of
from lottapack.format.packfile import Held, PackFile
from lottapack.format.recipe import scaling_factor
from lottapack.format.shapes import numel
from lottapack.weights.constructed import constructed_weights, is_constructed
from lottapack.weights.merge import Parts, length_factors, merged
from lottapack.weights.parts import Part, pieces, whole
from lottapack.weights.rebuild import adapter_tensors, check_generated, constant_tensor, stored_tensor

PIECE = 1 << 20
"""The elements of a piece: a few MiB, enough to keep every thread busy."""

_FEW = 16
"""Up to this many runs, slices are faster than an index for each element."""


class PlainTensor:
    """One entry of the plain model's state_dict, in its recorded dtype, part by part.

    ``shape``: that of the whole. An adapter's tensors are read, and their hashes checked, once.
    """

    def __init__(self, pack: PackFile, name: str, device: torch.device) -> None:
        self.pack, self.device = pack, device
        self.name = pack.descriptor.resolve(name)
        self.entry = pack.descriptor.parameters[self.name]
        self.shape: tuple[int, ...] = self.entry.shape  # type: ignore[union-attr]
        self.dtype = dtypes.torch_dtype(self.entry.dtype)  # type: ignore[union-attr]

    def pieces(self) -> Iterator[Tensor]:
        """Yield everything piece by piece, in row-major order. Do not trust the pieces before the end (hashes)."""
        if isinstance(self.entry, Stored):
            yield from stored_pieces(self.pack, self.name)
        else:
            for part in pieces(self.shape, PIECE):
                yield self.part(part)

    def part(self, part: Part) -> Tensor:
        """Return a part, with adapters merged, in the part's shape."""
        if isinstance(self.entry, Stored):
            return stored_part(self.pack, self.name, part).to(self.device)
        if isinstance(self.entry, Constant):
            return constant_tensor(self.entry, self.device, shape=part.shape)
        weight = self.backbone(part)
        if not isinstance(self.entry, Adapted) or not part.numel:
            return weight
        batch = batch_dims_of(self.entry)
        within = Part(part.whole[batch:], part.ranges[batch:])
        for here in np.ndindex(*part.shape[:batch]):
            place = tuple(int(part.indices(dim)[number]) for dim, number in enumerate(here))
            weight[here] = self._matrix(place).merged(weight[here], within)
        return weight

    def _matrix(self, place: tuple[int, ...]) -> "_Matrix":
        """Return one matrix of an adapted weight. The last one is kept, with what it knows of its lengths."""
        if self._last is None or self._last.place != place:
            self._last = _Matrix(self, place)
        return self._last

    _last: "_Matrix | None" = None

    def backbone(self, part: Part) -> Tensor:
        """Return a part of the generated weight, without its adapter."""
        memory = torch.empty(part.shape, dtype=self.dtype, device=self.device)
        if is_constructed(self.pack):
            return memory.copy_(part.take(constructed_weights(self.pack)[self.name]))
        return rng.fill_runs_(memory, self.pack.source(self.name), *part.runs())

    def check_fingerprint(self) -> None:
        """Generate everything once without keeping it, and compare fingerprints. Raises IntegrityError."""
        assert not isinstance(self.entry, Stored | Constant)
        if is_constructed(self.pack):
            constructed_weights(self.pack)  # returns only weights whose fingerprints match
        else:
            check_generated(self.pack, self.name, self.device)

    @cached_property
    def adapter(self) -> dict[str, Tensor]:
        """The adapter's tensors."""
        return adapter_tensors(self.pack, self.name, self.device)


class _Matrix:
    """One matrix of a weight with an adapter: all of it, or the one at a place of its batch."""

    def __init__(self, weight: PlainTensor, place: tuple[int, ...]) -> None:
        assert isinstance(weight.entry, Adapted)
        self.weight, self.place, self.entry = weight, place, weight.entry
        self.shape = weight.shape[len(place) :]
        self.adapter = {
            part: tensor if part in ("beta", self.entry.shared_factor) else tensor[place]
            for part, tensor in weight.adapter.items()
        }
        self._known: tuple[object, Tensor] | None = None

    def merged(self, weight: Tensor, part: Part) -> Tensor:
        """Return a part of the merged matrix. ``weight``: that part of the backbone."""
        if "magnitude" not in self.adapter:
            return self._sum(weight, part)
        # Binary32 throughout: a length is that of the unrounded weights.
        found = self._sum(weight.float(), part)
        return found.mul_(self._factors(part, found)).to(weight.dtype)

    def _sum(self, weight: Tensor, part: Part) -> Tensor:
        """Return the merge of a part, of the weight's dtype, before a magnitude."""
        rest = Part(part.whole[1:], part.ranges[1:])
        numbers = torch.arange(numel(rest.whole), dtype=torch.int64, device="cpu")
        rows, columns = self._index(part.indices(0)), rest.take(numbers.view(rest.whole))
        outputs, inputs = rows, columns.reshape(-1).to(self.weight.device)
        if self.entry.fan_in_fan_out:
            outputs, inputs = inputs, outputs
        chosen = dict.fromkeys(BY_INPUT, inputs) | dict.fromkeys(BY_OUTPUT, outputs)
        adapter = {
            name: (held[:, chosen[name]] if name == "lora_A" else held[chosen[name]]) if name in chosen else held
            for name, held in self.adapter.items()
            if name != "magnitude"
        }
        return merged(
            weight,
            *Parts(**adapter),
            scaling=scaling_factor(self.entry.alpha, self.entry.rank, self.entry.scaling),
            fan_in_fan_out=self.entry.fan_in_fan_out,
        )

    def _factors(self, part: Part, found: Tensor) -> Tensor:
        """Return what a magnitude multiplies a part with. ``found``: the part, if that is enough to know it.

        The part's outputs are some indices along one axis, with all or some of those along the axes behind it where
        inputs come first.
        """
        axis = 1 if self.entry.fan_in_fan_out else 0
        outputs = part.ranges[axis]
        behind = Part(part.whole[axis + 1 :], part.ranges[axis + 1 :])
        if self._known is None or self._known[0] != outputs:
            wide = whole(self.shape).with_range(axis, outputs)
            if wide == part:
                self._known = outputs, self._lengths(found, part.indices(axis))
            else:
                step = max(1, PIECE * part.shape[axis] // max(1, wide.numel))
                parts = []
                for lo, hi in outputs:
                    for first in range(lo, hi, step):
                        some = wide.with_range(axis, ((first, min(first + step, hi)),))
                        backbone = self.weight.backbone(self._placed(some)).view(some.shape)
                        parts.append(self._lengths(self._sum(backbone.float(), some), some.indices(axis)))
                self._known = outputs, torch.cat(parts)
        factors = self._known[1]
        if axis == 0:
            return factors.view(-1, *[1] * (len(self.shape) - 1))
        numbers = torch.arange(numel(behind.whole), dtype=torch.int64, device="cpu").view(behind.whole)
        kept = behind.take(numbers).reshape(-1).to(factors.device)
        return factors.view(len(factors) // numel(behind.whole), -1)[:, kept].view(1, -1, *behind.shape)

    def _placed(self, part: Part) -> Part:
        """Return a part of the matrix as a part of the whole weight."""
        fixed = tuple(((index, index + 1),) for index in self.place)
        return Part(self.weight.shape, (*fixed, *part.ranges))

    def _lengths(self, weight: Tensor, outputs: "np.ndarray[tuple[int], np.dtype[np.int64]]") -> Tensor:
        """Return the factors of the outputs at some indices along their axis, and at all of those behind it."""
        magnitude = self.adapter["magnitude"]
        if self.entry.fan_in_fan_out:
            inputs, magnitude = weight.reshape(len(weight), -1), magnitude.view(self.shape[1], -1)
        else:
            inputs = weight.flatten(1).t()
        return length_factors(inputs.contiguous(), magnitude[self._index(outputs)].reshape(-1))

    def _index(self, indices: "np.ndarray[tuple[int], np.dtype[np.int64]]") -> Tensor:
        return torch.from_numpy(indices).to(self.weight.device)


def stored_pieces(pack: PackFile, held: Held) -> Iterator[Tensor]:
    """Yield the file's flat pieces on the CPU, in order. Do not trust them before the end, when the hash is checked.

    A coded parameter is decoded as a whole.
    """
    info = pack.as_it_is(held)
    if info is None:
        yield stored_tensor(pack, held, torch.device("cpu")).view(-1)
        return
    for piece in pack.pieces(info, 8 * PIECE):
        yield torch.frombuffer(piece, dtype=dtypes.torch_dtype(info.dtype))


def stored_part(pack: PackFile, held: Held, part: Part) -> Tensor:
    """Return a part of a stored tensor, on the CPU. Reads all its bytes for the hash and keeps only the part."""
    result = torch.empty(part.numel, dtype=dtypes.torch_dtype(pack.form(held)[0]), device="cpu")
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
            result[place : place + index.size] = piece[torch.from_numpy(index)]
        else:
            for run in range(first, last):
                low, high = max(int(starts[run]), begin), min(int(ends[run]), end)
                place = int(places[run]) + low - int(starts[run])
                result[place : place + high - low] = piece[low - begin : high - begin]
        begin = end
    return result.view(part.shape)
