"""isograd: an experiment platform for supervised local learning."""
