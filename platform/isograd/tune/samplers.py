"""Samplers, by the names that a sweep has for them: Optuna's, and our own."""

import warnings

from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, NSGAIISampler, TPESampler

from isograd.tune.space import Ground, SearchSpace
from isograd.tune.space_sampler import SpaceSampler
from isograd.tune.sweep_config import SweepConfig
from isograd.tune.untried import UntriedSampler


def make_sampler(config: SweepConfig, seed: int, space: SearchSpace, ground: Ground) -> BaseSampler:
    """Returns the sampler; of several objectives TPE is the multi-objective one.

    Args:
        config: Which, and after how many random trials.
        seed: Of its draws.
        space: What is searched.
        ground: What the space stands on.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        if config.sampler_name == "random":
            return UntriedSampler(space, ground, seed)
        if config.sampler_name == "nsga2":
            return NSGAIISampler(seed=seed, population_size=max(config.num_startup, 2))
        if config.sampler_name == "gp":
            return SpaceSampler(space, ground, seed, config.num_startup)
        # Together, since cuts and decay depend on each other; in groups, since conditions leave parameters out; and
        # trials under way count as bad, so that workers side by side do not try the same.
        return TPESampler(
            seed=seed, n_startup_trials=config.num_startup, multivariate=True, group=True, constant_liar=True
        )
