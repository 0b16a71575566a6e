"""Zachary's karate club for measure.py: who stays with which club, from the friendships and four known members of each.

A graph convolutional network (Kipf and Welling, arXiv 1609.02907) of three layers on the 34 members, whose only
features are their numbers. The seed also chooses who is known, who tunes and who tests. Needs networkx.
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

MEMBERS, WIDTH, STEPS, KNOWN, TUNE = 34, 32, 150, 4, 8


def build() -> nn.Module:
    """Return the layers; learn() mixes their inputs along the friendships."""
    return nn.Sequential(nn.Linear(MEMBERS, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 2))


@cache
def club() -> tuple[Tensor, Tensor]:
    """Return D^-1/2 (A + I) D^-1/2 and the club of each member."""
    import networkx

    graph = networkx.karate_club_graph()
    links = torch.eye(MEMBERS)
    for one, other in graph.edges:
        links[one, other] = links[other, one] = 1
    root = links.sum(1).rsqrt()
    labels = [int(graph.nodes[member]["club"] == "Officer") for member in range(MEMBERS)]
    return root[:, None] * links * root, torch.tensor(labels)


def learn(model: nn.Module, run: dict[str, Any]) -> dict[str, float]:
    """Train with AdamW; return right answers in per cent, of the members to tune with and to test."""
    mix, labels = club()
    order = torch.randperm(MEMBERS, generator=torch.Generator().manual_seed(run["seed"]))
    known = torch.cat([order[labels[order] == which][:KNOWN] for which in (0, 1)])
    rest = order[~torch.isin(order, known)]
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=run["lr"], weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for _ in range(STEPS):
        optimizer.zero_grad()
        F.cross_entropy(answers(model.train(), mix)[known], labels[known]).backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        right = (answers(model.eval(), mix).argmax(1) == labels).float()
    parts = {"tune": rest[:TUNE], "test": rest[TUNE:]}
    return {name: round(100 * right[part].mean().item(), 3) for name, part in parts.items()}


def answers(model: nn.Module, mix: Tensor) -> Tensor:
    """Return the logits of all members."""
    x = torch.eye(MEMBERS)
    for number, layer in enumerate(model.children()):
        x = layer(x if number % 2 else mix @ x)
    return x
