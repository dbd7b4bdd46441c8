"""Configuration of a run: its schema, its YAML groups, and how they are composed."""
