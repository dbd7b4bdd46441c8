"""The losses of InfoPro (Wang et al. 2021), which other methods build on."""

from contextlib import AbstractContextManager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from isograd.data.field import Tree
from isograd.data.transforms import Normalize
from isograd.local.module import Given, Objective, Outcome
from isograd.models.backbone import MAIN
from isograd.tasks.task import Task


class Reconstruction(nn.Module):
    """Binary cross-entropy between a decoded activation and the image."""

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, feature: Tensor, image: Tensor) -> Tensor:
        """Returns the loss, mean over all pixels. Shapes: feature (B, ...), image (B, C, H, W) in [0, 1] -> ()."""
        return pixel_loss(self.decoder(feature), image)


def pixel_loss(decoded: Tensor, image: Tensor) -> Tensor:
    """Binary cross-entropy, mean over all pixels, outside autocast: torch refuses it in half precision as unsafe."""
    with full_precision(decoded):
        decoded = decoded.to(image.dtype)
        if decoded.device.type != "cpu":
            return F.binary_cross_entropy(decoded, image)
        return cast(Tensor, _PixelLoss.apply(decoded, image))


class _PixelLoss(torch.autograd.Function):
    """torch's binary cross-entropy, same clamps, with vectorised logarithms: a fifth of its time on a CPU."""

    @staticmethod
    def forward(ctx: Any, decoded: Tensor, image: Tensor) -> Tensor:
        ctx.save_for_backward(decoded, image)
        of_light = torch.log(decoded).clamp_(min=-100).mul_(image)
        of_dark = torch.log1p(-decoded).clamp_(min=-100).mul_(1 - image)
        return of_light.add_(of_dark).mean().neg()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        decoded, image = ctx.saved_tensors
        return torch.ops.aten.binary_cross_entropy_backward(gradients[0], decoded, image), None


class ContrastObjective(Objective):
    """The supervised contrastive loss of an embedding. It predicts nothing.

    Args:
        task: Says which samples belong together.
        head: Makes the embedding of the main value, (B, D).
    """

    def __init__(self, task: Task, head: nn.Module) -> None:
        super().__init__()
        self.task, self.head = task, head

    def forward(self, live: Tree, given: Given) -> Outcome:
        """Returns the loss."""
        embedding, groups = self.head(live[MAIN]), self.task.groups(given.targets)
        with full_precision(embedding):
            wide = embedding if embedding.dtype == torch.float64 else embedding.float()
            return Outcome(supervised_contrast(wide, groups), None, groups.shape[0])

    def predict(self, live: Tree) -> None:
        """Predicts nothing."""


class StoredImage(nn.Module):
    """What a decoder of images reproduces: the input as it is stored, in [0, 1].

    Args:
        name: Of the input.
        normalize: Its entry, which knows the way back.
    """

    def __init__(self, name: str, normalize: Normalize) -> None:
        super().__init__()
        self.name, self.normalize = name, normalize

    def forward(self, given: Given) -> Tensor:
        """Returns the image, (B, C, H, W)."""
        return self.normalize.restore(given.inputs[self.name])


class Entered(nn.Module):
    """What a decoder of sequences reproduces: a value that entered the local module, detached."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, given: Given) -> Tensor:
        """Returns the value."""
        return given.entering[self.name]


class SequenceReconstruction(nn.Module):
    """LoPT's decoder: what entered a module is reproduced from what leaves it, position by position.

    LayerNorm, D -> D / 4, GELU, D / 4 -> D, mean squared error. The first module is entered by tokens: their loss is
    cross-entropy, as that of pixels is binary cross-entropy.

    Args:
        width: D of what leaves.
        entering_width: Of what enters: D, or V for tokens.
    """

    def __init__(self, width: int, entering_width: int) -> None:
        super().__init__()
        inner = max(width // 4, 1)
        self.decoder = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, entering_width)
        )
        for layer in self.decoder:
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight, gain=0.1)
                nn.init.zeros_(layer.bias)

    def forward(self, feature: Tensor, entered: Tensor) -> Tensor:
        """Returns the loss. Shapes: feature (B, T, D), entered (B, T, D), or (B, T) of tokens -> ()."""
        decoded = self.decoder(feature)
        if entered.is_floating_point():
            return F.mse_loss(decoded, entered)
        return F.cross_entropy(decoded.flatten(0, 1), entered.flatten())


class InfoProObjective(Objective):
    """lambda1 times the reconstruction loss plus lambda2 times the loss of the target.

    Args:
        wanted: Says what is reconstructed.
        reconstruction: Maps the main value and that to a loss.
        target: The task's loss, or the contrastive one.
        lambda1: Weight of the reconstruction.
        lambda2: Weight of the target.
    """

    def __init__(
        self,
        wanted: StoredImage | Entered,
        reconstruction: nn.Module,
        target: Objective,
        lambda1: float,
        lambda2: float,
    ) -> None:
        super().__init__()
        self.lambda1, self.lambda2 = lambda1, lambda2
        self.wanted, self.reconstruction, self.target = wanted, reconstruction, target

    def forward(self, live: Tree, given: Given) -> Outcome:
        """Returns the weighted sum of both losses."""
        reconstruction = self.reconstruction(live[MAIN], self.wanted(given))
        outcome = self.target(live, given)
        return Outcome(self.lambda1 * reconstruction + self.lambda2 * outcome.loss, outcome.prediction, outcome.weight)

    def predict(self, live: Tree) -> Tree | None:
        """Returns the head's prediction; None for an embedding."""
        return self.target.predict(live)


def full_precision(value: Tensor) -> AbstractContextManager[None]:
    """Returns a context without autocast."""
    return torch.autocast(value.device.type, enabled=False)  # pyright: ignore[reportReturnType]


def supervised_contrast(embedding: Tensor, groups: Tensor, temperature: float = 0.07) -> Tensor:
    """Supervised contrastive loss with one view (Khosla et al. 2020, L_out), as InfoPro's release computes it.

    Anchors without another sample of their group contribute zero, yet count in the mean.

    Shapes: embedding (B, D), not normalised; groups (B,) -> ().
    """
    unit = F.normalize(embedding, dim=1)
    similarity = unit @ unit.T / temperature  # (B, B)
    similarity = similarity - similarity.max(dim=1, keepdim=True).values.detach()
    others = ~torch.eye(groups.shape[0], dtype=torch.bool, device=groups.device)
    positives = (groups[:, None] == groups[None, :]) & others
    log_total = (similarity.exp() * others).sum(dim=1, keepdim=True).log()
    log_probability = ((similarity - log_total) * positives).sum(dim=1)
    return -(log_probability / positives.sum(dim=1).clamp(min=1)).mean()
