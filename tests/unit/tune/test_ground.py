"""What a search space is told of the runs that it changes."""

from isograd.config.load import load
from isograd.tune.ground import make_ground
from tests.language import SMALL as LANGUAGE


def test_units_and_modules_are_those_of_the_task_and_data_that_are_drawn() -> None:
    language = load([*LANGUAGE, "model.depth=5", "method=dgl"])
    other = {"task": "classification", "data": "digits", "model": "resnet20", "model.width": 4}
    ground = make_ground(language)
    assert len(ground.unit_names_with({})) == 7 and ground.num_modules_with({}) == 4
    units = ground.unit_names_with(other)
    assert units[0] == "stem" and ground.num_modules_with({**other, "method": "e2e"}) == 1
    assert ground.unit_names_with({**other, "partition.num_modules": 3, "optimizer.lr": 0.2}) is units
