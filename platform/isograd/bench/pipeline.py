"""Pipelined local learning beside what it replaces: sequential local learning, one device, traditional pipelines.

Traditional pipelines are torch.distributed.pipelining's. All train the same units on the same batches with as many
devices; each has the cuts that are best for it, found by the same search over the same measured costs, auxiliary
networks counted for local learning only. Emulated devices sleep: a third of a unit's time forward, two thirds backward,
in every schedule; activations (and gradients, where they travel) are real.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from isograd.bench.rows import Row
from isograd.bench.side_by_side import END_TO_END, LOCAL, SEQUENTIAL, of_microbatches, of_pipeline, raced
from isograd.cluster.config import ClusterConfig
from isograd.cluster.connection import connected
from isograd.config.load import load
from isograd.data.memory import MemorySource
from isograd.data.synthetic import source
from isograd.engine.blueprint import Blueprint
from isograd.engine.config import ExecutorConfig, RunConfig
from isograd.engine.program import Program
from isograd.executors.microbatch.executor import MicrobatchExecutor
from isograd.executors.microbatch.pipeline import MicrobatchPipeline, microbatch
from isograd.executors.microbatch.plan import PiecePlan
from isograd.executors.pipeline.pipeline import Pipeline, pipelined
from isograd.executors.pipelined import PipelinedExecutor
from isograd.local.action import Action, Work
from isograd.partition.balance import Assignment, Limits, Piece, balanced
from isograd.planning.choose import pieces_of_units, resolved
from isograd.planning.emulated import EmulatedBuilder, EmulatedPieces
from isograd.schedules.microbatch import MICROBATCH_SCHEDULES, Grid, microbatched
from isograd.schedules.schedule import Schedule
from isograd.schedules.simulation import simulate
from isograd.system.provenance import hardware

MICROBATCHES = (4, 8, 16)
SCHEDULES = (("gpipe", 1), ("1f1b", 1), ("interleaved", 2), ("zero_bubble", 1), ("zero_bubble", 2), ("zbv", 2))
EVEN_STAGE_S, ACTIVATION_BYTES, NUM_EMULATED = 0.1, 8 * 2**20, 4
BATCH_SIZE = 128
_OPTIONS = ("data=parquet", f"data.batch_size={BATCH_SIZE}", "method=dgl")
_REAL = {
    "ResNet-110, DGL": ("model=resnet110",),
    "ViT-Ti, DGL": ("model=vit_ti", "optimizer=adamw", "schedule=cosine"),
}


@dataclass(frozen=True)
class Effort:
    """How long a benchmark takes."""

    num_rounds: int
    num_local_batches: int
    num_batches: int
    microbatches: tuple[int, ...]


FULL, QUICK = Effort(5, 48, 6, MICROBATCHES), Effort(1, 16, 3, (4,))
_REAL_BATCHES = 16  # of PPLL and of sequential local learning in full; a traditional schedule takes 4


def bench(quick: bool, overrides: Sequence[str]) -> list[Row]:
    """Races the schedules on emulated devices (S = 4) and in real computation (S = 2).

    Args:
        quick: One round, few batches, M = 4 only.
        overrides: Of the configuration; of the emulated cases', its executor.
    """
    effort = QUICK if quick else FULL
    rows: list[Row] = []
    executor = PipelinedExecutor.Config.of(load([*_OPTIONS, *overrides]).executor, device="cpu")
    for name, pieces in emulated_networks(overrides):
        rows += emulated(name, pieces, executor, effort)
    for name, options in _REAL.items():
        config = load([*_OPTIONS, *options, "partition=balanced", "executor.num_stages=2", *overrides])
        rows += real(name, config, replace(effort, num_rounds=min(effort.num_rounds, 3)))
    return rows


def emulated_networks(overrides: Sequence[str]) -> Iterator[tuple[str, list[Piece]]]:
    """Yields networks whose units together take four even stages: a ViT, and ResNet-110 by its measured costs."""
    total_s = NUM_EMULATED * EVEN_STAGE_S
    block = Piece(total_s / 12, 0.1 * EVEN_STAGE_S, ACTIVATION_BYTES)
    yield (
        "ViT, 12 equal blocks, auxiliary networks of 10 % of a stage",
        [block] * 11 + [replace(block, cut_seconds=0.0)],
    )
    found = pieces_of_units(Blueprint(load([*_OPTIONS, "model=resnet110", "executor.device=cpu", *overrides])))
    scale = total_s / sum(piece.seconds for piece in found)
    scaled = [Piece(scale * piece.seconds, scale * piece.cut_seconds, ACTIVATION_BYTES) for piece in found]
    yield "ResNet-110's measured costs, DGL", [*scaled[:-1], replace(scaled[-1], cut_seconds=0.0)]


def emulated(name: str, pieces: Sequence[Piece], config: PipelinedExecutor.Config, effort: Effort) -> list[Row]:
    """Races the schedules on emulated devices; beside them, what each would take without communication (modelled)."""
    case = f"{name}; S={NUM_EMULATED}, {EVEN_STAGE_S * 1e3:.0f} ms, {ACTIVATION_BYTES / 2**20:.0f} MiB"
    found = balanced(pieces, NUM_EMULATED, Limits((1.0,) * NUM_EMULATED))
    units_s = tuple(piece.seconds for piece in pieces)
    local = [_stage(pieces, found, index) for index in range(NUM_EMULATED)]
    alone_s = sum(auxiliary_s for _, auxiliary_s in local)
    many = Program(source(effort.num_local_batches, BATCH_SIZE, (1, 8, 8)), num_epochs=1, evaluates=False)
    few = Program(source(effort.num_batches, BATCH_SIZE, (1, 8, 8)), num_epochs=1, evaluates=False)
    build = EmulatedPieces(units_s, (ACTIVATION_BYTES,) * len(pieces), BATCH_SIZE)
    plans = list(_plans(pieces, NUM_EMULATED, effort.microbatches))
    with ExitStack() as stack:
        queued = 4 * NUM_EMULATED * ACTIVATION_BYTES
        stack.enter_context(connected(ClusterConfig(num_cpus=16), queued_bytes=queued))
        pipeline = stack.enter_context(_emulated_pipeline(local, config))
        one = stack.enter_context(_emulated_pipeline([(sum(units_s), alone_s)], config))
        whole = stack.enter_context(_emulated_pipeline([(sum(units_s), 0.0)], config))
        micro = stack.enter_context(
            MicrobatchPipeline(
                build, plans[0], MicrobatchExecutor.Config.of(config), ClusterConfig(), records_steps=True
            )
        )
        contenders = [
            of_pipeline(SEQUENTIAL, one, few),
            of_pipeline(END_TO_END, whole, few),
            of_pipeline(LOCAL, pipeline, many),
            *(of_microbatches(micro, plan, few) for plan in plans),
        ]
        rows = raced(case, contenders, effort.num_rounds, "emulated")
    return rows + _ideals(case, pieces, found, plans)


def real(name: str, config: RunConfig, effort: Effort) -> list[Row]:
    """Races the schedules in real computation on this machine's CPUs."""
    config = resolved(config)
    blueprint = Blueprint(config)
    num_stages = PipelinedExecutor.layout(blueprint).num_stages
    case = f"{name}; S={num_stages}, batch {BATCH_SIZE}"
    one_stage = PipelinedExecutor.Config.of(config.executor, num_stages=1, modules_per_stage=None)
    alone = Blueprint(replace(config, executor=one_stage))
    end_to_end = Blueprint(_end_to_end(config, one_stage))
    executor = MicrobatchExecutor.Config.of(
        config.executor, num_stages=num_stages, schedule="gpipe", num_microbatches=4
    )
    split = Blueprint(_end_to_end(config, executor))
    plans = list(_plans(pieces_of_units(blueprint), num_stages, effort.microbatches))
    many = Program(_batches(blueprint, min(_REAL_BATCHES, effort.num_local_batches)), num_epochs=1, evaluates=False)
    few = Program(_batches(blueprint, min(4, effort.num_batches)), num_epochs=1, evaluates=False)
    with ExitStack() as stack:
        cluster = ClusterConfig(num_cpus=16)
        queued = many.source.held_bytes + 4 * PipelinedExecutor.queued_bytes(blueprint)
        stack.enter_context(connected(cluster, queued_bytes=queued))
        opened = [
            stack.enter_context(pipelined(each, held_bytes=many.source.held_bytes, records_steps=True))
            for each in (alone, end_to_end, blueprint)
        ]
        micro = stack.enter_context(microbatch(split, ends=plans[0].ends, records_steps=True))
        contenders = [
            of_pipeline(SEQUENTIAL, opened[0], few),
            of_pipeline(END_TO_END, opened[1], few),
            of_pipeline(LOCAL, opened[2], many),
            *(of_microbatches(micro, plan, few) for plan in plans),
        ]
        return raced(case, contenders, effort.num_rounds, "measured")


def _end_to_end(config: RunConfig, executor: ExecutorConfig) -> RunConfig:
    method = load(["data=parquet", "method=e2e"])
    return replace(config, method=method.method, partition=method.partition, executor=executor)


def _batches(blueprint: Blueprint, count: int) -> MemorySource:
    data = blueprint.config.data
    return source(count, data.batch_size, data.shape, data.num_classes)


def _emulated_pipeline(stages: Sequence[tuple[float, float]], config: PipelinedExecutor.Config) -> Pipeline:
    builders = [
        EmulatedBuilder(index, units_s, ACTIVATION_BYTES, auxiliary_s)
        for index, (units_s, auxiliary_s) in enumerate(stages)
    ]
    return Pipeline(builders, config, ClusterConfig(), records_steps=True)


def _stage(pieces: Sequence[Piece], found: Assignment, index: int) -> tuple[float, float]:
    """Returns the seconds of a stage's units, and of its auxiliary networks."""
    ends = (0, *found.ends)
    modules = found.stages[index]
    inside = pieces[ends[modules[0]] : ends[modules[-1] + 1]]
    return sum(piece.seconds for piece in inside), sum(pieces[ends[module + 1] - 1].cut_seconds for module in modules)


def _plans(pieces: Sequence[Piece], num_stages: int, microbatches: Sequence[int]) -> Iterator[PiecePlan]:
    """Yields all traditional schedules, each with the best cuts that it can have: no auxiliary network counts."""
    bare = [replace(piece, cut_seconds=0.0) for piece in pieces]
    for schedule, chunks in SCHEDULES:
        num_pieces = num_stages * chunks
        ends = balanced(bare, num_pieces, Limits((1.0,) * num_pieces)).ends
        for num_microbatches in microbatches:
            yield PiecePlan(schedule, num_microbatches, num_stages, ends)


def _ideals(case: str, pieces: Sequence[Piece], found: Assignment, plans: Sequence[PiecePlan]) -> list[Row]:
    rows = [_modelled(case, f"ideal period, {LOCAL}", found.period_s)]
    for plan in plans:
        if plan.schedule in MICROBATCH_SCHEDULES:
            chunks = f", V={plan.chunks}" if plan.chunks > 1 else ""
            name = f"ideal period, {plan.schedule}, M={plan.num_microbatches}{chunks}"
            rows.append(_modelled(case, name, _ideal_s(pieces, plan)))
    return rows


def _ideal_s(pieces: Sequence[Piece], plan: PiecePlan) -> float:
    schedule: Schedule = microbatched(plan.schedule, Grid(plan.num_stages, plan.num_microbatches, plan.chunks), 6)
    shares = {Work.FORWARD: 1 / 3, Work.BACKWARD: 2 / 3, Work.INPUT_GRADIENT: 1 / 3, Work.WEIGHT_GRADIENT: 1 / 3}

    def duration_s(action: Action) -> float:
        seconds = sum(pieces[unit].seconds for unit in plan.units(action.module)) if action.work in shares else 0.0
        return shares.get(action.work, 0.0) * seconds / plan.num_microbatches

    return simulate(schedule, duration_s).period_s


def _modelled(case: str, metric: str, seconds: float) -> Row:
    return Row(case, metric, 1e3 * seconds, "ms", "modelled", hardware())
