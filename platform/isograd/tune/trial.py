"""A trial as Ray Tune runs it: an actor that trains one configuration leg by leg, and then another one."""

import json
import time
from pathlib import Path
from typing import Any

from ray import tune

from isograd.cluster.last_words import leave_last_words, no_exit
from isograd.config.load import from_dict
from isograd.errors import IsogradError, MemoryShortError, ProcessDiedError, RunFolderError, StageFailedError
from isograd.executors.hosts import Hosts
from isograd.system.trouble import trouble_of
from isograd.tune.legs import Leg, TrialRuns
from isograd.tune.losses import Loss

RESULT, FAILED, TRAINED, LOST, TROUBLE = "leg", "failed", "trained", "lost", "trouble"

_LONGEST_REASON = 900  # characters; a death names the last words of a process and its log


class Trial(tune.Trainable):
    """Trains what its configuration says: one leg a call of Tune's, then Tune decides whether it goes on.

    What fails in training is a result, not an exception: whether the configuration, a process that was lost or the
    machine is to blame is told apart here, where it happens.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Begins with a configuration."""
        leave_last_words()
        self._hosts = Hosts()
        self._runs: TrialRuns | None = None
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begins with another configuration, in the same process."""
        self._started_s, self._earlier_s, self._trained = time.perf_counter(), 0.0, 0
        self._given, self._runs = new_config, None
        self._legs, self._num_retries = list(new_config["legs"]), new_config["num_retries"]
        return True

    def step(self) -> dict[str, Any]:
        """Trains a leg."""
        epoch = self._legs.pop(0)
        try:
            leg = self._advanced(epoch)
        except Exception as error:
            return {"epoch": epoch, TRAINED: self._trained, "done": True, **_blame(error)}
        self._trained = leg.epoch
        return {
            "epoch": leg.epoch,
            "test_error": leg.metrics["test_error"],
            RESULT: leg,
            "wall_s": self._earlier_s + time.perf_counter() - self._started_s,
            "done": not self._legs,
        }

    def cleanup(self) -> None:
        """Ends the actors that host stages."""
        self._hosts.release()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Saves nothing: all state is in the run folders."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Loads nothing: :meth:`setup` finds the run folders."""

    def _advanced(self, epoch: int) -> Leg:
        while True:
            try:
                with no_exit():
                    self._runs = self._runs or self._begun()
                    return self._runs.advance(epoch)
            except Exception as error:
                if self._num_retries < 1 or not _may_pass(error) or FAILED not in _blame(error):
                    raise
                self._num_retries -= 1

    def _begun(self) -> TrialRuns:
        given = self._given
        config = from_dict(json.loads(given["config"]))
        runs = TrialRuns(config, given["seeds"], Path(given["folder"]), self._hosts.open)
        self._earlier_s = runs.trained_s
        return runs


def _may_pass(error: Exception) -> bool:
    """Whether another try may go better: not for what the configuration itself brings about."""
    return isinstance(error, StageFailedError) or not isinstance(error, IsogradError)


def _blame(error: Exception) -> dict[str, Any]:
    """Returns what a failure is: the configuration's, the loss of a process, or trouble that all trials would have."""
    trouble = trouble_of(error)
    if isinstance(error, ProcessDiedError):
        return {LOST: Loss(_reason(error), error.lost_node)}
    if isinstance(trouble, MemoryShortError):  # another trial, or this one with fewer beside it, may need less
        return {LOST: Loss(_reason(trouble))}
    if trouble is not None:
        return {TROUBLE: trouble}
    if isinstance(error, RunFolderError):  # the process of an earlier try still works there
        return {LOST: Loss(_reason(error))}
    return {FAILED: _reason(error)}


def _reason(error: Exception) -> str:
    text = error.what if isinstance(error, IsogradError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())[:_LONGEST_REASON]
