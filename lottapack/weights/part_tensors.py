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
        if self._magnitude is None:
            return self._merged(weight, part)
        # All in binary32: a length is that of the unrounded weights.
        unrounded = self._merged(weight.float(), part)
        factors = self._factors(part, unrounded)
        across = (1, -1) if self.entry.fan_in_fan_out else (-1, *[1] * (len(self.shape) - 1))
        return unrounded.mul_(factors.view(across)).to(self.dtype)

    def backbone(self, part: Part) -> Tensor:
        """Return a part of the generated weight, without its adapter."""
        memory = torch.empty(part.shape, dtype=self.dtype, device=self.device)
        if is_constructed(self.pack):
            return memory.copy_(part.take(constructed_weights(self.pack)[self.name]))
        return rng.fill_runs_(memory, self.pack.source(self.name), *part.runs())

    def check_fingerprint(self) -> None:
        """Generate everything once without keeping it, and compare fingerprints. Raises IntegrityError."""
        assert not isinstance(self.entry, Stored | Constant)
        recorded = self.entry.fingerprint  # type: ignore[union-attr]
        if is_constructed(self.pack):
            constructed_weights(self.pack)  # returns only weights whose fingerprints match
            return
        computed = rng.fingerprint_hex(rng.fingerprint_of(self.pack.source(self.name), numel(self.shape)))
        if computed != recorded:
            problem = Problem(
                "fingerprint", self.name, f"was rebuilt with the fingerprint {computed}, recorded is {recorded}"
            )
            hint = "The pack's descriptor was changed, or this device computes wrong bits. Try another device."
            raise IntegrityError(str(self.pack.path), [problem], hint=hint)

    @cached_property
    def _adapter(self) -> dict[str, Tensor]:
        return adapter_tensors(self.pack, self.name, self.device)

    @property
    def _magnitude(self) -> Tensor | None:
        return self._adapter.get("magnitude")

    def _merged(self, weight: Tensor, part: Part) -> Tensor:
        """Merge a part in the weight's dtype, before a magnitude."""
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
        """Return the factors of a part's outputs for a magnitude.

        ``found``: the part, if it suffices to compute them.
        """
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
