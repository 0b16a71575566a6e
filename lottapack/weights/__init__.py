"""Turn a pack's records into tensors: generated, read or merged, whole or in parts."""
