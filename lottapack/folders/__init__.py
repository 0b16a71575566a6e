"""Read and write the folders and checkpoints of other libraries and trainers."""
