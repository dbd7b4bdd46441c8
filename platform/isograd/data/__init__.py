"""Data: what a batch is, data kinds, and where batches come from."""
