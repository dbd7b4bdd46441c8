"""What a local module costs, counted on a small batch: parameters, floating-point operations, bytes."""

import copy
from dataclasses import dataclass, replace

import torch
from torch.utils.flop_counter import FlopCounterMode

from isograd.data.field import Tree
from isograd.local.module import Given, LocalModule
from isograd.partition.memory import SavedBytes
from isograd.seeding import seeded
from isograd.tasks.task import Task

_COUNTED_SAMPLES = 2  # BatchNorm over one value has no variance, and one sample can leave no more


@dataclass(frozen=True)
class Cost:
    """Of one local module, its auxiliary network included. Per sample, in float32.

    Attributes:
        num_parameters: Of units and auxiliary network.
        num_auxiliary_parameters: Of the auxiliary network alone.
        forward_flops: Units and auxiliary network; a multiplication and an addition are two.
        unit_forward_flops: Of that, the units.
        backward_flops: Of the whole module.
        activation_bytes: Kept from forward to backward: the module's share of training memory.
        output_bytes: Of the activation that is sent to the next module.
    """

    num_parameters: int
    num_auxiliary_parameters: int
    forward_flops: float
    unit_forward_flops: float
    backward_flops: float
    activation_bytes: float
    output_bytes: int

    @property
    def step_flops(self) -> float:
        """Forward and backward of one training step."""
        return self.forward_flops + self.backward_flops


def costs(modules: list[LocalModule], task: Task) -> list[Cost]:
    """Counts every module by one training step on a random batch; the modules are left as they were."""
    batch = task.synthetic(_COUNTED_SAMPLES, torch.Generator().manual_seed(0))
    given, values, counted = Given(batch.targets, batch.inputs), batch.inputs, []
    with seeded("cost"):
        for module in modules:
            cost, values = _cost(copy.deepcopy(module), values, given)
            counted.append(cost)
    return counted


def _cost(module: LocalModule, values: Tree, given: Given) -> tuple[Cost, Tree]:
    module.train()
    with SavedBytes(module.parameters()) as saved, FlopCounterMode(display=False) as forward:
        live = module(values)
        unit_flops = forward.get_total_flops()
        outcomes = [
            objective(live, replace(given, entering=values)) for objective in (module.cascade, module.objective)
        ]
    with FlopCounterMode(display=False) as backward:
        for outcome in outcomes:
            if outcome.loss is not None:
                outcome.loss.backward(retain_graph=True)
        for _ in module.window.passes:  # a later module's cascade loss sweeps through the units once more
            roots = [value for value in live.values() if value.requires_grad]
            torch.autograd.backward(roots, [torch.zeros_like(value) for value in roots], retain_graph=True)
    objectives = (module.objective, module.cascade)
    cost = Cost(
        num_parameters=sum(weight.numel() for weight in module.parameters()),
        num_auxiliary_parameters=sum(weight.numel() for part in objectives for weight in part.parameters()),
        forward_flops=forward.get_total_flops() / _COUNTED_SAMPLES,
        unit_forward_flops=unit_flops / _COUNTED_SAMPLES,
        backward_flops=backward.get_total_flops() / _COUNTED_SAMPLES,
        activation_bytes=saved.peak_bytes / _COUNTED_SAMPLES,
        output_bytes=sum(value[0].numel() * value.element_size() for value in live.values()),
    )
    return cost, {name: value.detach() for name, value in live.items()}
