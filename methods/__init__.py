"""Local-learning methods, one file each."""
