"""Stops a run whose loss is no longer a number."""

import math
from collections import deque

import torch
from torch import Tensor

from isograd.errors import NonFiniteLossError


class FiniteLoss:
    """Watches the losses of one local module.

    On the CPU each loss is looked at before the update. On a GPU that would wait for the device at every step; there,
    losses are copied to the host as they come and looked at once they have arrived, at the latest by :meth:`flush`.

    Args:
        clip_norm: Largest norm of the module's gradient; 0: it is not clipped.
    """

    def __init__(self, clip_norm: float = 0.0) -> None:
        self._clip_norm = clip_norm
        self._pending: deque[tuple[Tensor, torch.cuda.Event, str, int]] = deque()

    def check(self, loss: Tensor, module: str, step: int) -> None:
        """Looks at a loss. Raises NonFiniteLossError."""
        if loss.device.type != "cuda":
            self._raise_unless_finite(float(loss), module, step)
            return
        copy = torch.empty((), dtype=loss.dtype, pin_memory=True)
        copy.copy_(loss, non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record()
        self._pending.append((copy, arrived, module, step))
        while self._pending and self._pending[0][1].query():
            self._look()

    def flush(self) -> None:
        """Waits for all losses that are under way. Raises NonFiniteLossError."""
        while self._pending:
            self._pending[0][1].synchronize()
            self._look()

    def _look(self) -> None:
        copy, _, module, step = self._pending.popleft()
        self._raise_unless_finite(float(copy), module, step)

    def _raise_unless_finite(self, loss: float, module: str, step: int) -> None:
        if not math.isfinite(loss):
            lower = f"{min(self._clip_norm / 10, 1):g}" if self._clip_norm else "1"
            raise NonFiniteLossError(
                f"the loss of the local module that ends in {module} is {loss} at step {step}",
                "Its weights would become NaN, and every later number with them",
                f"Use a lower optimizer.lr, or precision.clip_norm={lower}.",
            )
