"""How messages travel between stages: one class a file."""
