"""What a run is told whose loss is no longer a number."""

import pytest
import torch

from isograd.config.load import load
from isograd.engine.blueprint import Blueprint
from isograd.errors import NonFiniteLossError


@pytest.mark.parametrize(
    ("clip_norm", "advice"), [("0", "clip_norm=1."), ("5", "clip_norm=0.5."), ("100", "clip_norm=1.")]
)
def test_the_gradients_norm_is_to_be_limited_further_than_it_is(clip_norm: str, advice: str) -> None:
    config = load(["data=digits", "model=resnet20", "model.width=4", f"precision.clip_norm={clip_norm}"])
    (learner,) = Blueprint(config).learners([0], torch.device("cpu"))
    with pytest.raises(NonFiniteLossError, match=advice):
        learner.finite.check(torch.tensor(float("nan")), "a unit", 0)
