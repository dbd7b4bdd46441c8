"""A task that does not keep its contract is refused in three parts, before it trains."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from isograd.cli.main import main
from isograd.config.load import load
from isograd.data.field import Tree
from isograd.engine.blueprint import Blueprint
from isograd.engine.contract import check_task
from isograd.errors import TaskError, UnknownNameError
from isograd.models.backbone import MAIN, Feature
from isograd.tasks.classification import Classification
from isograd.tasks.task import TASKS, Form, Head, Metrics

SMALL = ("data=digits", "model=resnet20", "model.width=4", "partition.num_modules=3", "executor=sequential")


def measuring(sums: list[float], values: Mapping[str, float]) -> Callable[..., Metrics]:
    class Made(Metrics):
        def measure(self, prediction: Tree, targets: Tree) -> Tensor:
            return torch.tensor(sums)

        def compute(self) -> dict[str, float]:
            return dict(values)

    return lambda self, device: Made(1, device)


def head(make: Callable[[Feature], nn.Module], reads: str = MAIN, writes: str = "logits") -> Callable[..., Head]:
    def build(self: Any, live: Mapping[str, Feature], form: Form) -> Head:
        return Head(make(live[MAIN]), (reads,), (writes,))

    return build


def flat(width: int) -> Callable[[Feature], nn.Module]:
    return lambda feature: nn.Sequential(nn.Flatten(), nn.Linear(math.prod(feature.shape), width))


@pytest.mark.parametrize(
    ("part", "made", "words"),
    [
        ("metrics", measuring([0.0], {"loss": 0.0}), "is judged by 'error', which is none of its 1 metrics"),
        ("metrics", measuring([0.0], {"error": math.nan}), "'error', is nan over 4 random predictions"),
        ("metrics", measuring([0.0, 1.0], {"error": 0.0}), "cannot measure 4 random predictions .RuntimeError"),
        (
            "loss",
            lambda self, prediction, targets: prediction["logits"].mean(),
            "cannot take the loss of 4 .*TypeErr",
        ),
        ("loss", lambda self, prediction, targets: (prediction["logits"], 1), r"is of shape \(4, 10\)"),
        ("loss", lambda self, prediction, targets: (torch.zeros(()), 1), "is without a gradient"),
        ("loss", lambda self, prediction, targets: (1.0, 1), "is a float"),
        ("loss", lambda self, prediction, targets: (prediction["logits"].mean(), None), "a NoneType for its weight"),
        ("head", head(lambda feature: nn.Linear(99, 10)), "layer.* cannot be fed with what is alive.*RuntimeError"),
        ("head", head(flat(10), reads="skip"), r"reads skip. What is alive there is x \(4, 8, 8\)"),
        ("head", head(flat(10), writes="probabilities"), "writes probabilities. The loss is of .* logits"),
        ("head", head(flat(6)), r"predicts logits of shape \(6,\), and the task's output has \(10,\)"),
    ],
)
def test_a_task_that_does_not_keep_its_contract_is_refused(
    part: str, made: Any, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    blueprint = Blueprint(load(SMALL))
    check_task(blueprint)
    monkeypatch.setattr(Classification, part, made)
    with pytest.raises(TaskError, match=words) as caught:
        check_task(blueprint)
    assert len(caught.value.args) == 3


@pytest.mark.parametrize("verb", [("train",), ("plan",), ("plan", "--counted")])
def test_it_is_refused_before_anything_is_timed_or_trained(
    verb: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Any
) -> None:
    monkeypatch.setattr(Classification, "head", head(flat(6)))
    assert main([*verb, *SMALL, f"folder={tmp_path}"]) == 2
    assert "predicts logits of shape (6,)" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_a_form_is_refused_that_a_task_does_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though the task's head may not look at its name."""
    monkeypatch.setattr(Classification, "forms", ("auto",))
    Blueprint(load(SMALL)).check()
    with pytest.raises(UnknownNameError, match=r"task=classification has no auxiliary network 'mlp'.* Use .*=auto"):
        Blueprint(load([*SMALL, "method.auxiliary=mlp"])).check()


def test_no_random_number_is_taken_from_a_run() -> None:
    torch.manual_seed(0)
    blueprint = Blueprint(load(SMALL))
    blueprint.partition  # noqa: B018
    state = torch.get_rng_state()
    check_task(blueprint)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("task", TASKS)
def test_tasks_keep_their_contracts(task: str) -> None:
    check_task(Blueprint(load([f"task={task}", *TASKS.get(task).example, "partition.num_modules=2"])))
