"""What must be said beside the table for its figures to mean something."""

from collections.abc import Iterator

from isograd.compare.comparison import Comparison
from isograd.display.measures import SPEED
from isograd.studies.records import list_differences

# The table has a column for them, or the note on stages names them.
_SHOWN = ("method.", "partition.", "train.epochs", "executor.num_stages")


def notes(comparison: Comparison) -> list[str]:
    """Returns the footnotes of a comparison, each a sentence or two."""
    return [
        comparison.rule,
        _explain_spread(comparison),
        _explain_difference(comparison),
        f"{SPEED.unit}: training samples a second, all stages together; in brackets over that of "
        f"{comparison.baseline}, mean over seeds.",
        _explain_timing(comparison),
        *_explain_memory(comparison),
        "Saved: the most bytes that autograd keeps for backward at once when the modules of one process train in turn, "
        "counted on one small batch.",
        *_explain_stages(comparison),
        *_explain_training(comparison),
        *_explain_data(comparison),
        *(f"{entry.label}: {remark}." for entry in comparison.entries for remark in entry.remarks),
        *(
            f"{entry.label}, seed {failure.seed}, failed: {failure.reason}."
            for entry in comparison.entries
            for failure in entry.failures
        ),
    ]


def _explain_spread(comparison: Comparison) -> str:
    seeds = comparison.seeds
    best = "" if comparison.judged == comparison.measure else f"{comparison.judged.label} "
    score = f"{comparison.measure.title} after the last epoch, and {best}of"
    if len(seeds) == 1:
        return f"{score} the best epoch. One seed ({seeds[0]}): no spread can be stated."
    return (
        f"{score} each run's best epoch: mean ± sample standard deviation over "
        f"{len(seeds)} seeds ({', '.join(map(str, seeds))})."
    )


def _explain_difference(comparison: Comparison) -> str:
    measure = comparison.measure
    unit = ", in percentage points" if measure.unit == "%" else f", in {measure.unit}" if measure.unit else ""
    return (
        f"Difference: {measure.label}, of which {measure.better} is better, minus that of {comparison.baseline}, "
        f"between runs of the same seed{unit}; n is the number of pairs."
    )


def _explain_timing(comparison: Comparison) -> str:
    machines = comparison.hardware
    warning = " Figures of different machines do not compare." if len(machines) > 1 else ""
    return f"{comparison.timing}: {'; '.join(machines) or 'no run came to its end'}.{warning}"


def _explain_memory(comparison: Comparison) -> Iterator[str]:
    devices = {device for run in comparison.runs for device in run.devices}
    on_cpu = any(device.startswith("cpu") for device in devices)
    counted = ["resident memory of the process, libraries included, on the CPU"] if on_cpu else []
    counted += ["memory allocated by torch on a GPU"] if devices and devices != {"cpu"} else []
    if counted:
        yield f"Peak memory: largest over stages and seeds; {', '.join(counted)}."


def _explain_stages(comparison: Comparison) -> Iterator[str]:
    """Yields the number of devices that each entry held, where one held several."""
    held = {entry.label: len(entry.runs[0].devices) for entry in comparison.entries if entry.runs}
    if max(held.values(), default=1) > 1:
        yield f"Stages, each holding a device: {', '.join(f'{label} {num}' for label, num in held.items())}."


def _explain_training(comparison: Comparison) -> Iterator[str]:
    """Yields what a reader would not expect of the training."""
    cut_short = {entry.label: entry.config.train.max_steps for entry in comparison.entries}
    if any(cut_short.values()):
        labels = ", ".join(f"{label} after {steps} steps" for label, steps in cut_short.items() if steps)
        yield f"Training was cut short (train.max_steps): {labels}."
    names = list_differences([entry.config for entry in comparison.entries])
    others = [name for name in names if not name.startswith(_SHOWN)]
    if others:
        yield f"Beyond method and partition, the entries differ in: {', '.join(others)}."


def _explain_data(comparison: Comparison) -> Iterator[str]:
    """Yields what each entry was trained on, where that is not the same: its options alone do not tell."""
    first = {entry.label: entry.runs[0].data for entry in comparison.entries if entry.runs}
    known = {label: str(data) for label, data in first.items() if data is not None}
    unknown = [label for label, data in first.items() if data is None]
    if known and unknown:
        yield f"What data {', '.join(unknown)} was trained on is not known: the provenance does not say."
    if len(set(known.values())) > 1:
        texts = "; ".join(f"{label} {data}" for label, data in known.items())
        yield f"The entries were trained on different data, so their scores do not compare: {texts}."
