"""What Ray Tune is to do about actors that die: tell us, and go on."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ray import cloudpickle, tune
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.exceptions import RayError, RayTaskError
from ray.tune.experiment import Trial as TuneTrial

from isograd.cluster.death import as_actors, death_of
from isograd.tune.losses import Loss
from isograd.tune.search import StudySearch


class LossReport(tune.Callback):
    """Tells a search of trials whose actors have died, and of how.

    Args:
        search: The search.
    """

    def __init__(self, search: StudySearch) -> None:
        self._search = search

    def on_trial_error(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        """Takes the end of an actor, or of what Tune did with it."""
        self._search.take_loss(trial.trial_id, _loss(_error_of(trial)))


class Stopping(tune.Stopper):
    """Stops all trials once a search cannot go on: what they come to would be thrown away.

    Args:
        search: The search.
    """

    def __init__(self, search: StudySearch) -> None:
        self._search = search

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Stops no trial by its result."""
        return False

    def stop_all(self) -> bool:
        """Whether the search cannot go on."""
        return self._search.failure is not None


def _error_of(trial: TuneTrial) -> BaseException | None:
    """Reads what Tune keeps of an error: the file that it has just written, not the copy that it may make later."""
    path = trial.pickled_error_file
    return cloudpickle.loads(Path(path).read_bytes()) if path and Path(path).is_file() else None


def _loss(error: BaseException | None) -> Loss:
    if not isinstance(error, RayError) or isinstance(error, RayTaskError):
        return Loss(f"its process failed outside of training ({' '.join(str(error).split())[-300:]})")
    death = death_of(error)
    return Loss(str(death), death.lost_node)


@contextmanager
def told_as_actors() -> Iterator[None]:
    """Runs a block in which Tune takes every loss of an actor as one.

    It ends the whole sweep by an error of its own for a process that Ray ended for want of memory, or that never came
    to run because its placement group had gone: Ray does not report these as errors of an actor.
    """
    failed = RayActorManager._actor_task_failed

    def take(self: RayActorManager, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, RayError) and not isinstance(exception, RayTaskError):
            exception = as_actors(exception)
        failed(self, tracked_actor_task, exception)

    RayActorManager._actor_task_failed = take
    try:
        yield
    finally:
        RayActorManager._actor_task_failed = failed
