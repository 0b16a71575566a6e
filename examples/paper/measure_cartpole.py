"""The cart-pole for measure.py: balance a pole for up to 500 steps, learned from rewards.

The equations are those of Barto, Sutton and Anderson (1983) with the constants of gymnasium's CartPole-v1, for many
poles at once. The policy is a perceptron; REINFORCE trains it, with the mean return of all poles at a step as baseline.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

LIMIT, POLES, ROUNDS, GAMMA = 500, 32, 40, 0.99


def build() -> nn.Module:
    """Return a policy: from place, speed, angle and turning speed to the logits of left and right."""
    return nn.Sequential(nn.Linear(4, 128), nn.Tanh(), nn.Linear(128, 128), nn.Tanh(), nn.Linear(128, 2))


def moved(state: Tensor, right: Tensor) -> Tensor:
    """Return the states a fiftieth of a second later, after a push of 10 N to the right or the left."""
    place, speed, angle, turning = state.unbind(1)
    push = torch.where(right, 10.0, -10.0)
    sine, cosine = angle.sin(), angle.cos()
    pulled = (push + 0.05 * turning**2 * sine) / 1.1
    bend = (9.8 * sine - cosine * pulled) / (0.5 * (4 / 3 - 0.1 * cosine**2 / 1.1))
    gain = pulled - 0.05 * bend * cosine / 1.1
    return torch.stack([place + 0.02 * speed, speed + 0.02 * gain, angle + 0.02 * turning, turning + 0.02 * bend], 1)


def fallen(state: Tensor) -> Tensor:
    """Return which carts left the track or lost their pole (12 degrees)."""
    return (state[:, 0].abs() > 2.4) | (state[:, 2].abs() > 12 * math.pi / 180)


@torch.no_grad()
def play(model: nn.Module, draws: torch.Generator, poles: int, best: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return states, actions and which poles still stood, each by step; ``best`` takes the likelier action."""
    state = torch.rand(poles, 4, generator=draws) * 0.1 - 0.05
    up = torch.ones(poles, dtype=torch.bool)
    states, actions, stood = [], [], []
    for _ in range(LIMIT):
        share = model(state).softmax(1)[:, 1]
        right = share > (0.5 if best else torch.rand(poles, generator=draws))
        states.append(state)
        actions.append(right)
        stood.append(up)
        state = torch.where(up[:, None], moved(state, right), state)
        up = up & ~fallen(state)
        if not up.any():
            break
    return torch.stack(states), torch.stack(actions), torch.stack(stood)


def learn(model: nn.Module, run: dict[str, Any]) -> dict[str, float]:
    """Train with AdamW; return the mean steps of 100 poles to tune with and of 100 others to test."""
    draws = torch.Generator().manual_seed(run["seed"])
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=run["lr"], weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, ROUNDS)
    for _ in range(ROUNDS):
        states, actions, stood = play(model.eval(), draws, POLES, best=False)
        returns = torch.zeros(stood.shape)
        ahead = torch.zeros(POLES)
        for step in reversed(range(len(stood))):
            ahead = returns[step] = stood[step] * (1 + GAMMA * ahead)
        worth = returns - (returns.sum(1) / stood.sum(1))[:, None]
        worth = worth[stood] / worth[stood].std()
        model.train()
        chances = model(states[stood]).log_softmax(1).gather(1, actions[stood].long()[:, None])[:, 0]
        optimizer.zero_grad()
        (-(chances * worth).mean()).backward()
        optimizer.step()
        schedule.step()
    parts = {"tune": 1_000_000, "test": 2_000_000}
    played = {
        name: play(model.eval(), torch.Generator().manual_seed(seed), 100, best=True)[2] for name, seed in parts.items()
    }
    return {name: round(stood.sum().item() / 100, 2) for name, stood in played.items()}
