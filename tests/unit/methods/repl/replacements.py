"""Backbones with replaced blocks, for the tests beside this file."""

import functools

import torch
from torch import Tensor

from isograd.engine.blueprint import Blueprint
from isograd.methods.repl.replaced import Replaced
from tests.runs import config

RESNET = ("model=resnet20", "model.width=4")
VIT = ("model=vit_ti", "model.width=24", "model.depth=6", "model.patch_size=8")
BOTTLENECKS = ("model=timm", "model.architecture=resnet26")
RESNET32, DEEP_VIT = ("model=resnet32", "model.width=4"), (*VIT, "model.depth=12")

composed = functools.cache(config)  # composing takes longer than most of these tests


def blueprint(*overrides: str) -> Blueprint:
    return Blueprint(composed("method=repl", *overrides))


def weights(plan: Blueprint) -> dict[str, Tensor]:
    modules = plan.method.local_modules(plan.partition, plan.config.seed)
    return {name: weight.clone() for module in modules for name, weight in module.named_weights().items()}


def num_weights(plan: Blueprint) -> int:
    return sum(weight.numel() for weight in weights(plan).values())


def replaced(plan: Blueprint) -> list[str]:
    """Names of the units that are not those of the given backbone."""
    pairs = zip(plan.backbone.units, plan.partition.backbone.units, strict=True)
    assert [unit.name for unit in plan.backbone.units] == [unit.name for unit in plan.partition.backbone.units]
    return [before.name for before, after in pairs if before.module is not after.module]


def block(*overrides: str) -> Replaced:
    """The first replaced block, with weights that all differ, biases and normalisations included."""
    plan = blueprint(*overrides)
    found = next(unit.module for unit in plan.partition.backbone.units if isinstance(unit.module, Replaced))
    torch.manual_seed(0)
    for part in (found, *found.neighbours):
        part.double()
        for weight in part.parameters():
            weight.data += 0.1 * torch.randn_like(weight)
    return found


def value(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
