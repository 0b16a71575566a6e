"""A graph isomorphism network for molecules as a user's own class: load its pack with ``allow``."""

import torch
from torch import Tensor, nn
from torch_geometric.nn import GINEConv, global_mean_pool

ATOM = (119, 5, 12, 12, 10, 6, 6, 2, 2)
"""How many values each of an atom's nine features has in OGB."""

BOND = (5, 6, 2)
"""The same for the three features of a bond."""


class Features(nn.Module):
    """Sums one embedding for each categorical feature."""

    def __init__(self, sizes: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(size, width) for size in sizes)

    def forward(self, x: Tensor) -> Tensor:
        """Args: x, shape (n, len(sizes)), integers. Returns: shape (n, width)."""
        return torch.stack([table(x[:, column]) for column, table in enumerate(self.tables)]).sum(0)


class MoleculeGIN(nn.Module):
    """GIN with bonds. The mean over a molecule's atoms gives one logit a task."""

    def __init__(self, layers: int, width: int, tasks: int) -> None:
        super().__init__()
        self.atoms = Features(ATOM, width)
        self.bonds = Features(BOND, width)
        self.convs = nn.ModuleList(
            GINEConv(nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width)), train_eps=True)
            for _ in range(layers)
        )
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) for _ in range(layers))
        self.head = nn.Linear(width, tasks)

    def forward(self, atoms: Tensor, edges: Tensor, bonds: Tensor, molecule: Tensor) -> Tensor:
        """Args: shapes (n, 9), (2, m), (m, 3), (n,), integers. Returns: shape (molecules, tasks)."""
        x, between = self.atoms(atoms), self.bonds(bonds)
        for number, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = norm(conv(x, edges, between))
            x = x.relu() if number + 1 < len(self.convs) else x
        pooled: Tensor = self.head(global_mean_pool(x, molecule))
        return pooled
