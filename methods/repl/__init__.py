"""RepL, replacement learning, and the parts that it is made of."""
