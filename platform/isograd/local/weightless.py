"""Networks without memory for their weights: to find out whether they can be built."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_FILLING = frozenset(
    [getattr(nn.init, name) for name in dir(nn.init) if name.endswith("_") and not name.startswith("_")]
    + [Tensor.normal_, Tensor.uniform_, Tensor.fill_, Tensor.zero_]
)


@contextmanager
def weightless() -> Iterator[None]:
    """Runs a block in which tensors are made on the device `meta`, and initial weights are not drawn.

    There is nothing to draw, and torch works it out in Python all the same: half of the time that building takes.
    """
    with torch.device("meta"), _Unfilled():
        yield


class _Unfilled(TorchFunctionMode):
    """Leaves tensors without memory as they are."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        options = kwargs or {}
        if func in _FILLING and (tensor := args[0] if args else options["tensor"]).is_meta:
            return tensor
        return func(*args, **options)
