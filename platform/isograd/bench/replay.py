"""Real runs of a small network over a whole space, recorded once, for searches to be compared on.

``replay.csv`` has a row for each configuration of ``replay.yaml``: 45 splits x 3 decays x 3 kinds of bias, each trained
with 12 seeds on the digits that scikit-learn brings, and how many of the 143 validation samples were wrong: what a
search sees. ``python -m isograd.bench.replay OUTPUT.csv [SHARD COUNT]`` trains what OUTPUT does not hold yet; all of it
takes 2.5 hours on one core of an Intel Xeon. One thread, so that the numbers are the same on any number of cores.

To be recorded again: the table is of 2026-11-23, when there was no validation split, and counts the 360 test samples.
"""

import csv
import itertools
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from isograd.run.experiment import execute, prepare
from isograd.tune.ground import change_config, make_ground
from isograd.tune.request import Request, parse
from isograd.tune.space import Categorical, Settings

SPACE, TABLE = Path(__file__).with_name("replay.yaml"), Path(__file__).with_name("replay.csv")
SEEDS, NUM_SAMPLES = tuple(range(12)), 143

_COLUMNS = ("partition.ends", "method.decay", "method.blocks", "method.fusion")
Key = tuple[str, ...]


def replay_request(*items: str) -> Request:
    """Returns the sweep whose trials were recorded; ``items`` change how it is searched."""
    return parse(str(SPACE), [f"tune.seeds=[{','.join(map(str, SEEDS))}]", *items])


def key(settings: Mapping[str, Any]) -> Key:
    """Returns how a recorded configuration is found: its cells in the first columns."""
    cells = {**settings, "partition.ends": " ".join(settings["partition.ends"])}
    return tuple(str(cells.get(column, "")) for column in _COLUMNS)


def read_errors(path: Path = TABLE) -> dict[Key, float]:
    """Returns the validation error of every configuration, the mean over its seeds."""
    return {configuration: fmean(wrong) / NUM_SAMPLES for configuration, wrong in _rows(path).items()}


def grid(request: Request) -> Iterator[Settings]:
    """Yields every configuration of the space: all splits, with all values of the other parameters."""
    ground = make_ground(request.base)
    names, num_cuts = ground.unit_names_with({}), ground.num_modules_with({}) - 1
    parameters = request.file.space.parameters
    choices = [
        [parameter.distribution.settings(parameter.name, label) for label in parameter.distribution.values]
        for parameter in parameters
        if isinstance(parameter.distribution, Categorical)
    ]
    cuts = next(parameter for parameter in parameters if parameter.name == "partition.ends")
    for ends in itertools.combinations(names[:-1], num_cuts):
        for chosen in itertools.product(*choices):
            settings = cuts.distribution.settings(cuts.name, list(ends))
            for options in chosen:
                settings |= options
            yield settings


def record(output: Path, shard: int, count: int) -> None:
    """Trains the configurations of a shard that the output does not hold yet, and appends them."""
    torch.set_num_threads(1)
    request, done = replay_request(), _rows(output) if output.exists() else {}
    for settings in itertools.islice(grid(request), shard, None, count):
        if key(settings) not in done:
            wrong = [num_wrong(request, settings, seed) for seed in SEEDS]
            with output.open("a", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                if file.tell() == 0:
                    writer.writerow((*_COLUMNS, *(f"seed {seed}" for seed in SEEDS)))
                writer.writerow((*key(settings), *wrong))


def num_wrong(request: Request, settings: Settings, seed: int) -> int:
    """Trains a configuration; returns how many samples of the validation split it gets wrong."""
    with tempfile.TemporaryDirectory() as folder:
        config = replace(change_config(request.base, settings), seed=seed, folder=folder)
        config = replace(config, checkpoint=replace(config.checkpoint, every_epochs=0))
        error = execute(prepare(config)).final
    assert error is not None, "a run that ends has been evaluated"
    return round(error * NUM_SAMPLES)


def _rows(path: Path) -> dict[Key, list[int]]:
    with path.open(newline="") as file:
        _, *rows = csv.reader(file)
    return {tuple(row[: len(_COLUMNS)]): [int(cell) for cell in row[len(_COLUMNS) :]] for row in rows}


if __name__ == "__main__":
    record(Path(sys.argv[1]), *(map(int, sys.argv[2:4] or (0, 1))))
