"""From a pack's records to tensors: generated, read, merged, whole or in parts."""
