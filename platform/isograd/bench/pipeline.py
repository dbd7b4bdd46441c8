"""Pipelined local learning beside what it replaces: sequential local learning, one device, traditional pipelines.

Traditional pipelines are torch.distributed.pipelining's. All train the same units on the same batches with as many
devices; each has the cuts that are best for it, found by the same search over the same measured costs, auxiliary
networks counted for local learning only. Emulated devices sleep: a third of a unit's time forward, two thirds backward,
in every schedule; activations (and gradients, where they travel) are real.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial

from isograd.bench.bench import BENCHES
from isograd.bench.rows import Kind, Row
from isograd.bench.workload import make_program, make_tiny_program, steady_s
from isograd.cluster.config import ClusterConfig
from isograd.cluster.connection import connected
from isograd.config.load import load
from isograd.engine.blueprint import Blueprint
from isograd.engine.config import ExecutorConfig, RunConfig
from isograd.engine.program import Program
from isograd.executors.microbatch.config import MicrobatchConfig
from isograd.executors.microbatch.executor import make_microbatch_pipeline
from isograd.executors.microbatch.pipeline import MicrobatchPipeline
from isograd.executors.microbatch.plan import PiecePlan
from isograd.executors.pipeline.config import PipelinedConfig
from isograd.executors.pipeline.pipeline import Pipeline
from isograd.executors.pipelined import PipelinedExecutor, make_pipeline
from isograd.local.action import Action, Work
from isograd.partition.balance import Assignment, Limits, Piece, balanced
from isograd.planning.choose import pieces_of_units, resolved
from isograd.planning.emulated import EmulatedBuilder, EmulatedPieces
from isograd.schedules.microbatch import MICROBATCH_SCHEDULES, Grid, microbatched
from isograd.schedules.simulation import simulate

LOCAL, SEQUENTIAL, END_TO_END = "PPLL", "sequential local learning", "end to end, one device"
SCHEDULES = (("gpipe", 1), ("1f1b", 1), ("interleaved", 2), ("zero_bubble", 1), ("zero_bubble", 2), ("zbv", 2))
EVEN_STAGE_S, ACTIVATION_BYTES, NUM_EMULATED = 0.1, 8 * 2**20, 4
BATCH_SIZE = 128
_OPTIONS = ("data=parquet", f"data.batch_size={BATCH_SIZE}", "method=dgl")
_REAL = {
    "ResNet-110, DGL": ("model=resnet110",),
    "ViT-Ti, DGL": ("model=vit_ti", "optimizer=adamw", "lr_schedule=cosine"),
}
_CLUSTER = ClusterConfig(num_cpus=16)


@dataclass(frozen=True)
class Effort:
    """How long a benchmark takes."""

    num_rounds: int
    num_local_batches: int
    num_batches: int
    microbatches: tuple[int, ...]


FULL, QUICK = Effort(5, 48, 6, (4, 8, 16)), Effort(1, 16, 3, (4,))
_REAL_BATCHES = 16  # of PPLL and of sequential local learning in full; a traditional schedule takes 4


@BENCHES.register("pipeline")
def bench(quick: bool, overrides: Sequence[str]) -> list[Row]:
    """Races the schedules on emulated devices (S = 4), which read the overrides' executor, and in real computation
    (S = 2)."""
    effort = QUICK if quick else FULL
    rows: list[Row] = []
    executor = PipelinedConfig.of(load([*_OPTIONS, *overrides]).executor, device="cpu")
    for name, pieces in _emulate_networks(overrides):
        rows += _race_emulated(name, pieces, executor, effort)
    for name, options in _REAL.items():
        config = load([*_OPTIONS, *options, "partition=balanced", "executor.num_stages=2", *overrides])
        rows += _race_real(name, config, replace(effort, num_rounds=min(effort.num_rounds, 3)))
    return rows


def _emulate_networks(overrides: Sequence[str]) -> Iterator[tuple[str, list[Piece]]]:
    """Yields networks whose units together take four even stages: a ViT, and ResNet-110 by its measured costs."""
    total_s = NUM_EMULATED * EVEN_STAGE_S
    block = Piece(total_s / 12, 0.1 * EVEN_STAGE_S, ACTIVATION_BYTES)
    name = "ViT, 12 equal blocks, auxiliary networks of 10 % of a stage"
    yield name, [*[block] * 11, replace(block, cut_seconds=0.0)]
    pieces = pieces_of_units(Blueprint(load([*_OPTIONS, "model=resnet110", "executor.device=cpu", *overrides])))
    scale = total_s / sum(piece.seconds for piece in pieces)
    scaled = [Piece(scale * piece.seconds, scale * piece.cut_seconds, ACTIVATION_BYTES) for piece in pieces]
    yield "ResNet-110's measured costs, DGL", [*scaled[:-1], replace(scaled[-1], cut_seconds=0.0)]


def _race_emulated(name: str, pieces: Sequence[Piece], config: PipelinedConfig, effort: Effort) -> list[Row]:
    """Races on emulated devices; beside the rows, what each would take without communication (modelled)."""
    case = f"{name}; S={NUM_EMULATED}, {EVEN_STAGE_S * 1e3:.0f} ms, {ACTIVATION_BYTES / 2**20:.0f} MiB"
    assignment = balanced(pieces, NUM_EMULATED, Limits((1.0,) * NUM_EMULATED))
    units_s = tuple(piece.seconds for piece in pieces)
    local = [_stage_s(pieces, assignment, index) for index in range(NUM_EMULATED)]
    alone = (sum(units_s), sum(auxiliary_s for _, auxiliary_s in local))
    plans = list(_plan_all(pieces, NUM_EMULATED, effort.microbatches))
    build = EmulatedPieces(units_s, (ACTIVATION_BYTES,) * len(pieces), BATCH_SIZE)
    many, few = (make_tiny_program(num, BATCH_SIZE) for num in (effort.num_local_batches, effort.num_batches))
    with ExitStack() as stack:
        stack.enter_context(connected(_CLUSTER, queued_bytes=4 * NUM_EMULATED * ACTIVATION_BYTES))
        pipelines = [_make_emulated(stages, config) for stages in (local, [alone], [(sum(units_s), 0.0)])]
        ours, one, whole = map(stack.enter_context, pipelines)
        executor = MicrobatchConfig.of(config)
        micro = stack.enter_context(MicrobatchPipeline(build, plans[0], executor, ClusterConfig(), records_steps=True))
        racers = {SEQUENTIAL: (one, few), END_TO_END: (whole, few), LOCAL: (ours, many)}
        rows = _race(case, racers, (micro, few), plans, effort.num_rounds, "emulated")
    return rows + _model_ideals(case, pieces, assignment, plans)


def _race_real(name: str, config: RunConfig, effort: Effort) -> list[Row]:
    """Races in real computation on this machine's CPUs."""
    config = resolved(config)
    blueprint = Blueprint(config)
    num_stages = PipelinedExecutor.layout(blueprint).num_stages
    one_stage = PipelinedConfig.of(config.executor, num_stages=1, modules_per_stage=None)
    cut = {"num_stages": num_stages, "schedule": "gpipe", "num_microbatches": 4}
    alone = Blueprint(replace(config, executor=one_stage))
    end_to_end = Blueprint(_train_end_to_end(config, one_stage))
    split = Blueprint(_train_end_to_end(config, MicrobatchConfig.of(config.executor, **cut)))
    plans = list(_plan_all(pieces_of_units(blueprint), num_stages, effort.microbatches))
    counts = (min(_REAL_BATCHES, effort.num_local_batches), min(4, effort.num_batches))
    many, few = (make_program(blueprint, num_batches) for num_batches in counts)
    held_bytes = many.source.held_bytes
    with ExitStack() as stack:
        stack.enter_context(
            connected(_CLUSTER, queued_bytes=held_bytes + 4 * PipelinedExecutor.queued_bytes(blueprint))
        )
        one, whole, ours = (
            stack.enter_context(make_pipeline(each, held_bytes=held_bytes, records_steps=True))
            for each in (alone, end_to_end, blueprint)
        )
        micro = stack.enter_context(make_microbatch_pipeline(split, ends=plans[0].ends, records_steps=True))
        racers = {SEQUENTIAL: (one, few), END_TO_END: (whole, few), LOCAL: (ours, many)}
        case = f"{name}; S={num_stages}, batch {BATCH_SIZE}"
        return _race(case, racers, (micro, few), plans, effort.num_rounds, "measured")


def _race(
    case: str,
    local: Mapping[str, tuple[Pipeline, Program]],
    traditional: tuple[MicrobatchPipeline, Program],
    plans: Sequence[PiecePlan],
    num_rounds: int,
    kind: Kind,
) -> list[Row]:
    """Runs all in turns in one Ray session, every other time in reverse order, so that the machine's changes meet all
    of them; returns their figures and the ratios.

    Ratios are of periods within one round. "Best traditional" is whichever schedule was fastest in that round.
    """
    named = {_name_plan(plan): plan for plan in plans}
    run = {name: partial(_run_local, *racer) for name, racer in local.items()}
    run |= {name: partial(_run_traditional, plan, *traditional) for name, plan in named.items()}
    rounds: list[dict[str, float]] = []
    for number in range(num_rounds):
        order = run if number % 2 == 0 else reversed(run)
        rounds.append({name: run[name]() for name in order})
    rows = [Row.median(case, f"period, {name}", (1e3 * times[name] for times in rounds), "ms", kind) for name in run]
    ratios = [times[SEQUENTIAL] / times[LOCAL] for times in rounds]
    rows.append(Row.median(case, f"{LOCAL} over sequential", ratios, "x", kind))
    counts = sorted({plan.num_microbatches for plan in plans})
    groups = {f"M={count}": [name for name in named if named[name].num_microbatches == count] for count in counts}
    for label, names in {**groups, "any M": list(named)}.items():
        ratios = [min(times[name] for name in names) / times[LOCAL] for times in rounds]
        rows.append(Row.median(case, f"{LOCAL} over best traditional, {label}", ratios, "x", kind))
    return rows


def _run_local(pipeline: Pipeline, program: Program) -> float:
    """Returns the steady period of a pipeline of local modules; with one stage, it is sequential."""
    return steady_s(pipeline.fit(program), program.num_steps // 4)


def _run_traditional(plan: PiecePlan, pipeline: MicrobatchPipeline, program: Program) -> float:
    """Returns the steady period of one schedule of an end-to-end pipeline."""
    pipeline.arrange(plan)
    return steady_s(pipeline.fit(program), 1)


def _name_plan(plan: PiecePlan) -> str:
    return f"{plan.schedule}, M={plan.num_microbatches}" + (f", V={plan.chunks}" if plan.chunks > 1 else "")


def _train_end_to_end(config: RunConfig, executor: ExecutorConfig) -> RunConfig:
    method = load(["data=parquet", "method=e2e"])
    return replace(config, method=method.method, partition=method.partition, executor=executor)


def _make_emulated(stages: Sequence[tuple[float, float]], config: PipelinedConfig) -> Pipeline:
    builders = [
        EmulatedBuilder(index, units_s, ACTIVATION_BYTES, auxiliary_s)
        for index, (units_s, auxiliary_s) in enumerate(stages)
    ]
    return Pipeline(builders, config, ClusterConfig(), records_steps=True)


def _stage_s(pieces: Sequence[Piece], assignment: Assignment, index: int) -> tuple[float, float]:
    """Returns the seconds of a stage's units, and of its auxiliary networks."""
    ends = (0, *assignment.ends)
    modules = assignment.stages[index]
    inside = pieces[ends[modules[0]] : ends[modules[-1] + 1]]
    return sum(piece.seconds for piece in inside), sum(pieces[ends[module + 1] - 1].cut_seconds for module in modules)


def _plan_all(pieces: Sequence[Piece], num_stages: int, microbatches: Sequence[int]) -> Iterator[PiecePlan]:
    """Yields all traditional schedules, each with the best cuts that it can have: no auxiliary network counts."""
    bare = [replace(piece, cut_seconds=0.0) for piece in pieces]
    for schedule, chunks in SCHEDULES:
        num_pieces = num_stages * chunks
        ends = balanced(bare, num_pieces, Limits((1.0,) * num_pieces)).ends
        for num_microbatches in microbatches:
            yield PiecePlan(schedule, num_microbatches, num_stages, ends)


def _model_ideals(case: str, pieces: Sequence[Piece], assignment: Assignment, plans: Sequence[PiecePlan]) -> list[Row]:
    ideals_s = {LOCAL: assignment.period_s}
    ideals_s |= {_name_plan(plan): _ideal_s(pieces, plan) for plan in plans if plan.schedule in MICROBATCH_SCHEDULES}
    return [Row(case, f"ideal period, {name}", 1e3 * ideal_s, "ms", "modelled") for name, ideal_s in ideals_s.items()]


def _ideal_s(pieces: Sequence[Piece], plan: PiecePlan) -> float:
    schedule = microbatched(plan.schedule, Grid(plan.num_stages, plan.num_microbatches, plan.chunks), 6)
    shares = {Work.FORWARD: 1 / 3, Work.BACKWARD: 2 / 3, Work.INPUT_GRADIENT: 1 / 3, Work.WEIGHT_GRADIENT: 1 / 3}

    def duration_s(action: Action) -> float:
        seconds = sum(pieces[unit].seconds for unit in plan.units(action.module)) if action.work in shares else 0.0
        return shares.get(action.work, 0.0) * seconds / plan.num_microbatches

    return simulate(schedule, duration_s).period_s
