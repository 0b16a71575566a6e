"""The file format: canonical JSON, the container, the descriptor's records and checks, the opened pack, the recipe.

Nothing here imports torch.
"""
