"""Executors: the same local modules in one process or in many; one class each."""
