"""The state of a local module as a flat mapping from global names to tensors, and back.

Names depend neither on K, nor on the number of stages, nor on the executor: ``backbone.layer1.0.conv1.weight``,
``auxiliary.layer1.0.head.1.weight``, ``optimizer.backbone.layer1.0.conv1.weight.momentum_buffer``.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from isograd.errors import CheckpointError
from isograd.local.learner import Learner
from isograd.registry import suggestion

OPTIMIZER = "optimizer."


def state_of(learner: Learner) -> dict[str, Tensor]:
    """Returns copies of all weights, buffers and optimizer state, on the CPU."""
    state = dict(learner.module.named_state())
    for name, weight in learner.module.named_weights().items():
        for key, value in learner.optimizer.state.get(weight, {}).items():
            if isinstance(value, Tensor):
                state[f"{OPTIMIZER}{name}.{key}"] = value
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in state.items()}


def check_state(learner: Learner, state: Mapping[str, Tensor]) -> set[str]:
    """Returns the names in ``state`` that are a learner's own.

    Raises:
        CheckpointError: A tensor is missing or has another shape.
    """
    own, weights = learner.module.named_state(), learner.module.named_weights()
    for name, tensor in own.items():
        _check_fitting(state, name, tensor)
    moments = {name for name in state if name.startswith(OPTIMIZER) and _moment(name)[0] in weights}
    return moments | own.keys()


def check_known(names: Iterable[str], known: set[str]) -> None:
    """Raises CheckpointError for names in a state that no local module has."""
    unknown = [name for name in names if name not in known]
    if unknown:
        others = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        raise CheckpointError(
            f"the state does not fit: '{unknown[0]}'{others} is no tensor of any local module."
            f"{suggestion(unknown[0], sorted(known))}",
            "It would be ignored; it is misspelt, or of another backbone, partition or method",
            "Use the names that the executor's state() returns.",
        )


@torch.no_grad()
def load_state(learner: Learner, state: Mapping[str, Tensor]) -> None:
    """Puts a learner into a state that :func:`check_state` has found to fit; entries of other modules are left alone.

    A weight without entries of the optimizer has none afterwards: its optimizer begins anew.
    """
    for name, tensor in learner.module.named_state().items():
        tensor.copy_(state[name])
    learner.optimizer.state.clear()
    weights = learner.module.named_weights()
    for name, value in state.items():
        weight_name, key = _moment(name)
        if name.startswith(OPTIMIZER) and weight_name in weights:
            weight = weights[weight_name]
            learner.optimizer.state[weight][key] = _placed(value, weight)


def _moment(name: str) -> tuple[str, str]:
    """Splits ``optimizer.WEIGHT.KEY`` into weight and key."""
    weight, _, key = name.removeprefix(OPTIMIZER).rpartition(".")
    return weight, key


def _placed(value: Tensor, weight: Tensor) -> Tensor:
    # Per-weight moments live beside the weight, in its memory order; scalars (Adam's step) stay on the CPU.
    if value.dim() == 0:
        return value.clone()
    return torch.empty_like(weight, dtype=value.dtype).copy_(value)


def _check_fitting(state: Mapping[str, Tensor], name: str, tensor: Tensor) -> None:
    found = state.get(name)
    if found is None or found.shape != tensor.shape:
        what = "is missing" if found is None else f"has shape {tuple(found.shape)}, not {tuple(tensor.shape)}"
        raise CheckpointError(
            f"the state does not fit: '{name}' {what}",
            "It is of another backbone, partition or method",
            "Use the configuration of the run that it comes from, and the names that the executor's state() returns.",
        )
