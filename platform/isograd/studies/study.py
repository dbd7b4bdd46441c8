"""A study as its table has it: trials with all that was measured, and what is asked of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isograd.data.identity import Identity
from isograd.display.measures import METRICS, Measure, measures_of
from isograd.errors import StudyError
from isograd.registry import suggestion
from isograd.run.record import RunRecord
from isograd.studies.statistics import Spread, spread
from isograd.tasks.task import Score
from isograd.tune.judge import beats
from isograd.tune.space import Parameter
from isograd.tune.table import TABLE

if TYPE_CHECKING:
    from pandas import DataFrame

KINDS = ("complete", "pruned", "failed", "lost", "running")


@dataclass(frozen=True)
class Trial:
    """A configuration that was tried, with all its seeds.

    Attributes:
        kind: ``complete``; ``pruned`` (stopped early, behind others); ``failed``; ``lost`` (its process or node);
            ``running`` (nothing came of it yet).
        reason: Why it failed or was lost.
        epoch: The last one that all its seeds trained.
        metrics: At its end, by name: scores as their metric computes them, times in seconds, memory in bytes. Of a
            trial that failed or was lost, none.
        values: Of the parameters that it had: a number, the label of a categorical value, or the names of the units
            that end all local modules but the last.
        records: One a seed; of a trial that failed or was lost, with its epochs alone.
        config: Of its runs, apart from seed and folder, as plain values.
        units: The backbone's, in order.
    """

    number: int
    kind: str
    reason: str
    epoch: int
    seeds: tuple[int, ...]
    metrics: Mapping[str, float]
    values: Mapping[str, Any]
    records: Mapping[int, RunRecord]
    config: Mapping[str, Any]
    units: tuple[str, ...]
    host: str

    @property
    def is_complete(self) -> bool:
        """Whether it trained all epochs, so that its metrics stand beside those of others."""
        return self.kind == "complete"

    @property
    def scores(self) -> dict[int, Spread]:
        """Epoch -> score over seeds, on the split that judges, for the epochs that all seeds have."""
        by_epoch: dict[int, list[float]] = {}
        for record in self.records.values():
            for epoch, score in record.by_epoch().items():
                by_epoch.setdefault(epoch, []).append(score)
        spreads = {epoch: spread(scores) for epoch, scores in sorted(by_epoch.items())}
        return {epoch: each for epoch, each in spreads.items() if each and each.num_values == len(self.seeds)}

    def positions(self, name: str) -> tuple[int, ...]:
        """Returns for each cut of the parameter ``name`` how many units lie before it; none where it is absent."""
        return tuple(self.units.index(unit) + 1 for unit in self.values.get(name, ()))


@dataclass(frozen=True)
class StudyTable:
    """A study, from its table alone.

    Attributes:
        parameters: What is searched, in the space's order.
        items: What the command line asked for beyond the space.
        score: By which its trials are judged.
        split: On which; the test split only where there is no validation split.
        objectives: Names of the metrics that are searched for.
        num_epochs: Of a complete trial.
        num_trials: How many configurations the study is to try.
        sampler: In words, with its seed; so is the scheduler.
        reuses_processes: Whether a trial took over the processes of one before it.
        trials: By number.
        data: What all trials trained on; None where the table does not say.
    """

    file: Path
    name: str
    space: str
    parameters: tuple[Parameter, ...]
    items: tuple[str, ...]
    score: Score
    split: str
    objectives: tuple[str, ...]
    seeds: tuple[int, ...]
    num_epochs: int
    num_trials: int
    sampler: str
    scheduler: str
    reuses_processes: bool
    trials: tuple[Trial, ...]
    provenance: Mapping[str, Any]
    data: Identity | None = None

    @property
    def folder(self) -> Path:
        """Where the table is: the study's folder, unless the table has been taken elsewhere."""
        return self.file.parent

    @property
    def path(self) -> Path:
        """What the study is found by: its folder, or the table where that has a name of its own."""
        return self.folder if self.file.name == TABLE else self.file

    @cached_property
    def measures(self) -> Mapping[str, Measure]:
        """How each metric of a trial is written, and which values of it are better."""
        return measures_of(self.score, self.split)

    @property
    def complete(self) -> tuple[Trial, ...]:
        """Trials that trained all epochs."""
        return tuple(trial for trial in self.trials if trial.is_complete)

    @property
    def best(self) -> Trial | None:
        """The complete trial that no other beats: None where there is none, or a front of several."""
        front = self.front()
        return front[0] if len(front) == 1 else None

    def front(self, objectives: Sequence[str] = ()) -> tuple[Trial, ...]:
        """Returns the complete trials that no other complete one beats in all objectives; of one, the best alone.

        Args:
            objectives: Names of metrics; the study's own where none are given.

        Raises:
            StudyError: There is no such metric.
        """
        names = tuple(objectives) or self.objectives
        for name in names:
            _check_metric(name)
        costs = [[self.measures[name].cost(trial.metrics[name]) for name in names] for trial in self.complete]
        pairs = zip(self.complete, costs, strict=True)
        front = tuple(trial for trial, own in pairs if not any(beats(other, own) for other in costs))
        return front if len(names) > 1 else front[:1]

    def trial(self, number: int) -> Trial:
        """Returns a trial.

        Raises:
            StudyError: There is none of that number.
        """
        by_number = {trial.number: trial for trial in self.trials}
        if number not in by_number:
            numbers = list(map(str, by_number))
            raise StudyError(
                f"study {self.name} has no trial {number}",
                f"Its {len(numbers)} trials are {', '.join(numbers[:12])}{' ...' * (len(numbers) > 12)}",
                "Use one of these numbers.",
            )
        return by_number[number]

    def frame(self) -> "DataFrame":
        """Returns a row a trial: outcome, metrics and parameters, absent ones empty.

        A parameter that is called as one of the other columns has ``parameter`` before its name.
        """
        from pandas import DataFrame

        fixed = ["trial", "kind", "epoch", *METRICS, "reason"]
        names = [parameter.name for parameter in self.parameters]
        columns = {name: f"parameter {name}" if name in fixed else name for name in names}
        rows = [
            {"trial": trial.number, "kind": trial.kind, "epoch": trial.epoch, "reason": trial.reason, **trial.metrics}
            | {column: trial.values.get(name) for name, column in columns.items()}
            for trial in self.trials
        ]
        return DataFrame(rows, columns=[*fixed[:-1], *columns.values(), fixed[-1]]).set_index("trial")

    def epochs(self) -> "DataFrame":
        """Returns a row a trial, seed, epoch, split and local module: its loss, and a column a metric of the task."""
        from pandas import DataFrame

        rows = [
            {"trial": trial.number, "kind": trial.kind, "seed": seed, "epoch": each.epoch, "split": each.split}
            | {"module": each.module, "loss": each.loss, **each.values}
            for trial in self.trials
            for seed, record in trial.records.items()
            for each in record.epochs
        ]
        return DataFrame(rows, columns=None if rows else ["trial", "kind", "seed", "epoch", "split", "module", "loss"])


def _check_metric(name: str) -> None:
    if name not in METRICS:
        raise StudyError(
            f"there is no metric '{name}'.{suggestion(name, list(METRICS))}",
            f"A trial has {', '.join(METRICS)}",
            "Use one of these.",
        )
