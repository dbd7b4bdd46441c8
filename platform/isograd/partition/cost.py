"""What a local module costs, counted on a small batch: parameters, floating-point operations, bytes."""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from isograd.local.module import LocalModule
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
    target = torch.zeros(_COUNTED_IMAGES, dtype=torch.int64)
    kept = _KeptBytes(module)
    with saved_tensors_hooks(kept.pack, lambda tensor: tensor), FlopCounterMode(display=False) as forward:
        feature = module(value)
        unit_flops = forward.get_total_flops()
        outcome = module.objective(feature, target, pixels)
    with FlopCounterMode(display=False) as backward:
        outcome.loss.backward()
    cost = Cost(
        num_parameters=sum(weight.numel() for weight in module.parameters()),
        num_auxiliary_parameters=sum(weight.numel() for weight in module.objective.parameters()),
        forward_flops=forward.get_total_flops() / _COUNTED_IMAGES,
        unit_forward_flops=unit_flops / _COUNTED_IMAGES,
        backward_flops=backward.get_total_flops() / _COUNTED_IMAGES,
        activation_bytes=kept.total / _COUNTED_IMAGES,
        output_bytes=feature[0].numel() * feature.element_size(),
    )
    return cost, feature.detach()


class _KeptBytes:
    """Adds up the memory of tensors saved for backward: each storage once, weights not at all."""

    def __init__(self, module: LocalModule) -> None:
        self.total = 0
        self._seen = {weight.untyped_storage().data_ptr() for weight in module.parameters()}

    def pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._seen:
            self._seen.add(storage.data_ptr())
            self.total += storage.nbytes()
        return tensor
