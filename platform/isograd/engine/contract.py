"""Whether a task keeps its contract, tried on random samples before anything is trained on real ones."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

import torch
from torch import Tensor

from isograd.data.field import Field, Tree, draw
from isograd.engine.blueprint import Blueprint
from isograd.errors import IsogradError, TaskError
from isograd.local.weightless import weightless
from isograd.models.backbone import Feature, run_unit
from isograd.tasks.task import Form, Head, Task

_NUM_SAMPLES = 4  # a variance, and so R2, is defined of them


def check_task(blueprint: Blueprint) -> None:
    """Lets a task measure and judge random predictions, and an auxiliary network of its own predict at every cut.

    Raises:
        TaskError: Its score is none of its metrics, or never a number; its loss is none; a head reads what is not
            alive, cannot be fed with what is, or does not predict what the task is judged by.
    """
    with torch.random.fork_rng(devices=[]):  # heads draw weights
        _check_measures(blueprint.task)
        tried: set[tuple[tuple[str, Feature], ...]] = set()
        partition = blueprint.partition
        for module in range(partition.num_modules - 1):
            live = partition.live(module)
            if (values := tuple(live.items())) not in tried:
                tried.add(values)
                _check_head(blueprint.task, live, partition.units(module)[-1].name)


def _check_measures(task: Task) -> None:
    generator, name = torch.Generator().manual_seed(0), f"task={task.config.name}"
    targets = task.synthetic(_NUM_SAMPLES, generator).targets
    prediction = {output: draw(field, _NUM_SAMPLES, generator) for output, field in task.output.items()}
    with _naming(f"{name} cannot measure {_NUM_SAMPLES} random predictions", "Its runs are judged by what it measures"):
        metrics = task.metrics(torch.device("cpu"))
        metrics.update(prediction, targets, _NUM_SAMPLES)
        known = metrics.compute()
    if task.score.metric not in known:
        raise TaskError(
            f"{name} is judged by '{task.score.metric}', which is none of its {len(known)} metrics",
            f"They are {', '.join(known) or 'none'}, and a run without a score could not be compared",
            "Name one of them in the task's score, or compute that metric.",
        )
    if math.isnan(value := known[task.score.metric]):
        raise TaskError(
            f"the score of {name}, '{task.score.metric}', is {value} over {_NUM_SAMPLES} random predictions",
            "A run that is judged by no number could not be compared with others",
            "Let compute of its metrics return a number.",
        )
    if all(field.is_fixed for field in task.output.values()):  # else lengths that were drawn need not go together
        _check_loss(name, task, prediction, targets)


def _check_loss(name: str, task: Task, prediction: Tree, targets: Tree) -> None:
    differentiable = {key: value.requires_grad_(value.is_floating_point()) for key, value in prediction.items()}
    with _naming(f"{name} cannot take the loss of {_NUM_SAMPLES} random predictions", "It is what networks learn by"):
        loss, weight = task.loss(differentiable, targets)
    if not (isinstance(loss, Tensor) and loss.dim() == 0 and loss.requires_grad):
        found = f"of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) and loss.dim() else "without a gradient"
        raise TaskError(
            f"the loss of {name} is {found if isinstance(loss, Tensor) else f'a {type(loss).__name__}'}",
            "It is differentiated by the prediction, so it has to be a scalar that was computed from it by torch",
            "Let loss return a mean over what is predicted, as a tensor.",
        )
    if not isinstance(weight, int | Tensor):
        raise TaskError(
            f"the loss of {name} has a {type(weight).__name__} for its weight",
            "It is over how many terms the loss is a mean, by which batches are added up",
            "Let loss return that count, as a whole number or a tensor.",
        )


def _check_head(task: Task, live: Mapping[str, Feature], unit: str) -> None:
    """Tries a head without memory first, as some have a hundred million weights; what fails so may need values."""
    with suppress(Exception), weightless():
        return _try_head(task, live, unit)
    _try_head(task, live, unit)


def _try_head(task: Task, live: Mapping[str, Feature], unit: str) -> None:
    head = task.head(live, Form())
    where = f"the auxiliary network that task={task.config.name} builds after unit '{unit}'"
    alive = ", ".join(f"{name} {feature.shape}" for name, feature in live.items())
    mend = "Let head of the task build it from the features that it is given, and name the values that it reads."
    if unknown := [name for name in head.reads if name not in live]:
        raise TaskError(f"{where} reads {', '.join(unknown)}", f"What is alive there is {alive}", mend)
    if set(head.writes) != set(task.output):
        raise TaskError(
            f"{where} writes {', '.join(head.writes) or 'nothing'}",
            f"The loss is of what the task's output names: {', '.join(task.output)}",
            "Let the head write these.",
        )
    values = {name: _draw_value(task.inputs.get(name), live[name]) for name in head.reads}
    with _naming(f"{where} cannot be fed with what is alive there", f"That is {alive}, for a sample", mend):
        written = _predict(head, values)
    for name, field in task.output.items():
        shape = tuple(written[name].shape[1:])
        if len(shape) != len(field.shape) or any(
            wanted not in (None, size) for wanted, size in zip(field.shape, shape, strict=True)
        ):
            raise TaskError(
                f"{where} predicts {name} of shape {shape}, and the task's output has {field.shape}",
                "Both are judged by the same loss and metrics",
                "Let the head write what the output says.",
            )


def _predict(head: Head, values: Tree) -> Tree:
    head.module.eval()  # BatchNorm may see a single value a channel
    with torch.no_grad():
        return dict(run_unit(head.module, head.reads, head.writes, values))


def _draw_value(field: Field | None, feature: Feature) -> Tensor:
    """Returns random samples of a live value: whole numbers where it is an input that is stored so, as tokens are."""
    shape = (_NUM_SAMPLES, *feature.shape)
    if field is not None and field.num_values is not None and field.shape == feature.shape:
        return torch.randint(0, field.num_values, shape, dtype=field.dtype)
    return torch.randn(shape)


@contextmanager
def _naming(
    what: str, why: str, mend: str = "Let its shapes be those of the task's output and of the data's targets."
) -> Iterator[None]:
    """Says in three parts what a task's own code raises."""
    try:
        yield
    except IsogradError:
        raise
    except Exception as error:  # whatever a plug-in's code raises
        raise TaskError(f"{what} ({type(error).__name__}: {error})", why, mend) from error
