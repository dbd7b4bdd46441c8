"""End-to-end backpropagation, the baseline: one module, one loss, no cut."""

from dataclasses import dataclass

from isograd.local.method import METHODS, Method
from isograd.local.module import Objective
from isograd.partition.partition import Partition


@METHODS.register("e2e")
class E2E(Method):
    """The whole network as a single module with the task's loss.

    Note:
        It has no cut that a pipeline of local modules could use, so K is 1. Pipelines that carry gradients across
        stages (GPipe, 1F1B, zero-bubble) are another executor, ``microbatch``.
    """

    default_num_modules = 1
    max_num_modules = 1

    @dataclass
    class Config:
        """No options."""

        name: str = "e2e"

    def objective(self, partition: Partition, index: int) -> Objective:
        """Never asked for: a single module is the last one."""
        raise AssertionError("a single module is the last one")
