"""Lazy replacement: the scales learn in some steps only, and the others keep no inputs."""

import copy
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from isograd.methods.repl.constant import constant_kernels
from isograd.methods.repl.replaced import EveryNth, Replaced
from tests.unit.methods.repl.replacements import RESNET, VIT, block, value


def learns(found: Replaced, given: Tensor) -> bool:
    for weight in found.parameters():
        weight.grad = None
    found(given).sum().backward()
    return cast(Any, found.synthesis).scales.a.grad is not None


def test_lazy_scales_learn_in_every_fourth_step() -> None:
    found = block(*RESNET, "method.mode=lazy").train()
    given = value(3, 4, 8, 8)
    assert [learns(found, given) for _ in range(5)] == [False, False, False, True, False]
    found.eval()
    assert not learns(found, given)  # and is no step
    assert [learns(found.train(), given) for _ in range(3)] == [False, False, True]


def test_lazy_steps_survive_checkpoints_and_copies() -> None:
    found = block(*RESNET, "method.mode=lazy").train()
    given = value(3, 4, 8, 8)
    fresh = copy.deepcopy(found)
    assert [learns(found, given) for _ in range(2)] == [False, False]
    learns(fresh, given)
    fresh.load_state_dict(found.state_dict())
    copied = copy.deepcopy(found)
    for module in (found, fresh, copied):
        assert [learns(module, given) for _ in range(3)] == [False, True, False]


def test_lazy_steps_are_read_only_after_others_wrote_them(monkeypatch: pytest.MonkeyPatch) -> None:
    pace = EveryNth(3)
    pace()
    monkeypatch.setattr(Tensor, "__int__", lambda tensor: pytest.fail("read from its device"))
    assert [pace() for _ in range(3)] == [False, True, False]


def kept_bytes(found: Replaced, given: Tensor) -> int:
    """Size of all memory that is kept for the backward pass, the neighbours' weights left out."""
    others = {weight.data_ptr() for part in found.neighbours for weight in part.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        found(given)
    return sum(storage.nbytes() for address, storage in kept.items() if address not in others)


@pytest.mark.parametrize(("model", "shape", "inputs"), [(RESNET, (3, 4, 8, 8), 1), (VIT, (3, 17, 24), 6)])
def test_lazy_steps_keep_no_inputs(model: tuple[str, ...], shape: tuple[int, ...], inputs: int) -> None:
    found = block(*model, "method.mode=lazy", "method.every=2").train()
    given = value(*shape)
    constant, learning = kept_bytes(found, given), kept_bytes(found, given)
    assert learning - constant == inputs * given.numel() * given.element_size()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "layer", [nn.Conv2d(4, 6, 3, 2, 1), nn.Conv2d(4, 4, 3, 1, 2, 2, groups=4), nn.Conv2d(4, 6, 1, bias=False)]
)
def test_constant_convolutions_pass_the_same_gradient(layer: nn.Conv2d, dtype: torch.dtype) -> None:
    layer = copy.deepcopy(layer).requires_grad_(False)
    outcomes = []
    for context in (torch.enable_grad(), constant_kernels(layer.parameters())):
        given = torch.randn(2, 4, 9, 7, generator=torch.Generator().manual_seed(0)).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            with context:
                output = layer(given)
        output.square().sum().backward()
        outcomes.append((output, given.grad))
    for plain, constant in zip(*outcomes, strict=True):
        torch.testing.assert_close(constant, plain)
