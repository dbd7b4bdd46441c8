"""The result of a run, from its events."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from isograd.events.events import EpochRecord, Event, StageReport
from isograd.run.spent import Spent, is_whole


@dataclass(frozen=True)
class Result:
    """What a run came to. Errors are shares in [0, 1], times seconds, memory bytes.

    Attributes:
        test_error: Of the final module after the last epoch.
        best_test_error: Smallest over epochs, as the papers' scripts report it.
        module_test_errors: Of every local module's head after the last epoch; None where it makes no prediction.
        images_per_s: Training images of the last stage over its training time; None where no step was taken.
        wall_s: From the first message to the last report.
        device_s: Sum over stages of the time that each held its device.
        peak_bytes: Largest memory of a stage.
        spent: What each leg took, of which a run that was resumed has several. Speed, times and memory above are of all
            of them; None where those of the first are not known, as of checkpoints of earlier versions.
        timeline: What the recorded timeline says beside the planned one; None where none was recorded.
        stages: One report a stage of the last leg: utilisation, waits, memory, bytes sent to the next stage.
    """

    test_error: float | None
    best_test_error: float | None
    module_test_errors: list[float | None]
    num_epochs: int
    num_steps: int
    images_per_s: float | None
    wall_s: float | None
    device_s: float | None
    stages: list[dict[str, Any]]
    checkpoint: str | None
    fingerprint: str
    hardware: str
    timeline: str | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    peak_bytes: int | None = None
    spent: list[dict[str, Any]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Returns the result as JSON."""
        return asdict(self)


class Tally:
    """Collects from events what the result is made of; a sink."""

    def __init__(self, num_modules: int) -> None:
        self._num_modules = num_modules
        self._tests: dict[int, dict[int, float | None]] = {}
        self._train_losses: dict[int, dict[int, float | None]] = {}
        self._num_steps = 0

    def take(self, event: Event) -> None:
        """Takes one event."""
        if isinstance(event, EpochRecord):
            self._num_steps = max(self._num_steps, event.step)
            is_train = event.split == "train"
            rows, value = (self._train_losses, event.loss) if is_train else (self._tests, event.values.get("error"))
            rows.setdefault(event.epoch, {})[event.module] = value

    def result(
        self,
        legs: Sequence[Spent],
        stages: Sequence[StageReport],
        *,
        checkpoint: str | None,
        fingerprint: str,
        hardware: str,
        timeline: str | None = None,
    ) -> Result:
        """Returns the result of the events so far, and of what the run's legs took, the last one stage by stage."""
        errors = {epoch: self._errors(row) for epoch, row in sorted(self._tests.items())}
        finals = [row[-1] for row in errors.values() if row[-1] is not None]
        known = legs if is_whole(legs) else ()
        train_s = sum(leg.train_s for leg in known)
        return Result(
            test_error=finals[-1] if finals else None,
            best_test_error=min(finals, default=None),
            module_test_errors=next(reversed(errors.values()), []),
            num_epochs=max(self._tests, default=0),
            num_steps=self._num_steps,
            images_per_s=sum(leg.num_images for leg in known) / train_s if train_s else None,
            wall_s=sum(leg.wall_s for leg in known) if known else None,
            device_s=sum(leg.device_s for leg in known) if known else None,
            peak_bytes=max((leg.peak_bytes for leg in known), default=None),
            spent=[leg.to_json() for leg in legs],
            stages=[_stage(report) for report in stages],
            checkpoint=checkpoint,
            fingerprint=fingerprint,
            hardware=hardware,
            timeline=timeline,
            history=[self._epoch(epoch, row) for epoch, row in errors.items()],
        )

    def _errors(self, row: dict[int, float | None]) -> list[float | None]:
        return [row.get(module) for module in range(self._num_modules)]

    def _epoch(self, epoch: int, errors: list[float | None]) -> dict[str, Any]:
        losses = self._train_losses.get(epoch, {})
        return {
            "epoch": epoch,
            "module_test_errors": errors,
            "module_train_losses": [losses.get(module) for module in range(self._num_modules)],
        }


def _stage(report: StageReport) -> dict[str, Any]:
    record = asdict(report)
    record.pop("step_ends_s")
    return {**record, "modules": list(report.modules), "utilisation": report.utilisation}
