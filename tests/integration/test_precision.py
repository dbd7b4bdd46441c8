"""Options of precision hold per local module."""

import shutil

import pytest
import torch

from tests.runs import trained

SMALL = ("executor=sequential", "model=resnet20", "model.width=4", "partition.num_modules=2")


@pytest.mark.long
@pytest.mark.skipif(not (shutil.which("gcc") or shutil.which("clang")), reason="torch.compile needs a C++ compiler")
def test_compiled_modules_train_as_uncompiled_ones() -> None:
    tiny = ("executor=sequential", "model=vit_ti", "model.width=12", "model.depth=1", "model.patch_size=16")
    plain = trained(*tiny, "partition.num_modules=2", max_steps=2)
    compiled = trained(*tiny, "partition.num_modules=2", "precision.compile=true", max_steps=2)
    assert plain.keys() == compiled.keys()
    for name, tensor in plain.items():
        torch.testing.assert_close(compiled[name], tensor, rtol=1e-3, atol=1e-3, msg=name)


def test_clipping_bounds_each_modules_update() -> None:
    options = ("optimizer.momentum=0", "optimizer.nesterov=false", "optimizer.weight_decay=0", "lr_schedule=constant")
    before = trained(*SMALL, *options, max_steps=0, num_epochs=0)
    after = trained(*SMALL, *options, "optimizer.lr=1", "precision.clip_norm=0.01", max_steps=1)
    weights = [name for name in before if name.endswith("weight") or name.endswith("bias")]
    moved = torch.stack([(after[name] - before[name]).norm() for name in weights]).norm()
    assert 0.005 < float(moved) <= 0.01 * 2**0.5 + 1e-6


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_trains_as_the_cpu_does() -> None:
    options = (*SMALL, "precision.dtype=float64")
    cpu = trained(*options, max_steps=3)
    gpu = trained(*options, "executor.device=cuda", max_steps=3)
    for name, tensor in cpu.items():
        torch.testing.assert_close(gpu[name], tensor, rtol=1e-6, atol=1e-8, msg=name)
