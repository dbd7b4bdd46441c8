"""A study's side of Ray Tune: its searcher, when trials are stopped, and what becomes of those that are lost.

Early stopping is ASHA by epochs of the full schedule (Li et al., "A System for Massively Parallel Hyperparameter
Tuning", MLSys 2020): every trial trains under the learning-rate schedule of its whole length, and at certain epochs it
goes on only if it is among the best 1/reduction of those that have come so far.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeGuard, TypeVar, cast

from ray import cloudpickle, tune
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.exceptions import RayError, RayTaskError
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from isograd.cluster.death import as_actors, death_of
from isograd.display.measures import SCORE, Measure
from isograd.engine.config import to_dict
from isograd.tune.judge import mode_of
from isograd.tune.results import Assignment, Outcome
from isograd.tune.study import Study
from isograd.tune.sweep_config import SweepConfig
from isograd.tune.trial import FAILED, LOST, RESULT, TRAINED, TROUBLE, Leg, Loss, bundles

T = TypeVar("T")
Listener = Callable[[Assignment, Outcome], None]


class Losses:
    """Counts the losses of each trial, and says whether it is tried again, and when.

    A loss counts once an event. The death of a node is one, however many of a trial's processes end with it or cannot
    start on it: for some seconds Ray takes a node that has just died for alive, and goes on to use it.

    Args:
        num_retries: After how many losses a trial is still tried again.
        is_settled: Whether a node that was lost is known to be dead by now, or answers again.
    """

    def __init__(self, num_retries: int, is_settled: Callable[[str], bool]) -> None:
        self._num_retries, self._is_settled = num_retries, is_settled
        self._counts: dict[int, int] = {}
        self._counted: set[tuple[int, str]] = set()  # (trial, node)
        self._unsettled: set[str] = set()

    def take(self, trial: int, loss: Loss) -> bool:
        """Takes a loss. Returns whether the trial is to be tried again."""
        if loss.lost_node:
            self._unsettled.add(loss.lost_node)
            if (trial, loss.lost_node) in self._counted:
                return True
            self._counted.add((trial, loss.lost_node))
        self._counts[trial] = self.count(trial) + 1
        return self.count(trial) <= self._num_retries

    def count(self, trial: int) -> int:
        """Returns how often a trial was lost."""
        return self._counts.get(trial, 0)

    @property
    def may_start(self) -> bool:
        """Whether a trial may start: not while it might be put on a node that is dead, and not yet known to be."""
        self._unsettled = {node for node in self._unsettled if not self._is_settled(node)}
        return not self._unsettled


class StudySearch(OptunaSearch):
    """Hands Tune a study's proposals, and the study what comes of them.

    Tune's own searcher records a trial that was stopped early as complete, with the value it had then; knows neither
    conditions by file, nor refusals, nor a sweep that goes on. The study has all that; what is left here is to
    translate, and to tell how a trial ended.

    Args:
        study: The study.
        how: What every trial is given beside its configuration; see :class:`~isograd.tune.trial.Trial`.
        losses: Decides which trials that are lost are tried again. Tune itself tries none again: it counts a node's
            death once for every process that could not start there, and twice where that was to take over a trial.
        take: Takes every record of an epoch, with the trial's number.
        ended: Is told of every trial's end.

    Attributes:
        failure: What went wrong here, such as a storage that is locked, or on the machine, such as a disk that is full;
            Tune would take it for the trial's. Nothing is proposed or told after it, so a sweep that goes on finds the
            trials as under way.
    """

    def __init__(
        self,
        study: Study,
        how: Mapping[str, Any],
        losses: Losses,
        take: Callable[[int, Mapping[str, Any]], None],
        ended: Listener,
    ) -> None:
        super().__init__(metric=SCORE, mode=mode_of(study.request.measures[SCORE]))
        self._study, self._how = study, how
        self._take, self._ended = take, ended
        self._losses = losses
        self._assignments: dict[str, Assignment] = {}
        self._again: list[Assignment] = []
        self._reached: dict[int, int] = {}  # trial -> the last epoch that its scheduler has seen
        self._is_exhausted = False
        self.failure: Exception | None = None

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        """Takes nothing from Tune: the study has it all."""
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Returns a trial that was lost, or what the study proposes; nothing while another one may still be lost."""
        if self.failure is not None:
            raise self.failure
        if not self._losses.may_start:
            return None
        assignment = self._again.pop(0) if self._again else self._propose()
        if self.failure is not None:
            raise self.failure
        if assignment is None:
            return None if self._assignments else Searcher.FINISHED
        self._assignments[trial_id] = assignment
        config, folder = assignment.config, self._study.request.trial_folder(assignment.number)
        text = json.dumps(to_dict(config))  # one value: Tune copies, flattens and encodes whatever is nested
        legs = [epoch for epoch in self._how["legs"] if epoch > self._reached.get(assignment.number, 0)]
        return {"config": text, "folder": str(folder), "bundles": bundles(config), **self._how, "legs": legs}

    def _propose(self) -> Assignment | None:
        """Asks the study until it has nothing left; a second time it would draw in vain all over again."""
        assignment = None if self._is_exhausted else self._do(self._study.propose)
        self._is_exhausted = assignment is None
        return assignment

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Takes a leg of a trial that goes on."""
        number, leg = self._assignments[trial_id].number, result.get(RESULT)
        self._do(self._take_leg, number, leg)
        if leg is not None:
            self._reached[number] = leg.epoch

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Takes a trial's end: it is complete, was stopped, has failed, or was lost."""
        if trial_id not in self._assignments or error or not result:
            return  # lost, which take_loss is told; or broken off, and a sweep that goes on takes it up
        if TROUBLE in result:
            self.failure = self.failure or result[TROUBLE]
            return
        if LOST in result:
            self.take_loss(trial_id, result[LOST], result[TRAINED])
            return
        assignment, outcome = self._assignments.pop(trial_id), self._outcome(result)
        self._do(self._take_leg, assignment.number, result.get(RESULT), ends=outcome.kind == "complete")
        self._end(assignment, outcome)

    def take_loss(self, trial_id: str, loss: Loss, epoch: int = 0) -> None:
        """Takes the loss of a trial's process or node, which is tried again or told so.

        Args:
            trial_id: Tune's name of the trial.
            loss: How it came to that.
            epoch: The last one that it is known to have trained.
        """
        assignment = self._assignments.pop(trial_id, None)
        if assignment is None:
            return
        number = assignment.number
        if self._losses.take(number, loss):
            self._again.append(assignment)
            return
        count = self._losses.count(number)
        times = f"; lost {count} times" if count > 1 else ""
        reached = max(epoch, self._reached.get(number, 0))
        self._end(assignment, Outcome("lost", {}, reached, f"{loss.reason}{times}"))

    def _end(self, assignment: Assignment, outcome: Outcome) -> None:
        self._do(self._study.tell, assignment.number, outcome)
        self._do(self._ended, assignment, outcome)

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune keeps a copy of all that it is given, to restore from; we go on from the study

    def __deepcopy__(self, memo: dict[int, Any]) -> "StudySearch":
        return self

    def save(self, checkpoint_path: str) -> None:
        """Saves nothing: the study is in its storage."""

    def restore(self, checkpoint_path: str) -> None:
        """Restores nothing."""

    def _take_leg(self, number: int, leg: Leg | None, *, ends: bool = False) -> None:
        """Takes what a leg measured. What a trial has come to at its end is its value, and not told twice."""
        if leg is None:
            return
        for record in leg.records:
            self._take(number, record)
        if not ends:
            self._study.report(number, leg.epoch, leg.metrics)

    def _do(self, work: Callable[..., T], *arguments: Any, **options: Any) -> T | None:
        """Does something of ours, unless something went wrong before; keeps what goes wrong."""
        if self.failure is not None:
            return None
        try:
            return work(*arguments, **options)
        except Exception as error:
            self.failure = error
            return None

    def _outcome(self, result: Mapping[str, Any]) -> Outcome:
        if FAILED in result:
            return Outcome("failed", {}, result[TRAINED], result[FAILED])
        leg: Leg = result[RESULT]
        kind = "complete" if leg.is_complete else "pruned"
        metrics = {**leg.metrics, "wall_s": result["wall_s"]}
        return Outcome(kind, metrics, leg.epoch, "", [asdict(run) for run in leg.runs], result.get("hostname", ""))


def make_scheduler(
    config: SweepConfig, measure: Measure, num_epochs: int, earlier: Mapping[int, Mapping[int, float]]
) -> TrialScheduler:
    """Returns Tune's scheduler.

    Args:
        config: Which one.
        measure: Of the score.
        num_epochs: Of a trial's full length.
        earlier: Trial -> score by epoch, of the trials of a sweep that goes on: they set the bar as before.
    """
    if config.scheduler == "none" or config.grace_epochs >= num_epochs:
        return FIFOScheduler()
    scheduler = ASHAScheduler(
        time_attr="epoch",
        metric=SCORE,
        mode=mode_of(measure),
        max_t=num_epochs,
        grace_period=config.grace_epochs,
        reduction_factor=config.reduction,
    )
    for number, scores in earlier.items():
        trial = cast(Any, SimpleNamespace(trial_id=f"earlier-{number}"))  # all that a bracket asks of one
        for epoch in config.stops(num_epochs)[:-1]:
            if epoch in scores:
                scheduler._brackets[0].on_result(trial, epoch, -measure.cost(scores[epoch]))
    return scheduler


class Watch(tune.Callback, tune.Stopper):
    """Tells a search of trials whose actors have died, and of how; stops all trials once it cannot go on.

    What they would come to after that would be thrown away.
    """

    def __init__(self, search: StudySearch) -> None:
        self._search = search

    def on_trial_error(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        """Takes the end of an actor, or of what Tune did with it."""
        path = trial.pickled_error_file  # that it has just written, not the copy that it may make later
        error = cloudpickle.loads(Path(path).read_bytes()) if path and Path(path).is_file() else None
        if _is_death(error):
            death = death_of(error)
            loss = Loss(str(death), death.lost_node)
        else:
            loss = Loss(f"its process failed outside of training ({' '.join(str(error).split())[-300:]})")
        self._search.take_loss(trial.trial_id, loss)

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Stops no trial by its result."""
        return False

    def stop_all(self) -> bool:
        """Whether the search cannot go on."""
        return self._search.failure is not None


def _is_death(error: BaseException | None) -> TypeGuard[RayError]:
    return isinstance(error, RayError) and not isinstance(error, RayTaskError)


@contextmanager
def report_as_actors() -> Iterator[None]:
    """Runs a block in which Tune takes every loss of an actor as one.

    It ends the whole sweep by an error of its own for a process that Ray ended for want of memory, or that never came
    to run because its placement group had gone: Ray does not report these as errors of an actor.
    """
    fail = RayActorManager._actor_task_failed

    def take(self: RayActorManager, tracked_actor_task: Any, exception: Exception) -> None:
        if _is_death(exception):
            exception = as_actors(exception)
        fail(self, tracked_actor_task, exception)

    RayActorManager._actor_task_failed = take
    try:
        yield
    finally:
        RayActorManager._actor_task_failed = fail
