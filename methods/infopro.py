"""InfoPro (Wang, Ni, Song, Yang, Huang, "Revisiting Locally Supervised Learning: an Alternative to End-to-end
Training", ICLR 2021).

Module k < K-1 minimises lambda1 BCE(decoder(h_k), image) + lambda2 L_y(head(h_k)) (equation 9): keep the information
about the image, and make the activation useful for the task. L_y is cross-entropy or a supervised contrastive loss.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import torch
from isograd.data.transforms import Normalize
from isograd.errors import ConfigError
from isograd.local import infopro
from isograd.local.exchange import Exchange
from isograd.local.method import METHODS, Method
from isograd.local.module import Objective, Outcome
from isograd.partition.partition import Partition
from isograd.tasks.task import Task
from torch import Tensor, nn
from torch.nn import functional as F

CONTRAST_WIDTH = 128


class InfoProObjective(Objective):
    """lambda1 times reconstruction plus lambda2 times the task's loss, or the contrastive one.

    Args:
        contrast: Whether the head's output is an embedding for the contrastive loss rather than a prediction.
    """

    def __init__(
        self,
        task: Task,
        normalize: Normalize,
        decoder: nn.Module,
        head: nn.Module,
        lambda1: float,
        lambda2: float,
        contrast: bool,
    ) -> None:
        super().__init__()
        self.task, self.contrast = task, contrast
        self.lambda1, self.lambda2 = lambda1, lambda2
        self.normalize, self.decoder, self.head = normalize, decoder, head

    def forward(self, feature: Tensor, target: Tensor, pixels: Tensor | None) -> Outcome:
        """Returns the weighted sum of both losses. Shapes: as :class:`~isograd.local.module.Objective`."""
        if pixels is None:
            raise AssertionError("InfoPro's exchange carries the image")
        image = self.decoder(feature)
        # Outside autocast: binary cross-entropy of probabilities is unsafe in half precision, and torch refuses it.
        with _full_precision(image):
            reconstruction = F.binary_cross_entropy(image.to(self.normalize.mean.dtype), self.normalize.restore(pixels))
        output = self.head(feature)
        if self.contrast:
            with _full_precision(output):
                loss = infopro.supervised_contrast(output.to(self.normalize.mean.dtype), target)
        else:
            loss = self.task.loss(output, target)
        return Outcome(self.lambda1 * reconstruction + self.lambda2 * loss, None if self.contrast else output)

    def predict(self, feature: Tensor) -> Tensor | None:
        """Returns the head's logits, (B, Y); None for an embedding."""
        return None if self.contrast else self.head(feature)


@METHODS.register("infopro")
class InfoPro(Method):
    """Reconstruction of the image plus a local task loss.

    Note:
        The coefficients are interpolated over the module index, r = k / (K - 2), r = 0 for K = 2. K is the number of
        pieces. A coefficient of 0 still yields zero gradients, so weight decay and momentum act on that part, as in
        the release. The image is reconstructed from normalised * std + mean (see ``Normalize``). The release's
        evaluation loss is cross-entropy only; accuracy is what we report.

        ``decoder=imagenet`` and ``head=imagenet`` are the released ImageNet parts for 512x28x28 activations; biases
        that a following BatchNorm cancels are left out. InfoPro was not published for transformers: there, patch
        tokens are laid out as a map.
    """

    exchange = Exchange(input=True)

    @dataclass
    class Config:
        """Attributes:
        loss: ``softmax`` (the task's loss) or ``contrast``.
        lambda1: Weight of the reconstruction in the first and in the last but one module.
        lambda2: Weight of the task or contrastive loss, likewise.
        head: ``0c1f`` ... ``2c2f`` (convolutions and fully connected layers), or ``imagenet``.
        decoder: ``plain`` or ``imagenet``.
        feature_dim: Width of the head's hidden fully connected layer.
        widen: Factor on the widths of decoder and head.
        """

        name: str = "infopro"
        loss: str = "softmax"
        lambda1: list[float] = field(default_factory=lambda: [5.0, 0.0])
        lambda2: list[float] = field(default_factory=lambda: [0.5, 1.0])
        head: str = "1c2f"
        decoder: str = "plain"
        feature_dim: int = 128
        widen: int = 1

    def objective(self, partition: Partition, index: int) -> Objective:
        """Builds decoder and head for the module's last feature, with its interpolated coefficients."""
        config = self.config
        _check(config)
        return InfoProObjective(
            self.task,
            self.normalize,
            self._decoder(partition, index),
            self._head(partition, index),
            interpolated(config.lambda1, index, partition.num_modules),
            interpolated(config.lambda2, index, partition.num_modules),
            config.loss == "contrast",
        )

    def _decoder(self, partition: Partition, index: int) -> nn.Module:
        feature, shape = partition.units(index)[-1].output, partition.backbone.input_shape
        if self.config.decoder == "imagenet":
            return infopro.imagenet_decoder(feature, shape)
        return infopro.image_decoder(feature, shape, self.config.widen)

    def _head(self, partition: Partition, index: int) -> nn.Module:
        feature = partition.units(index)[-1].output
        num_outputs = CONTRAST_WIDTH if self.config.loss == "contrast" else self.task.num_outputs
        if self.config.head == "imagenet":
            return infopro.imagenet_head(feature, num_outputs)
        return infopro.head(
            self.config.head,
            feature,
            num_outputs,
            last_channels=partition.backbone.units[-2].output.channels,
            feature_dim=self.config.feature_dim,
            widen=self.config.widen,
        )


def interpolated(ends: list[float], index: int, num_modules: int) -> float:
    """Returns (1 - r) first + r last with r = index / (K - 2), the first value for K = 2."""
    ratio = index / (num_modules - 2) if num_modules > 2 else 0.0
    return (1 - ratio) * ends[0] + ratio * ends[1]


def _full_precision(value: Tensor) -> AbstractContextManager[None]:
    return torch.autocast(value.device.type, enabled=False)  # pyright: ignore[reportReturnType]


def _check(config: InfoPro.Config) -> None:
    for option, known in (("loss", ("softmax", "contrast")), ("decoder", ("plain", "imagenet"))):
        if getattr(config, option) not in known:
            raise ConfigError(
                f"method.{option}='{getattr(config, option)}' is not known",
                f"InfoPro's {option} is {' or '.join(known)}",
                f"Use method.{option}={known[0]}.",
            )
    for name in ("lambda1", "lambda2"):
        ends = getattr(config, name)
        if len(ends) != 2:
            raise ConfigError(
                f"method.{name}={list(ends)} has {len(ends)} values",
                "It is interpolated from the first local module to the last but one, so it needs two",
                f"Use method.{name}=[5,0.5], for example.",
            )
