"""Image classification: softmax cross-entropy, judged by top-1 accuracy."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from isograd.tasks.task import TASKS


@TASKS.register("classification")
@dataclass(frozen=True)
class Classification:
    """Attributes:
    num_outputs: Y, the number of classes.
    label_smoothing: Share of the target's mass that is spread evenly over all classes.
    """

    num_outputs: int
    label_smoothing: float = 0.0

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy, mean over the batch. Shapes: prediction (B, Y), target (B,) -> ()."""
        return F.cross_entropy(prediction, target, label_smoothing=self.label_smoothing)

    def num_correct(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Top-1 hits. Shapes: prediction (B, Y), target (B,) -> ()."""
        return (prediction.argmax(dim=1) == target).sum()
