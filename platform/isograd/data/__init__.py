"""Data: sources of batches, transforms, preparation."""
