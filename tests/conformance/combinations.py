"""What each method makes of each task, by each executor: trained and equal, or refused with its reason.

``python -m tests.conformance.combinations`` writes the table of answers into methods/README.md.
"""

import re
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from isograd.config.load import load
from isograd.data.synthetic import source
from isograd.engine.blueprint import Blueprint
from isograd.engine.config import rounding
from isograd.engine.program import Program
from isograd.errors import IsogradError
from isograd.executors.executor import EXECUTORS, check
from isograd.executors.hosts import Hosts
from isograd.local.method import METHODS
from isograd.tasks.task import TASKS
from tests.runs import opened

README = Path(__file__).parents[2] / "methods" / "README.md"
BEGIN, END = "<!-- combinations: begin -->", "<!-- combinations: end -->"
NUM_STEPS = 2


@dataclass(frozen=True)
class Combination:
    """A method on a task by an executor, with further options."""

    method: str
    task: str
    executor: str
    options: tuple[str, ...] = ()

    @property
    def overrides(self) -> tuple[str, ...]:
        """A run of it that is small enough for tests."""
        options = (
            *TASKS.get(self.task).example,
            f"task={self.task}",
            f"method={self.method}",
            f"executor={self.executor}",
            "executor.device=cpu",
            *self.options,
        )
        return (*options, f"partition.num_modules={Blueprint(load(options)).method.max_num_modules or 3}")

    def blueprint(self) -> Blueprint:
        """Returns its blueprint, checked. Raises IsogradError where it is refused."""
        blueprint = Blueprint(load(self.overrides))
        check(blueprint)
        return blueprint

    @property
    def is_exact(self) -> bool:
        """Whether its executor rounds as one process does."""
        alone = replace(self, executor="sequential", options=())
        return rounding(self.blueprint().config) == rounding(alone.blueprint().config)

    @property
    def sees_single_samples(self) -> bool:
        """Whether no layer looks at several samples or draws noise, so that microbatches change only the rounding."""
        blueprint = self.blueprint()
        layers = [layer for module in blueprint.check() for layer in module.modules()]
        is_noisy = any(isinstance(layer, nn.modules.dropout._DropoutNd) and layer.p for layer in layers)
        return not is_noisy and not any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in layers)

    def refusal(self) -> IsogradError | None:
        """Returns why it is refused; None: it is not."""
        return _find_refusal(self)

    def train(self, actors: Hosts | None = None) -> dict[str, Tensor]:
        """Trains two steps on random samples; returns all state."""
        blueprint = self.blueprint()
        batches = source(blueprint.task.synthetic, NUM_STEPS, blueprint.config.data.batch_size)
        inputs = blueprint.method.exchange.inputs
        with opened(blueprint, actors) as executor:
            for _ in executor.fit(Program(batches, num_epochs=1, carries_inputs=inputs, evaluates=False)):
                pass
            return executor.state()


@cache
def _find_refusal(combination: Combination) -> IsogradError | None:
    try:
        combination.blueprint()
    except IsogradError as error:
        return error
    return None


def all_combinations() -> list[Combination]:
    """Returns every combination of what is registered."""
    return [Combination(method, task, executor) for task in TASKS for method in METHODS for executor in EXECUTORS]


def table() -> str:
    """Returns the table of answers as Markdown: which executors serve a method on a task, or why none does."""
    lines = [f"| method | {' | '.join(TASKS)} |", "|---|" + "---|" * len(TASKS)]
    reasons: list[str] = []
    for method in METHODS:
        cells = []
        for task in TASKS:
            refusals = {name: Combination(method, task, name).refusal() for name in EXECUTORS}
            served = [name for name, refusal in refusals.items() if refusal is None]
            if not served:
                refusal = refusals["sequential"]
                assert refusal is not None
                reasons.append(refusal.what)
            cells.append(", ".join(served) or f"refused ({len(reasons)})")
        lines.append(f"| {method} | {' | '.join(cells)} |")
    notes = [f"{number}. {reason}." for number, reason in enumerate(reasons, start=1)]
    return "\n".join([*lines, *(["", *notes] if notes else [])])


def written_table() -> str:
    """Returns the table that the README has."""
    match = re.search(f"{BEGIN}\n(.*?)\n{END}", README.read_text(), re.DOTALL)
    assert match, f"{README} has no place for the table"
    return match[1].strip()


def write_table() -> None:
    """Writes the table into the README."""
    text = README.read_text()
    README.write_text(re.sub(f"{BEGIN}.*?{END}", f"{BEGIN}\n{table()}\n{END}", text, flags=re.DOTALL))


if __name__ == "__main__":
    torch.set_num_threads(1)
    write_table()
