"""Costs are measured once and kept; cuts and stages follow from them, and cuts stay in every executor."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from isograd.engine.blueprint import Blueprint
from isograd.engine.config import RunConfig
from isograd.errors import PartitionError
from isograd.executors.executor import check, layout_of
from isograd.executors.microbatch.config import MicrobatchConfig
from isograd.executors.pipeline.config import PipelinedConfig
from isograd.executors.sequential import SequentialExecutor
from isograd.local.action import Action, Work
from isograd.partition.partition import Balanced
from isograd.planning import choose
from isograd.planning.choose import module_pieces, pieces_of_units, resolved, unit_piece, with_cuts
from isograd.planning.plan import forecast, make_plan
from isograd.planning.profile import ModuleProfile, profile, what_costs
from isograd.schedules.simulation import Link
from tests.runs import config

TINY = ("model=resnet20", "model.width=2", "data.batch_size=4")


pytestmark = pytest.mark.usefixtures("ray_session")  # the link between stages is measured once


def pipelined(config: RunConfig, **options: Any) -> PipelinedConfig:
    return PipelinedConfig.of(config.executor, **options)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("measurements")


def test_a_profile_has_every_action_and_is_measured_once(cache: Path) -> None:
    blueprint = Blueprint(config(*TINY, "method=hpff", "partition.num_modules=3"))
    found = profile(blueprint, cache=cache)
    assert [module.name for module in found.modules] == [blueprint.partition.units(k)[-1].name for k in range(3)]
    assert found.duration_s(Action(Work.CASCADE_BACKWARD, 0, 7, part=1)) > 0 and found.input_s > 0
    assert found.modules[0].output_bytes == 4 * 4 * blueprint.partition.units(0)[-1].output.numel
    assert all(module.state_bytes > 8 * module.num_parameters for module in found.modules)  # gradients as well
    assert profile(blueprint, cache=cache) == found
    assert profile(Blueprint(config(*TINY, "method=hpff", "partition.num_modules=4")), cache=cache) != found
    assert len(list(cache.glob("profile-*.json"))) == 2


def test_a_kept_profile_says_of_what_it_is(cache: Path) -> None:
    profile(Blueprint(config(*TINY, "partition.num_modules=2")), cache=cache)
    keys = [json.loads(path.read_text())["key"] for path in cache.glob("*.json")]
    assert any(key["model"]["width"] == 2 and key["batch_size"] == 4 and "torch" in key for key in keys)


def test_balanced_cuts_are_filled_in_and_stay(cache: Path) -> None:
    asked = config(*TINY, "partition=balanced", "partition.num_modules=3", "executor.num_stages=2")
    found = resolved(asked, cache=cache)
    assert isinstance(found.partition, Balanced) and len(found.partition.ends) == 2
    assert sum(pipelined(found).modules_per_stage or ()) == 3
    assert Blueprint(found).partition.num_modules == 3
    again = resolved(replace(found, executor=pipelined(asked, num_stages=3)), cache=cache)
    assert again.partition == found.partition and pipelined(again).modules_per_stage == [1, 1, 1]
    alone = replace(found, executor=SequentialExecutor.Config.of(found.executor))
    assert resolved(alone, cache=cache) is alone
    own = resolved(replace(asked, executor=alone.executor), cache=cache)
    assert Blueprint(own).partition.num_modules == 3 and own.executor == alone.executor


def test_a_pipeline_and_one_process_get_the_same_cuts(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "link", lambda *_: Link())
    asked = config(*TINY, "partition=balanced", "partition.num_modules=3", "executor.num_stages=3")
    alone = replace(asked, executor=SequentialExecutor.Config.of(asked.executor))
    assert resolved(alone, cache=cache).partition == resolved(asked, cache=cache).partition


def test_costs_are_those_of_the_augmentation_too() -> None:
    plain, flipped = (what_costs(Blueprint(config(*TINY, f"data.flip={flip}"))) for flip in ("false", "true"))
    assert plain != flipped and plain == {**flipped, "augmentation": plain["augmentation"]}


def test_without_a_number_of_modules_there_are_as_many_as_stages(cache: Path) -> None:
    found = resolved(config(*TINY, "partition=balanced", "executor.num_stages=3"), cache=cache)
    assert Blueprint(found).partition.num_modules == layout_of(Blueprint(found)).num_stages == 3


def test_a_slow_link_is_crossed_where_the_activation_is_small(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = config(*TINY, "partition=balanced", "executor.num_stages=2")
    monkeypatch.setattr(choose, "link", lambda *_: Link(bytes_per_s=1e3))
    found = Blueprint(resolved(asked, cache=cache)).partition
    outputs = [unit.output.numel for unit in found.backbone.units[:-1]]
    assert found.units(0)[-1].output.numel == min(outputs)
    monkeypatch.setattr(choose, "link", lambda *_: Link())
    cut = Blueprint(resolved(asked, cache=cache)).partition
    assert cut.units(0)[-1].output.numel > min(outputs)


def test_one_process_has_no_link(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "link", lambda *_: pytest.fail("there is nothing to measure"))
    resolved(config(*TINY, "partition=balanced", "partition.num_modules=2", "executor=sequential"), cache=cache)
    resolved(config(*TINY, "partition=balanced", "partition.num_modules=2", "executor.num_stages=1"), cache=cache)


def test_what_is_kept_of_a_run_are_the_cuts(cache: Path) -> None:
    asked = config(*TINY, "partition=balanced", "executor.num_stages=2")
    found = with_cuts(asked, cache=cache)
    assert found.executor == asked.executor and isinstance(found.partition, Balanced) and found.partition.ends


def test_stages_can_be_spread_by_cost_without_new_cuts(cache: Path) -> None:
    asked = config(*TINY, "partition.num_modules=6", "executor.num_stages=2", "executor.spread=balanced")
    found = resolved(asked, cache=cache)
    assert found.partition == asked.partition
    assert sum(pipelined(found).modules_per_stage or ()) == 6


def test_other_configurations_stay_as_they_are(cache: Path) -> None:
    asked = config(*TINY, "partition.num_modules=2")
    assert resolved(asked, cache=cache) is asked


def test_unbuilt_cuts_are_refused() -> None:
    with pytest.raises(PartitionError, match="Its cuts are chosen by measured costs"):
        Blueprint(config(*TINY, "partition=balanced", "partition.num_modules=3")).partition  # noqa: B018


def test_stages_asked_for_have_to_add_up() -> None:
    blueprint = Blueprint(
        config(*TINY, "partition.num_modules=4", "executor.num_stages=2", "executor.modules_per_stage=[1,2]")
    )
    with pytest.raises(PartitionError, match=r"modules_per_stage=\[1, 2\] does not spread 4 local modules"):
        layout_of(blueprint)


def test_pieces_tell_units_from_auxiliary_networks() -> None:
    seconds = {"forward/0": 1.0, "local loss/0": 0.25, "cascade loss/0": 0.5, "backward/0": 2.0, "update/0": 0.5}
    module = ModuleProfile("layer1", seconds, 10, 30, 100, num_parameters=8, num_auxiliary_parameters=2, flops=1.0)
    piece = unit_piece(module)
    assert (piece.seconds, piece.cut_seconds) == (3.5, 0.75)
    assert (piece.state_bytes, piece.cut_state_bytes, piece.activation_bytes) == (75, 25, 30)


def test_units_are_profiled_with_a_cut_after_each(cache: Path) -> None:
    blueprint = Blueprint(config(*TINY))
    pieces = pieces_of_units(blueprint, cache)
    assert len(pieces) == len(blueprint.backbone.units)
    assert all(piece.seconds > 0 and piece.cut_seconds > 0 for piece in pieces[:-1])
    whole = module_pieces(profile(blueprint, cache=cache))
    assert sum(piece.seconds for piece in whole) > 0


def test_an_end_to_end_pipeline_can_be_cut_by_cost(cache: Path) -> None:
    options = ("method=e2e", "executor=microbatch", "executor.num_stages=2", "executor.num_microbatches=2")
    asked = config(*TINY, *options, "executor.spread=balanced", "executor.schedule=interleaved")
    found = MicrobatchConfig.within(resolved(asked, cache=cache)).units_per_piece
    assert found is not None and len(found) == 4 and sum(found) == len(Blueprint(asked).backbone.units)
    check(Blueprint(resolved(asked, cache=cache)))
    asked = config(*TINY, *options)
    assert resolved(asked, cache=cache) is asked


@pytest.mark.parametrize("num_stages", [1, 2])
def test_an_end_to_end_pipeline_is_forecast_by_its_own_schedule(cache: Path, num_stages: int) -> None:
    options = ("method=e2e", "executor=microbatch", f"executor.num_stages={num_stages}", "executor.num_microbatches=4")
    asked = config(*TINY, *options, "executor.schedule=gpipe")
    found = forecast(Blueprint(asked), cache)
    assert found.schedule.name == "gpipe, M=4" and len(found.schedule.devices) == num_stages
    assert found.period_s in [other.period_s for other in make_plan(asked, cache).traditional]
