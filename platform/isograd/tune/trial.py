"""A trial as Ray Tune runs it: an actor that trains one configuration leg by leg, and then another one."""

import json
import time
from pathlib import Path
from typing import Any

from ray import tune

from isograd.config.load import from_dict
from isograd.errors import IsogradError, StageFailedError
from isograd.executor.hosts import Hosts
from isograd.tune.legs import Leg, TrialRuns

RESULT, FAILED, TRAINED = "leg", "failed", "trained"


class Trial(tune.Trainable):
    """Trains what its configuration says: one leg a call of Tune's, then Tune decides whether it goes on.

    What fails in training is a result, not an exception: so that Tune's own retries are for lost processes and nodes
    alone.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Begins with a configuration."""
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
            return {"epoch": epoch, TRAINED: self._trained, FAILED: _reason(error), "done": True}
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
                self._runs = self._runs or self._begun()
                return self._runs.advance(epoch)
            except Exception as error:
                if self._num_retries < 1 or not _may_pass(error):
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


def _reason(error: Exception) -> str:
    text = error.what if isinstance(error, IsogradError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())[:500]
