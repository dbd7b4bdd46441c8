"""How much stages slow each other down where they share a host's cores: each loops alone, then all at once."""

import pickle
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

from isograd.engine.blueprint import Blueprint
from isograd.errors import StageFailedError
from isograd.executors.executor import layout_of
from isograd.planning.cache import kept
from isograd.planning.profile import what_costs
from isograd.planning.worker import Task, main
from isograd.schedules.simulation import Contention

_ROUNDS, _STEPS = 3, 4
_LEAST_S, _MOST_S = 0.2, 4.0  # of a loop


def contention(blueprint: Blueprint, cache: Path | None = None) -> Contention:
    """Returns how the stages of a blueprint slow each other down on this host; measured once and kept.

    Raises:
        StageFailedError: A process that measures ended.
    """
    stages = [[stage[0], stage[-1]] for stage in layout_of(blueprint).stages]
    key = {**what_costs(blueprint), "stages": stages}
    return Contention(tuple(kept("contention", key, lambda: measured(blueprint), cache)))


def measured(blueprint: Blueprint) -> list[float]:
    """Loops the stages in a process each. They take turns, alone and together, so that a change of the machine's
    speed meets both alike."""
    config, stages = blueprint.config, layout_of(blueprint).stages
    with ExitStack() as stack:
        workers = [stack.enter_context(_worker(Task(config, stage[0], stage[-1]))) for stage in stages]
        for worker in workers:
            _answer(worker)
        loop_s = min(max(_STEPS / min(_loop(workers, _LEAST_S)), _LEAST_S), _MOST_S)
        rounds = [_round(workers, loop_s) for _ in range(_ROUNDS)]
    return [max(median(ratios), 1.0) for ratios in zip(*rounds, strict=True)]


def _round(workers: Sequence["subprocess.Popen[bytes]"], loop_s: float) -> list[float]:
    alone = [_loop([worker], loop_s)[0] for worker in workers]
    together = _loop(workers, loop_s)
    return [one / all_ for one, all_ in zip(alone, together, strict=True)]


def _loop(workers: Sequence["subprocess.Popen[bytes]"], loop_s: float) -> list[float]:
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write(f"{loop_s}\n".encode())
        worker.stdin.flush()
    return [float(_answer(worker)) for worker in workers]


def _answer(worker: "subprocess.Popen[bytes]") -> str:
    assert worker.stdout is not None
    line = worker.stdout.readline().decode().strip()
    if not line:
        raise StageFailedError(
            f"a process that measures a stage ended with status {worker.wait()}",
            "Its time beside the other stages is part of the forecast; its own message stands above",
            "Use fewer stages (executor.num_stages), or a smaller data.batch_size.",
        )
    return line


@contextmanager
def _worker(task: Task) -> Iterator["subprocess.Popen[bytes]"]:
    # Where this process imports from; said once Python has started, so that no user's file hides a part of Python.
    command = [
        sys.executable,
        "-c",
        f"import sys; sys.path[:] = {sys.path!r}; from {main.__module__} import main; main()",
    ]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdin is not None
        pickle.dump(task, process.stdin)
        process.stdin.flush()
        yield process
    finally:
        process.kill()
        process.communicate()
