"""HalfCheetah: a Decision Transformer, small (width 128, 3 layers) and large (1024, 12)."""

from functools import partial

import torch
from paper_run import Case, main
from torch import Tensor, nn
from transformers import DecisionTransformerConfig, DecisionTransformerModel

STATE, ACTION, STEPS, EPISODE = 17, 6, 20, 1000


def build(width: int, depth: int, heads: int, layers: int | None = None) -> nn.Module:
    return DecisionTransformerModel(
        DecisionTransformerConfig(
            state_dim=STATE,
            act_dim=ACTION,
            hidden_size=width,
            n_layer=layers or depth,
            n_head=heads,
            max_ep_len=EPISODE,
            n_positions=3
            * STEPS,  # the library's GPT-2 has embeddings of words and positions; the first has one row here
            vocab_size=1,
            bos_token_id=None,
            eos_token_id=None,
        )
    )


def loss(model: nn.Module, generator: torch.Generator) -> Tensor:
    """Make actions that mix the state: offline reinforcement learning without learning rewards."""
    states = torch.randn(8, STEPS, STATE, generator=generator)
    actions = states[..., :ACTION].tanh()
    start = torch.randint(EPISODE - STEPS, (8, 1), generator=generator)
    out = model(
        states=states,
        actions=actions,
        rewards=torch.zeros(8, STEPS, 1),
        returns_to_go=torch.rand(8, STEPS, 1, generator=generator),
        timesteps=start + torch.arange(STEPS),
        attention_mask=torch.ones(8, STEPS),
    )
    return nn.functional.mse_loss(out.action_preds, actions)


NOTE = (
    "adapters on all layers of the blocks; trained beside them are betas, norms, the embeddings of time, state, action "
    "and return, and the head for actions. The paper's 37.5 and 1.87 % would follow from this with q, k and v as three "
    "layers, no table of positions, no heads for states and returns, and adapters counted in the total; the library "
    "has q, k and v in one layer."
)


def case(name: str, width: int, depth: int, heads: int, rank: int, percent: float) -> Case:
    train = ["norms", "embed_ln", "embed_timestep", "embed_state", "embed_action", "embed_return", "predict_action.0"]
    return Case(
        name=f"Decision Transformer {name}, rank {rank}",
        build=partial(build, width, depth, heads),
        scaffold={
            "rank": rank,
            "targets": ["encoder.h.*.attn.c_attn", "encoder.h.*.attn.c_proj", "encoder.h.*.mlp.c_*"],
            "train": train,
        },
        loss=loss,
        paper_total="not given",
        paper_percent=percent,
        note=NOTE,
        large=depth > 3,
    )


CASES = [case("128d x 3", 128, 3, 1, 32, 37.5), case("1024d x 12", 1024, 12, 16, 8, 1.87)]

if __name__ == "__main__":
    main(CASES)
