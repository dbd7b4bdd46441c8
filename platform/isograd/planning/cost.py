"""What a local module costs, counted on a small batch: parameters, floating-point operations, bytes."""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from isograd.local.module import LocalModule
from isograd.partition.memory import SavedBytes
from isograd.seeding import seeded

_COUNTED_IMAGES = 2  # BatchNorm over one value has no variance, and one image can leave no more


@dataclass(frozen=True)
class Cost:
    """Of one local module, its auxiliary network included. Per image, in float32.

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


def costs(modules: list[LocalModule], input_shape: tuple[int, int, int]) -> list[Cost]:
    """Counts every module by one training step on blank images; the modules are left as they were."""
    pixels = torch.zeros(_COUNTED_IMAGES, *input_shape, dtype=torch.uint8)
    value, found = pixels, []
    with seeded("cost"):
        for module in modules:
            cost, value = _cost(copy.deepcopy(module), value, pixels)
            found.append(cost)
    return found


def _cost(module: LocalModule, value: Tensor, pixels: Tensor) -> tuple[Cost, Tensor]:
    module.train()
    with SavedBytes(module.parameters()) as saved, FlopCounterMode(display=False) as forward:
        feature = module(value)
        unit_flops = forward.get_total_flops()
        losses = _losses(module, feature, pixels)
    with FlopCounterMode(display=False) as backward:
        for loss in losses:
            loss.backward(retain_graph=True)
        for _ in module.window.passes:  # a later module's cascade loss sweeps through the units once more
            feature.backward(torch.zeros_like(feature), retain_graph=True)
    objectives = (module.objective, module.cascade)
    cost = Cost(
        num_parameters=sum(weight.numel() for weight in module.parameters()),
        num_auxiliary_parameters=sum(weight.numel() for part in objectives for weight in part.parameters()),
        forward_flops=forward.get_total_flops() / _COUNTED_IMAGES,
        unit_forward_flops=unit_flops / _COUNTED_IMAGES,
        backward_flops=backward.get_total_flops() / _COUNTED_IMAGES,
        activation_bytes=saved.peak_bytes / _COUNTED_IMAGES,
        output_bytes=feature[0].numel() * feature.element_size(),
    )
    return cost, feature.detach()


def _losses(module: LocalModule, feature: Tensor, pixels: Tensor) -> list[Tensor]:
    target = torch.zeros(_COUNTED_IMAGES, dtype=torch.int64, device=feature.device)
    outcomes = [objective(feature, target, pixels) for objective in (module.cascade, module.objective)]
    return [outcome.loss for outcome in outcomes if outcome.loss is not None]
