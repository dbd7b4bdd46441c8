"""Records real runs of a small network over a whole space, for searches to be compared on.

``python -m isograd.bench.replay OUTPUT.jsonl [SHARD COUNT]`` trains all of them that OUTPUT does not hold yet, about an
hour on two cores.
"""

import itertools
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from isograd.run.experiment import execute, prepare
from isograd.tune.distributions import Categorical, Settings
from isograd.tune.ground import changed, ground_of
from isograd.tune.request import Request, parse

SPACE = Path(__file__).with_name("replay.yaml")
SEEDS = (0, 1, 2)


def replay_request(*items: str) -> Request:
    """Returns the sweep whose trials were recorded."""
    return parse(str(SPACE), [f"tune.seeds=[{','.join(map(str, SEEDS))}]", *items])


def key(settings: Mapping[str, Any]) -> str:
    """Returns how a recorded configuration is found: what it sets, as text."""
    return json.dumps({name: settings[name] for name in sorted(settings)})


def grid(request: Request) -> Iterator[Settings]:
    """Yields every configuration of the space: all splits, with all values of the other parameters."""
    ground = ground_of(request.base)
    names, num_cuts = ground.unit_names_with({}), ground.num_modules_with({}) - 1
    choices = [
        [parameter.distribution.settings(parameter.name, label) for label in parameter.distribution.values]
        for parameter in request.file.space.parameters
        if isinstance(parameter.distribution, Categorical)
    ]
    cuts = next(parameter for parameter in request.file.space.parameters if parameter.name == "partition.ends")
    for ends in itertools.combinations(names[:-1], num_cuts):
        for chosen in itertools.product(*choices):
            settings = cuts.distribution.settings(cuts.name, list(ends))
            for options in chosen:
                settings |= options
            yield settings


def record(output: Path, shard: int, count: int) -> None:
    """Trains the configurations of a shard that the output does not hold yet, and appends their test errors."""
    request = replay_request()
    done = {json.loads(line)["settings"] for line in output.read_text().splitlines()} if output.exists() else set()
    for settings in itertools.islice(grid(request), shard, None, count):
        if key(settings) not in done:
            errors = [_error(request, settings, seed) for seed in SEEDS]
            with output.open("a") as file:
                file.write(json.dumps({"settings": key(settings), "test_errors": errors}) + "\n")


def _error(request: Request, settings: Settings, seed: int) -> float | None:
    with tempfile.TemporaryDirectory() as folder:
        config = replace(changed(request.base, settings), seed=seed, folder=folder)
        config = replace(config, checkpoint=replace(config.checkpoint, every_epochs=0))
        return execute(prepare(config)).test_error


if __name__ == "__main__":
    record(Path(sys.argv[1]), *(map(int, sys.argv[2:4] or (0, 1))))
