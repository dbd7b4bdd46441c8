"""A study as Ray Tune's searcher."""

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from isograd.engine.config import to_dict
from isograd.tune.legs import Leg, as_json
from isograd.tune.losses import Loss, Losses
from isograd.tune.resources import bundles
from isograd.tune.study import Assignment, Outcome, Study
from isograd.tune.trial import FAILED, LOST, RESULT, TRAINED, TROUBLE

T = TypeVar("T")
Listener = Callable[[Assignment, Outcome], None]


class StudySearch(OptunaSearch):
    """Hands Tune a study's proposals, and the study what comes of them.

    Tune's own searcher records a trial that was stopped early as complete, with the value it had then; knows neither
    conditions by file, nor refusals, nor a sweep that goes on. The study has all that; what is left here is to
    translate, and to tell how a trial ended.

    Args:
        study: The study.
        how: What every trial is given beside its configuration; see :class:`~isograd.tune.trial.Trial`.
        num_epochs: Of a trial's full length.
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
        num_epochs: int,
        losses: Losses,
        take: Callable[[int, Mapping[str, Any]], None],
        ended: Listener,
    ) -> None:
        super().__init__(metric="test_error", mode="min")
        self._study, self._how, self._num_epochs = study, how, num_epochs
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
        assignment = self._again.pop(0) if self._again else self._proposed()
        if self.failure is not None:
            raise self.failure
        if assignment is None:
            return None if self._assignments else Searcher.FINISHED
        self._assignments[trial_id] = assignment
        config, folder = assignment.config, self._study.request.trial_folder(assignment.number)
        text = json.dumps(to_dict(config))  # one value: Tune copies, flattens and encodes whatever is nested
        legs = [epoch for epoch in self._how["legs"] if epoch > self._reached.get(assignment.number, 0)]
        return {"config": text, "folder": str(folder), "bundles": bundles(config), **self._how, "legs": legs}

    def _proposed(self) -> Assignment | None:
        """Asks the study until it has nothing left; a second time it would draw in vain all over again."""
        found = None if self._is_exhausted else self._safely(self._study.propose)
        self._is_exhausted = found is None
        return found

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Takes a leg of a trial that goes on."""
        number, leg = self._assignments[trial_id].number, result.get(RESULT)
        self._safely(self._take_leg, number, leg)
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
        self._safely(self._take_leg, assignment.number, result.get(RESULT), ends=outcome.kind == "complete")
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
        self._safely(self._study.tell, assignment.number, outcome)
        self._safely(self._ended, assignment, outcome)

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

    def _safely(self, work: Callable[..., T], *arguments: Any, **options: Any) -> T | None:
        """Does something of ours, unless something went wrong before; keeps what goes wrong."""
        if self.failure is not None:
            return None
        try:
            return work(*arguments, **options)
        except Exception as error:
            self.failure = error
            return None

    def _outcome(self, result: Mapping[str, Any]) -> Outcome:
        epoch = result.get("epoch", 0)
        if FAILED in result:
            return Outcome("failed", {}, result[TRAINED], result[FAILED])
        kind = "complete" if epoch >= self._num_epochs else "pruned"
        leg: Leg = result[RESULT]
        metrics = {**leg.metrics, "wall_s": result["wall_s"]}
        return Outcome(kind, metrics, epoch, "", [as_json(run) for run in leg.runs], result.get("hostname", ""))
