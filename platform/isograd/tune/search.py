"""A study as Ray Tune's searcher."""

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from isograd.config.load import to_dict
from isograd.tune.legs import Leg, as_json
from isograd.tune.resources import bundles
from isograd.tune.study import Assignment, Outcome, Study
from isograd.tune.trial import FAILED, RESULT, TRAINED

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
        take: Takes every record of an epoch, with the trial's number.
        ended: Is told of every trial's end.

    Attributes:
        failure: What went wrong here, such as a storage that is locked; Tune would take it for the trial's. Nothing is
            proposed or told after it, so a sweep that goes on finds the trials as under way.
    """

    def __init__(
        self,
        study: Study,
        how: Mapping[str, Any],
        num_epochs: int,
        take: Callable[[int, Mapping[str, Any]], None],
        ended: Listener,
    ) -> None:
        super().__init__(metric="test_error", mode="min")
        self._study, self._how, self._num_epochs = study, how, num_epochs
        self._take, self._ended = take, ended
        self._assignments: dict[str, Assignment] = {}
        self.failure: Exception | None = None

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        """Takes nothing from Tune: the study has it all."""
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Returns what the study proposes."""
        assignment = self._safely(self._study.propose)
        if self.failure is not None:
            raise self.failure
        if assignment is None:
            return Searcher.FINISHED
        self._assignments[trial_id] = assignment
        config, folder = assignment.config, self._study.request.trial_folder(assignment.number)
        text = json.dumps(to_dict(config))  # one value: Tune copies, flattens and encodes whatever is nested
        return {"config": text, "folder": str(folder), "bundles": bundles(config), **self._how}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Takes a leg of a trial that goes on."""
        self._safely(self._take_leg, self._assignments[trial_id].number, result.get(RESULT))

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Takes a trial's end: it is complete, was stopped, has failed, or was lost."""
        if trial_id not in self._assignments or not (result or error):
            return  # broken off: the study has it as under way, and a sweep that goes on takes it up
        assignment, outcome = self._assignments.pop(trial_id), self._outcome(result or {}, error)
        leg = None if error or result is None else result.get(RESULT)
        self._safely(self._take_leg, assignment.number, leg, ends=outcome.kind == "complete")
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

    def _outcome(self, result: Mapping[str, Any], error: bool) -> Outcome:
        epoch = result.get("epoch", 0)
        if error:
            return Outcome("lost", {}, epoch, "its process or its node ended, time after time")
        if FAILED in result:
            return Outcome("failed", {}, result[TRAINED], result[FAILED])
        kind = "complete" if epoch >= self._num_epochs else "pruned"
        leg: Leg = result[RESULT]
        metrics = {**leg.metrics, "wall_s": result["wall_s"]}
        return Outcome(kind, metrics, epoch, "", [as_json(run) for run in leg.runs], result.get("hostname", ""))
