"""Searching what local learning has to choose: spaces, studies and sweeps over Ray Tune and Optuna."""
