"""Executors: the same local modules in one process, or one Ray actor a stage; or one network in pieces, end to end."""
