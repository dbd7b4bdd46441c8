"""The contract of a data set, held by every row."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from isograd.data.batch import draw_batch
from isograd.data.dataset import DATASETS, dataset_of


@pytest.mark.parametrize("name", list(DATASETS))
def test_every_row_says_what_it_is(name: str) -> None:
    dataset = dataset_of(DATASETS.get(name).config)
    dataset.check()
    assert dataset.config.name == name and isinstance(dataset.config, dataset.Config)
    batch = draw_batch(dataset.inputs, dataset.targets, 2, torch.Generator().manual_seed(0))
    draws = dataset.augmentation.draw(2, torch.Generator().manual_seed(0))
    augmented = dataset.augmentation.apply(batch, draws)
    for input_name, field in dataset.inputs.items():
        assert augmented.inputs[input_name].shape == (2, *field.fixed_shape)
        entered = dataset.entry(input_name)(augmented.inputs[input_name])
        assert entered.is_floating_point() or field.kind == "tokens"  # those are looked up in the network


def test_only_what_lies_in_files_moves() -> None:
    digits, photographs = DATASETS.get("digits").config, DATASETS.get("cifar10").config
    assert digits.at("elsewhere") == digits and digits.path == ""
    assert photographs.at("elsewhere").path == "elsewhere" and not photographs.streams
    assert replace(photographs, **{"loading": "stream"}).streams


def test_the_rows_are_listed_without_what_takes_seconds() -> None:
    code = "import sys; from isograd.data.dataset import DATASETS; list(DATASETS); print(*sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    modules = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert not {"ray", "torchvision", "sklearn"} & set(modules.stdout.split())
