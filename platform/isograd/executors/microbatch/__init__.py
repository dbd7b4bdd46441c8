"""End-to-end training in a pipeline that carries gradients: the baseline."""
