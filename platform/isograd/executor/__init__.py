"""Executors: the same local modules in one process, or one Ray actor a stage."""
