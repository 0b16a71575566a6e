"""The file format: canonical JSON, the container, the descriptor's records and checks, open packs and recipes.

Importing this package does not import torch.
"""
