"""What benchmarks run: steps of random samples, and pipelines of emulated devices; and how a steady period is read."""

from collections.abc import Iterable, Sequence

from isograd.cluster.config import ClusterConfig
from isograd.data.synthetic import source, tiny_source
from isograd.engine.blueprint import Blueprint
from isograd.engine.program import Program
from isograd.events.events import Event, StageReport
from isograd.executors.pipeline.config import PipelinedConfig
from isograd.executors.pipeline.pipeline import Pipeline
from isograd.planning.emulated import EmulatedBuilder


def make_program(blueprint: Blueprint, num_batches: int) -> Program:
    """Returns an epoch of random samples as a blueprint takes them, augmented as its data set is."""
    batch_size, inputs = blueprint.config.data.batch_size, blueprint.method.exchange.inputs
    batches = source(blueprint.task.synthetic, num_batches, batch_size, blueprint.dataset.augmentation)
    return Program(batches, num_epochs=1, evaluates=False, carries_inputs=inputs)


def make_tiny_program(num_batches: int, batch_size: int = 1) -> Program:
    """Returns an epoch of tiny images, for stages that do not compute."""
    return Program(tiny_source(num_batches, batch_size), num_epochs=1, evaluates=False)


def make_emulated(builders: Sequence[EmulatedBuilder]) -> Pipeline:
    """Returns a pipeline of emulated devices, to be opened."""
    num_stages = len(builders)
    return Pipeline(
        builders,
        PipelinedConfig(device="cpu"),
        ClusterConfig(num_cpus=num_stages),
        queued_bytes=4 * num_stages * builders[0].activation_bytes,
        records_steps=True,
    )


def collect_reports(events: Iterable[Event]) -> list[StageReport]:
    """Returns the stages' reports, in the order of the stages."""
    reports = [event for event in events if isinstance(event, StageReport)]
    return sorted(reports, key=lambda report: report.stage)


def steady_s(events: Iterable[Event], num_skipped: int) -> float:
    """Returns the seconds from batch to batch at the stage that ends last, without the first batches and without those
    that other stages no longer work beside."""
    reports = collect_reports(events)
    horizon_s = min(report.step_ends_s[-1] for report in reports)
    last = max((report.step_ends_s for report in reports), key=lambda ends_s: ends_s[-1])
    steady = [end_s for end_s in last[num_skipped:] if end_s <= horizon_s]
    ends_s = steady if len(steady) > 1 else last[num_skipped:]
    return (ends_s[-1] - ends_s[0]) / (len(ends_s) - 1)
