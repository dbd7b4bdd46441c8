"""Patches that leave out part of an image: networks that cut images up take as many as fit, and say nothing."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import gcd

from torch import Tensor, nn

from isograd.errors import BackboneError


@contextmanager
def whole_patches(name: str, modules: Sequence[nn.Module], input_shape: tuple[int, int, int]) -> Iterator[None]:
    """Refuses, while the modules run on an image, a layer that cuts it into patches and does not cut all of it.

    Such a layer is one whose stride is its kernel: a convolution on the image itself, or an `nn.Unfold` anywhere. What
    counts is what runs, not what the network is called: one that pads the image, or overlaps its patches, passes, and
    so does a later layer that halves a map of odd size, whose border the layers before have mixed into the rest.

    Args:
        name: Of the network, for messages.
        modules: All that may run.
        input_shape: (C, H, W) of the image.

    Raises:
        BackboneError: Rows or columns of the image belong to no patch.
    """
    parts = dict.fromkeys(part for module in modules for part in module.modules())
    layers = [part for part in parts if isinstance(part, nn.Conv2d | nn.Unfold) and max(_pair(part.stride)) > 1]
    handles = [layer.register_forward_hook(_check(name, input_shape)) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _check(name: str, input_shape: tuple[int, int, int]) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
    _, height, width = input_shape

    def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if not isinstance(layer, nn.Conv2d | nn.Unfold):
            return
        patch, size = _pair(layer.kernel_size), tuple(inputs[0].shape[-2:])
        is_map = isinstance(layer, nn.Conv2d)
        if patch != _pair(layer.stride) or (is_map and size != (height, width)):
            return
        # What a convolution covers is read off its output, which tells whether it padded by itself ("same").
        covered = [n * p for n, p in zip(output.shape[-2:], patch, strict=True)] if is_map else _covered(layer, size)
        rows, columns = (max(side - part, 0) for side, part in zip(size, covered, strict=True))
        if rows or columns:
            raise _refused(name, input_shape, size, patch, rows, columns)

    return hook


def _covered(layer: nn.Module, size: tuple[int, ...]) -> list[int]:
    padded = [side + 2 * pad for side, pad in zip(size, _pair(layer.padding), strict=True)]
    return [side // patch * patch for side, patch in zip(padded, _pair(layer.kernel_size), strict=True)]


def _refused(
    name: str,
    input_shape: tuple[int, int, int],
    size: tuple[int, ...],
    patch: tuple[int, int],
    rows: int,
    columns: int,
) -> BackboneError:
    what = "images" if size == input_shape[1:] else f"images of {input_shape[1]}x{input_shape[2]} pixels, as maps"
    whole = [-(-side // part) * part for side, part in zip(size, patch, strict=True)]
    resized = f"data.image_shape=[{input_shape[0]},{whole[0]},{whole[1]}] data.loading=stream data.crop=random"
    fitting = max(n for n in range(1, max(patch) + 1) if gcd(*size) % n == 0)
    cut = f"where the architecture takes it, model.kwargs.patch_size={fitting}, or " if fitting > 1 else ""
    return BackboneError(
        f"{name} cuts {what} of {size[0]}x{size[1]} into patches of {patch[0]}x{patch[1]}: {rows} rows and "
        f"{columns} columns belong to none",
        "They would be left out in silence, in training and in tests",
        f"Use {cut}{resized}, which resizes the images, or another architecture."
        if size == input_shape[1:]
        else f"Use {cut}other sides in data.image_shape=[C,H,W], or another architecture.",
    )


def _pair(value: object) -> tuple[int, int]:
    if isinstance(value, tuple | list):
        return int(value[0]), int(value[-1])
    return (int(value), int(value)) if isinstance(value, int) else (0, 0)  # "same" and "valid" are no numbers
