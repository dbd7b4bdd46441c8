"""Classification: softmax cross-entropy, judged by top-1 error."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from isograd.data.field import Field, Fields, Tree
from isograd.errors import TaskError
from isograd.models.backbone import MAIN, Feature
from isograd.options import number
from isograd.tasks.heads import VECTOR_HEADS
from isograd.tasks.task import TASKS, Form, Head, Metrics, Score, Task, only_field

LOGITS = "logits"


class TopOne(Metrics):
    """Share of samples whose class is not the one of the largest logit.

    Args:
        label: Name of the target.
        device: Where predictions are.
    """

    def __init__(self, label: str, device: torch.device) -> None:
        super().__init__(1, device)
        self._label = label

    def measure(self, prediction: Tree, targets: Tree) -> Tensor:
        """Returns the number of hits. Shapes: logits (B, Y), label (B,) -> ()."""
        return (prediction[LOGITS].argmax(dim=1) == targets[self._label]).sum()

    def compute(self) -> dict[str, float]:
        """Returns ``error``, in [0, 1]."""
        return {"error": 1 - int(self.sums[0]) / self.num_samples} if self.num_samples else {}


@TASKS.register("classification")
class Classification(Task):
    """One class of Y for each sample."""

    knows_groups = True
    example = ("data=digits", "data.batch_size=8", "model=resnet20", "model.width=4")
    score = Score("error", "%", higher_is_better=False, scale=100.0, label="error")

    @dataclass
    class Config:
        """Attributes:
        label_smoothing: Share of the target's mass that is spread evenly over all classes.
        """

        name: str = "classification"
        label_smoothing: float = number(0.0, least=0, most=1)

    def __init__(self, config: Config, inputs: Fields, targets: Fields) -> None:
        super().__init__(config, inputs, targets)
        self.label, field = only_field(targets, "label", of="targets", task="classification")
        self.num_classes = field.num_values or 0
        self.output = {LOGITS: Field((self.num_classes,), torch.float32, "vector")}

    def head(self, live: Mapping[str, Feature], form: Form) -> Head:
        """Builds one of :data:`~isograd.tasks.heads.VECTOR_HEADS` on the main value."""
        if MAIN not in live:
            raise TaskError(
                f"task=classification has no value to predict from: alive at the cut are {', '.join(live)}",
                f"Its auxiliary networks read the chain's main value, '{MAIN}'",
                "Use other cuts, where the main value is alive.",
            )
        module = VECTOR_HEADS.get(form.name)(live[MAIN], self.num_classes, **form.options)
        return Head(module, (MAIN,), (LOGITS,))

    def loss(self, prediction: Tree, targets: Tree) -> tuple[Tensor, int]:
        """Returns the cross-entropy. Shapes: logits (B, Y), label (B,) -> ()."""
        logits, label = prediction[LOGITS], targets[self.label]
        return F.cross_entropy(logits, label, label_smoothing=self.config.label_smoothing), label.shape[0]

    def metrics(self, device: torch.device) -> TopOne:
        """Returns an empty count of hits."""
        return TopOne(self.label, device)

    def groups(self, targets: Tree) -> Tensor:
        """Returns the classes, (B,)."""
        return targets[self.label]

    @property
    def forms(self) -> Collection[str]:
        """All of the papers'."""
        return VECTOR_HEADS
