"""Blocks made from their neighbours' weights: replacement learning (RepL)."""
