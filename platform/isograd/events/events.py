"""What happens in a run, as values. Stages make them, executors merge them, the run folder keeps them as JSON lines."""

from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import Tensor

from isograd.local.action import Span


@dataclass(frozen=True)
class Position:
    """A point between two training steps.

    Attributes:
        epoch: Of the next batch, from 1.
        number: Of the next batch within its epoch, from 0.
        step: Training steps taken.
    """

    epoch: int = 1
    number: int = 0
    step: int = 0


@dataclass(frozen=True)
class Progress:
    """How far a stage is. Times are since the stage's start.

    Attributes:
        num_samples: Training samples that the stage has learnt from in this run.
    """

    stage: int
    epoch: int
    step: int
    num_samples: int
    elapsed_s: float


@dataclass(frozen=True)
class EpochRecord:
    """One local module over one split in one epoch.

    Attributes:
        epoch: From 1.
        split: ``train`` (during the epoch, weights moving), ``valid`` or ``test``.
        module: Index of the module.
        loss: Mean local loss; None where the split is only evaluated, or the module has none.
        values: The task's metrics of the module's own head, by name; none where it makes no prediction.
        step: Training steps taken, over the whole run.
        name: The unit that the module ends with.
        num_samples: Of the split, or of the part of it that has passed.
    """

    epoch: int
    split: str
    module: int
    loss: float | None
    values: dict[str, float]
    step: int
    name: str
    num_samples: int


@dataclass(frozen=True)
class Snapshot:
    """All state of one local module at a position: weights, buffers, optimizer, running metrics."""

    module: int
    position: Position
    tensors: dict[str, Tensor]


@dataclass(frozen=True)
class StageReport:
    """How a stage spent its time, at its end.

    Attributes:
        modules: Indices of its local modules.
        device: Where it computed.
        elapsed_s: From its first message to its last.
        train_s: Of that, training batches and the waits before them.
        wait_s: Waiting for input: the stage before, or the data.
        blocked_s: Waiting for room in the queue to the next stage.
        busy_s: The rest.
        peak_bytes: Largest memory: of the process on the CPU, allocated by torch on a GPU.
        sent_bytes: Over the link to the next stage.
        step_ends_s: When each training step ended, if the run records it; else empty.
    """

    stage: int
    modules: tuple[int, ...]
    device: str
    num_steps: int
    num_samples: int
    elapsed_s: float
    train_s: float
    wait_s: float
    blocked_s: float
    busy_s: float
    peak_bytes: int
    sent_bytes: int
    step_ends_s: tuple[float, ...] = ()

    def followed_by(self, later: "StageReport") -> "StageReport":
        """Returns one report for two parts of a run, the modules and the device as they are in the later one."""
        sums = ("num_steps", "num_samples", "elapsed_s", "train_s", "wait_s", "blocked_s", "busy_s", "sent_bytes")
        added: dict[str, Any] = {name: getattr(self, name) + getattr(later, name) for name in sums}
        peak_bytes = max(self.peak_bytes, later.peak_bytes)
        return replace(later, peak_bytes=peak_bytes, step_ends_s=self.step_ends_s + later.step_ends_s, **added)

    @property
    def utilisation(self) -> float:
        """Share of its time that a stage computed."""
        return self.busy_s / self.elapsed_s if self.elapsed_s else 0.0


@dataclass(frozen=True)
class ReportSoFar:
    """How a stage has spent its time until a position; before its snapshots there, from which a run may go on."""

    position: Position
    report: StageReport


@dataclass(frozen=True)
class StageTimeline:
    """What a stage did in its newest steps, if the run records it.

    Attributes:
        clock_offset_s: What turns the spans' times into seconds since the epoch, which stages on several hosts share.
    """

    stage: int
    spans: tuple[Span, ...]
    clock_offset_s: float


@dataclass(frozen=True)
class Rebalanced:
    """Local modules have moved between stages.

    Attributes:
        epoch: After which.
        before: How many consecutive modules each stage hosted.
        after: How many it hosts now.
        slowest_before_s: Seconds a step of the slowest stage, measured.
        slowest_after_s: What it should be now, by the modules' measured times.
    """

    epoch: int
    before: tuple[int, ...]
    after: tuple[int, ...]
    slowest_before_s: float
    slowest_after_s: float


Event = Progress | EpochRecord | Snapshot | StageReport | ReportSoFar | StageTimeline | Rebalanced


def to_record(event: Event) -> dict[str, Any]:
    """Returns an event as a JSON object; a snapshot without its tensors, a timeline without its spans."""
    if isinstance(event, Snapshot):
        return {"event": "Snapshot", "module": event.module, **asdict(event.position)}
    if isinstance(event, StageTimeline):
        return {"event": "StageTimeline", "stage": event.stage, "num_spans": len(event.spans)}
    content = {**asdict(event.position), **asdict(event.report)} if isinstance(event, ReportSoFar) else asdict(event)
    record = {"event": type(event).__name__, **content}
    record.pop("step_ends_s", None)
    return record
