"""Local learning: modules, methods, auxiliary networks, and the step that every executor calls."""
