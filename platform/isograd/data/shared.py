"""Read-only NumPy memory, such as an object of Ray's store, as a tensor without a copy and without a warning."""

import numpy as np
import torch
from torch import Tensor


def as_tensor(array: np.ndarray) -> Tensor:
    """Returns a tensor over the array's memory, which lives as long as the tensor.

    Torch knows no read-only tensors: whoever gets one must not write to it. The step's guard against in-place changes
    (:func:`isograd.local.step.Step`) enforces that for activations.
    """
    return torch.from_numpy(np.asarray(_Writable(array)))


class _Writable:
    """The same memory under a writable label."""

    def __init__(self, array: np.ndarray) -> None:
        self.owner = array
        self.__array_interface__ = {**array.__array_interface__, "data": (array.ctypes.data, False)}
