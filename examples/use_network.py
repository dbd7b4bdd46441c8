"""From a run folder to a network for inference: replaced blocks folded, auxiliary networks left behind.

Run it with ``python examples/use_network.py [OPTION=VALUE ...]``, for example ``method=mlaan``.
"""

import sys
from pathlib import Path

import torch
from torch import nn

from isograd.config.load import load
from isograd.data.dataset import dataset_of
from isograd.run.experiment import run
from isograd.run.trained import trained_network


def main(overrides: list[str]) -> None:
    """Trains a little, loads the network from the run folder, and tests it without isograd."""
    options = ["method=repl", "partition.num_modules=1", "executor=sequential", "train.epochs=5", "run_name=network"]
    config = load([*options, *overrides])
    record = run(config)
    backbone = trained_network(Path(config.folder) / str(config.run_name))
    network = nn.Sequential(*(unit.module for unit in backbone.units))

    dataset = dataset_of(config.data)
    normalize = dataset.entry("image")
    num_wrong = num_samples = 0
    with torch.inference_mode():
        for batch in dataset.open(config.seed).test():
            prediction = network(normalize(batch.inputs["image"])).argmax(dim=1)
            num_wrong += int((prediction != batch.targets["label"]).sum())
            num_samples += len(prediction)
    print(f"test error {100 * num_wrong / num_samples:.2f} %, in the run {record.score.text(record.test)}")
    print(f"{sum(weight.numel() for weight in network.parameters()):,} parameters")


if __name__ == "__main__":
    main(sys.argv[1:])
