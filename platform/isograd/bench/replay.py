"""Real runs of a small network over a whole space, recorded once, for searches to be compared on.

``replay.csv`` has a row for each configuration of ``replay.yaml``: 45 splits x 3 decays x 3 kinds of bias, each trained
with 6 seeds on the digits that scikit-learn brings. It says how many samples of which split were predicted, and how
many of them wrongly, by seed. ``python -m isograd.bench.replay OUTPUT.csv [SHARD COUNT]`` trains what OUTPUT does not
hold yet; all of it took 2 processes of an AMD EPYC with AVX-512 50 minutes, beside other work. One thread, so that the
numbers are the same on any number of cores.
"""

import csv
import itertools
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from isograd.run.experiment import execute, prepare
from isograd.tune.ground import change_config, make_ground
from isograd.tune.request import Request, parse
from isograd.tune.space import Categorical, Settings

SPACE, TABLE = Path(__file__).with_name("replay.yaml"), Path(__file__).with_name("replay.csv")
SEEDS = tuple(range(6))

_COLUMNS = ("partition.ends", "method.decay", "method.blocks", "method.fusion")
Key = tuple[str, ...]


@dataclass(frozen=True)
class Recorded:
    """What came of a configuration.

    Attributes:
        split: On which its runs were judged.
        num_samples: Of that split.
        wrong: How many of them each seed's run predicted wrongly.
    """

    split: str
    num_samples: int
    wrong: tuple[int, ...]

    @property
    def error(self) -> float:
        """The mean over seeds."""
        return fmean(self.wrong) / self.num_samples


def replay_request(*items: str) -> Request:
    """Returns the sweep whose trials were recorded; ``items`` change how it is searched."""
    return parse(str(SPACE), [f"tune.seeds=[{','.join(map(str, SEEDS))}]", *items])


def key(settings: Mapping[str, Any]) -> Key:
    """Returns how a recorded configuration is found: its cells in the first columns."""
    cells = {**settings, "partition.ends": " ".join(settings["partition.ends"])}
    return tuple(str(cells.get(column, "")) for column in _COLUMNS)


def read(path: Path = TABLE) -> dict[Key, Recorded]:
    """Returns what came of every configuration."""
    with path.open(newline="") as file:
        _, *rows = csv.reader(file)
    count = len(_COLUMNS)
    return {
        tuple(row[:count]): Recorded(row[count], int(row[count + 1]), tuple(map(int, row[count + 2 :]))) for row in rows
    }


def read_errors() -> dict[Key, float]:
    """Returns the error of every configuration."""
    return {configuration: recorded.error for configuration, recorded in read().items()}


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
    request, done = replay_request(), read(output) if output.exists() else {}
    for settings in itertools.islice(grid(request), shard, None, count):
        if key(settings) not in done:
            runs = train(request, settings, SEEDS)
            with output.open("a", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                if file.tell() == 0:
                    writer.writerow((*_COLUMNS, "split", "samples", *(f"seed {seed}" for seed in SEEDS)))
                writer.writerow((*key(settings), runs.split, runs.num_samples, *runs.wrong))


def train(request: Request, settings: Settings, seeds: Sequence[int]) -> Recorded:
    """Trains a configuration with each seed; returns what a search would see of it."""
    split, num_samples, wrong = "", 0, []
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            config = replace(change_config(request.base, settings), seed=seed, folder=folder)
            prepared = prepare(replace(config, checkpoint=replace(config.checkpoint, every_epochs=0)))
            error = execute(prepared).final
        assert error is not None, "a run that ends has been evaluated"
        split, num_samples = prepared.program.judging_split, prepared.program.source.num_valid
        wrong.append(round(error * num_samples))
    return Recorded(split, num_samples, tuple(wrong))


if __name__ == "__main__":
    record(Path(sys.argv[1]), *(map(int, sys.argv[2:4] or (0, 1))))
