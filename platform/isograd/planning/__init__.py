"""Forecasts: what a run would cost, and where to cut it, before it starts."""
