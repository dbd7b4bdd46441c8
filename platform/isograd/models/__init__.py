"""Backbones as chains of units."""
