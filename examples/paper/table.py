"""Run all models of the paper in turn and print the table of README.md. The largest takes 11 GB of memory."""

import cfc
import decision_transformer
import gcn
import gin
import llama
import mlp
import plain20
import text
import vit
from paper_run import main

CASES = [
    case for example in (mlp, cfc, plain20, gin, gcn, decision_transformer, vit, text, llama) for case in example.CASES
]

if __name__ == "__main__":
    main(CASES)
