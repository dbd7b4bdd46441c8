"""The state of a local module as a flat mapping from global names to tensors, and back.

Names depend neither on K, nor on the number of stages, nor on the executor: ``backbone.layer1.0.conv1.weight``,
``auxiliary.layer1.0.head.1.weight``, ``optimizer.backbone.layer1.0.conv1.weight.momentum_buffer``.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from isograd.errors import CheckpointError
from isograd.local.learner import Learner

OPTIMIZER = "optimizer."


def state_of(learner: Learner) -> dict[str, Tensor]:
    """Returns copies of all weights, buffers and optimizer state, on the CPU."""
    state = dict(learner.module.named_state())
    for name, weight in learner.module.named_weights().items():
        for key, value in learner.optimizer.state.get(weight, {}).items():
            if isinstance(value, Tensor):
                state[f"{OPTIMIZER}{name}.{key}"] = value
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in state.items()}


@torch.no_grad()
def load_state(learner: Learner, state: Mapping[str, Tensor]) -> None:
    """Puts a learner into a saved state; entries of other modules are left alone.

    Raises:
        CheckpointError: A tensor is missing or has another shape.
    """
    for name, tensor in learner.module.named_state().items():
        tensor.copy_(_fitting(state, name, tensor))
    for name, weight in learner.module.named_weights().items():
        prefix = f"{OPTIMIZER}{name}."
        saved = {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
        saved = {key: value for key, value in saved.items() if "." not in key}
        if saved:
            learner.optimizer.state[weight] = {key: _placed(value, weight) for key, value in saved.items()}


def _placed(value: Tensor, weight: Tensor) -> Tensor:
    # Per-weight moments live beside the weight, in its memory order; scalars (Adam's step) stay on the CPU.
    if value.dim() == 0:
        return value.clone()
    return torch.empty_like(weight, dtype=value.dtype).copy_(value)


def _fitting(state: Mapping[str, Tensor], name: str, tensor: Tensor) -> Tensor:
    found = state.get(name)
    if found is None or found.shape != tensor.shape:
        what = "is missing" if found is None else f"has shape {tuple(found.shape)}, not {tuple(tensor.shape)}"
        raise CheckpointError(
            f"the checkpoint does not fit: '{name}' {what}",
            "It was written by a run with another backbone, partition or method",
            "Use the configuration in the checkpoint's run folder, or start without it.",
        )
    return found
