"""A head whose weight is tied to an embedding with an adapter: it uses the same adapter, transposed."""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from lottapack.arch.noted import noted, notes
from lottapack.nn.layer_weight import Adapter
from lottapack.nn.layers import AdaptedEmbedding, GeneratedLinear


class TiedHead(GeneratedLinear):
    """``nn.Linear`` tied to an AdaptedEmbedding of shape (out_features, in_features).

    The embedding owns the adapter and its parameters, and the weight is the same buffer.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (the stock layer's name)
        """Args: input, shape (..., in_features). Returns: shape (..., out_features)."""
        owner = self._owner
        given = input if owner.magnitude is None else (input * owner._factors(owner.magnitude)).to(input.dtype)
        backbone = self._product(given if owner.scale_out is None else (given * owner.scale_out).to(given.dtype))
        out = backbone if owner.scale_in is None else backbone * owner.scale_in
        out = out if owner.beta is None else out * owner.beta
        if owner.lora_A is not None:
            narrow = given if owner.lambda_b is None else given * owner.lambda_b
            hidden = owner._of_ranks(F.linear(owner._dropped(narrow), owner.lora_B.t()))
            out = F.linear(hidden, owner.lora_A.t()) * owner.scaling + out
        return self._biased(out.to(backbone.dtype))

    @property
    def _owner(self) -> AdaptedEmbedding:
        owner = noted(self).embedding
        assert owner is not None
        return owner

    def _adapter(self) -> Adapter:
        owner = self._owner
        return owner._adapter()

    def _combine(self, backbone: Tensor, *adapter: Any) -> Tensor:
        owner = self._owner
        return owner._combine(backbone, *adapter)


def can_share(embedding: nn.Module, head: nn.Module) -> bool:
    """Return whether an embedding may have an adapter although a head is tied to it: both must be stock layers."""
    return type(embedding) is nn.Embedding and type(head) is nn.Linear


def share(embedding: AdaptedEmbedding, head: nn.Module) -> None:
    """Turn a stock head into one that sees the adapter of its tied embedding."""
    head.__class__ = TiedHead
    notes(head).embedding = embedding


def leave_alone(model: nn.Module, group: set[str]) -> None:
    """Let transformers' ``tie_weights()`` skip a tie through an adapter, or of a weight that is not in memory.

    That method looks for a parameter or a buffer.

    Args: model; group, the names of the tied weight in the plain model.
    """
    for path, part in model.named_modules():
        prefix = f"{path}." if path else ""
        for attribute in ("_tied_weights_keys", "all_tied_weights_keys"):
            pairs = getattr(part, attribute, None)
            if isinstance(pairs, dict) and any({prefix + pair[0], prefix + pair[1]} <= group for pair in pairs.items()):
                remaining = {to: of for to, of in pairs.items() if not {prefix + to, prefix + of} <= group}
                part.__dict__[attribute] = remaining
