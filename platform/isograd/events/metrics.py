"""Running sums of a local module's metrics, kept on its device so that no step waits for them."""

import torch
from torch import Tensor


class Meter:
    """Sums loss, hits and images. Loss and accuracy stay None for a module that has no loss, or predicts nothing."""

    def __init__(self, device: torch.device) -> None:
        self._loss = torch.zeros((), dtype=torch.float64, device=device)
        self._correct = torch.zeros((), dtype=torch.int64, device=device)
        self._has_loss = self._predicts = False
        self.num_images = 0

    def add(self, num_images: int, loss: Tensor | None, num_correct: Tensor | None) -> None:
        """Adds one batch; ``loss`` is a mean over it."""
        self.num_images += num_images
        if loss is not None:
            self._has_loss = True
            self._loss += loss.to(torch.float64) * num_images
        if num_correct is not None:
            self._predicts = True
            self._correct += num_correct

    @property
    def loss(self) -> float | None:
        """Mean over all images so far, or None."""
        return float(self._loss) / self.num_images if self._has_loss and self.num_images else None

    @property
    def accuracy(self) -> float | None:
        """Share of hits, or None."""
        return int(self._correct) / self.num_images if self._predicts and self.num_images else None

    def state(self) -> Tensor:
        """Returns the sums as one tensor, for a checkpoint in the middle of an epoch."""
        sums = [self._loss, self._correct, self._has_loss, self._predicts, self.num_images]
        return torch.tensor([float(value) for value in sums], dtype=torch.float64)

    def load_state(self, state: Tensor) -> None:
        """Takes up sums that :meth:`state` returned."""
        loss, correct, has_loss, predicts, num_images = state.tolist()
        self._loss.fill_(loss)
        self._correct.fill_(int(correct))
        self._has_loss, self._predicts, self.num_images = bool(has_loss), bool(predicts), int(num_images)
