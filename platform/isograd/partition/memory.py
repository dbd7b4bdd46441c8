"""How much memory a training step keeps from forward to backward, counted through autograd's own hooks."""

import weakref
from collections.abc import Iterable
from types import TracebackType
from typing import Self

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks


class _Saved:
    """A tensor that autograd keeps; it is let go of when autograd lets go of this."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


class SavedBytes:
    """Counts the bytes of tensors that autograd has saved for backward; a context manager.

    A storage counts once, however often it is saved, and until nothing that saved it is left; weights do not count.

    Args:
        weights: Tensors that do not count.

    Attributes:
        live_bytes: Saved now.
        peak_bytes: Most saved at once.
    """

    def __init__(self, weights: Iterable[Tensor]) -> None:
        self.live_bytes = self.peak_bytes = 0
        self._weights = {weight.untyped_storage().data_ptr() for weight in weights}
        self._holders: dict[int, int] = {}
        self._hooks = saved_tensors_hooks(self._pack, self._unpack)

    def __enter__(self) -> Self:
        self._hooks.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hooks.__exit__(kind, error, trace)

    def _pack(self, tensor: Tensor) -> _Saved:
        saved, storage = _Saved(tensor), tensor.untyped_storage()
        address, num_bytes = storage.data_ptr(), storage.nbytes()
        if address not in self._weights:
            if address not in self._holders:
                self.live_bytes += num_bytes
                self.peak_bytes = max(self.peak_bytes, self.live_bytes)
            self._holders[address] = self._holders.get(address, 0) + 1
            weakref.finalize(saved, self._release, address, num_bytes)
        return saved

    @staticmethod
    def _unpack(saved: _Saved) -> Tensor:
        return saved.tensor

    def _release(self, address: int, num_bytes: int) -> None:
        self._holders[address] -= 1
        if not self._holders[address]:
            del self._holders[address]
            self.live_bytes -= num_bytes


class AllocatedBytes:
    """Counts what a step allocates on a GPU at most, beyond what was there before; a context manager.

    Attributes:
        peak_bytes: Most allocated at once, less what was allocated at the beginning.
    """

    def __init__(self, device: torch.device) -> None:
        self._device, self.peak_bytes = device, 0

    def __enter__(self) -> Self:
        torch.cuda.synchronize(self._device)
        torch.cuda.reset_peak_memory_stats(self._device)
        self._before = torch.cuda.memory_allocated(self._device)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        torch.cuda.synchronize(self._device)
        self.peak_bytes = torch.cuda.max_memory_allocated(self._device) - self._before
