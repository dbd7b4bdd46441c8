"""`isograd train --from-trial`: a study's trial again, on its own."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rich.console import Console

from isograd.config.load import changing, overridden
from isograd.display.run import train
from isograd.engine.config import RunConfig, fingerprint, rounding
from isograd.errors import ConfigError
from isograd.executors.hosts import Hosts
from isograd.run.experiment import prepare
from isograd.run.folder import check_writable
from isograd.run.folder import choose as choose_folder
from isograd.system.console import say
from isograd.tune.chosen import Chosen, choose


def rerun(text: str, overrides: Sequence[str], console: Console) -> int:
    """Trains all seeds of a trial, and says whether they come to the numbers that the study has.

    Args:
        text: The trial; see :func:`~isograd.tune.chosen.choose`.
        overrides: Of executor, cluster, checkpoints, folders and the place of the data; what changes the numbers is
            refused.
        console: For progress.

    Returns:
        The exit status: 1 where any number differs.

    Raises:
        IsogradError: There is no such trial, or an override would change its numbers.
    """
    chosen = choose(text, overrides)
    configs = configs_of(chosen, overrides)
    for config in configs:
        check_writable(choose_folder(config))  # all of them, before the first one trains
    found: dict[tuple[int, int], float] = {}
    with Hosts() as hosts:
        for config in configs:
            result = train(prepare(config), console, hosts.open)
            found |= {(config.seed, row["epoch"]): row["module_test_errors"][-1] for row in result.history}
    differing = [key for key, error in chosen.test_errors.items() if found.get(key) != error]
    say(console, f"\n{_said(chosen, found, differing)}")
    return int(bool(differing))


def configs_of(chosen: Chosen, overrides: Sequence[str]) -> list[RunConfig]:
    """Returns the configurations of a trial's runs with overrides, one a seed.

    Raises:
        ConfigError: An override would change the trial's numbers.
    """
    return [_with(chosen, seed, overrides) for seed in chosen.seeds]


def _with(chosen: Chosen, seed: int, overrides: Sequence[str]) -> RunConfig:
    """Returns the configuration of a seed's run; a run's name, where there are several, gets the seed as well."""
    config = chosen.config_of(seed)
    made = overridden(config, overrides)
    if refused := changing(config, overrides, _computed):
        raise ConfigError(
            f"{' '.join(refused)} changes what the trial computes",
            "A trial that runs again is to come to the same numbers",
            "Use overrides of executor (but for threads and microbatches), cluster, checkpoint, folder, run_name and "
            "data.path.",
        )
    if made.run_name != config.run_name and len(chosen.seeds) > 1:
        return replace(made, run_name=f"{made.run_name}-seed{seed}")
    return made


def _computed(config: RunConfig) -> tuple[Any, ...]:
    """Returns what the numbers of a run depend on."""
    return fingerprint(config), rounding(config), config.train


def _said(chosen: Chosen, found: dict[tuple[int, int], float], differing: Sequence[tuple[int, int]]) -> str:
    epoch = chosen.outcome.epoch
    ours = sum(found[seed, epoch] for seed in chosen.seeds if (seed, epoch) in found) / len(chosen.seeds)
    seeds = ", ".join(map(str, chosen.seeds))
    of = f"mean over seeds {seeds}" if len(chosen.seeds) > 1 else f"seed {seeds}"
    said = f"{chosen.name}: test error {100 * ours:.2f} % after epoch {epoch}, {of}"
    if not differing:
        return f"{said}; equal to the study's to the last bit, in every epoch"
    seed, first = min(differing, key=lambda key: key[1])
    return (
        f"{said}; the study has {100 * chosen.outcome.metrics['test_error']:.2f} %. They differ from epoch {first} on "
        f"(seed {seed}): {found.get((seed, first))} here, {chosen.test_errors[seed, first]} there"
    )
