"""IMDB: a transformer of 3 layers and width 256 on the 30,522 word pieces of BERT."""

import torch
from paper_run import Case, main
from torch import Tensor, nn
from transformers import DistilBertConfig, DistilBertForSequenceClassification

WORDS = 30_522


def build(layers: int | None = None) -> nn.Module:
    return DistilBertForSequenceClassification(
        DistilBertConfig(vocab_size=WORDS, dim=256, n_layers=layers or 3, n_heads=4, hidden_dim=1024, num_labels=2)
    )


def loss(model: nn.Module, generator: torch.Generator) -> Tensor:
    """Make reviews of 64 words; those whose first word is in the upper half are positive."""
    words = torch.randint(WORDS, (16, 64), generator=generator)
    good = (words[:, 0] >= WORDS // 2).long()
    return nn.functional.cross_entropy(model(input_ids=words).logits, good)


CASES = [
    Case(
        name="Text transformer 3x256, rank 8",
        build=build,
        scaffold={
            "rank": 8,
            "alpha": 16.0,
            "targets": ["q_lin", "k_lin", "v_lin", "out_lin"],
            "train": "classifier",
        },
        loss=loss,
        paper_total="10.3M",
        paper_percent=0.48,
        note="adapters on q, k, v and o; trained beside them are betas and the last layer; word embeddings stay "
        "random. DistilBERT's head has one layer more (65,792 parameters, random here); without it there are 10.3M.",
    )
]

if __name__ == "__main__":
    main(CASES)
