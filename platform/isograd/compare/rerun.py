"""A study's trial trained again, and held against what the study has of it: `isograd train --from-trial`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from rich.console import Console

from isograd.display.measures import SCORE
from isograd.system.console import say
from isograd.tune.choice import TrialChoice, choose
from isograd.tune.judge import SPLIT


def rerun(text: str, overrides: Sequence[str], console: Console) -> int:
    """Trains all seeds of a trial, and says whether they come to the numbers that the study has.

    Args:
        text: The trial; see :func:`isograd.tune.choice.choose`.
        overrides: Of executor, cluster, checkpoints, folders and the place of the data; what changes the numbers is
            refused.
        console: For progress.

    Returns:
        The exit status: 1 where any number differs.

    Raises:
        IsogradError: There is no such trial, or an override would change its numbers.
    """
    from isograd.display.run import train
    from isograd.executors.hosts import Hosts
    from isograd.run.experiment import prepare
    from isograd.run.folder import check_writable
    from isograd.run.folder import choose as choose_folder

    trial = choose(text, overrides)
    configs = trial.configs(overrides)
    for config in configs:
        check_writable(choose_folder(config))  # all of them, before the first one trains
    scores: dict[tuple[int, int], float] = {}
    with Hosts() as hosts:
        for config in configs:
            prepared = prepare(config)
            often = replace(prepared.program, evaluate_epochs=1)  # wherever a trial's leg ended
            record = train(replace(prepared, program=often), console, hosts.open)
            scores |= {(config.seed, epoch): score for epoch, score in record.by_epoch(SPLIT).items()}
    differing = [key for key, score in trial.scores.items() if scores.get(key) != score]
    say(console, f"\n{_compare(trial, scores, differing)}")
    return int(bool(differing))


def _compare(trial: TrialChoice, scores: Mapping[tuple[int, int], float], differing: Sequence[tuple[int, int]]) -> str:
    epoch = trial.outcome.epoch
    ours = sum(scores[seed, epoch] for seed in trial.seeds if (seed, epoch) in scores) / len(trial.seeds)
    seeds = ", ".join(map(str, trial.seeds))
    of = f"mean over seeds {seeds}" if len(trial.seeds) > 1 else f"seed {seeds}"
    result = f"{trial.name}: {trial.measure.label} {trial.measure.text(ours)} after epoch {epoch}, {of}"
    if not differing:
        return f"{result}; equal to the study's to the last bit, in every epoch"
    seed, first = min(differing, key=lambda key: key[1])
    return (
        f"{result}; the study has {trial.measure.text(trial.outcome.metrics[SCORE])}. They differ from epoch {first} "
        f"on (seed {seed}): {scores.get((seed, first))} here, {trial.scores[seed, first]} there"
    )
