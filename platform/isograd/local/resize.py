"""Bilinear resizing, alone and together with the convolution that follows it."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Resize(nn.Module):
    """Bilinear resize to a fixed size, corners aligned. Shapes: (B, C, H, W) -> (B, C, *size)."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, value: Tensor) -> Tensor:
        """Resizes."""
        if value.shape[2:] == self.size:
            return value
        return F.interpolate(value, size=self.size, mode="bilinear", align_corners=True)


class ResizedConv2d(nn.Conv2d):
    """A 3x3 convolution (padding 1) of a bilinearly enlarged map. Shapes: (B, C, h, w) -> (B, O, *size).

    Enlarging and convolving are both linear, so channels can be mixed before the map grows: with X the map, A_d the
    matrix that enlarges columns and shifts them by tap d, and B_d the same for rows,

        Y_o = sum over taps (d, e) of  A_d (sum_c W_ocde X_c) B_e^T + bias_o.

    That takes a fraction of the multiplications, and the enlarged map never exists. Equal to ``Conv2d(Resize(x))`` up
    to rounding. On a GPU, and where the map grows little, the plain way is taken. The output is laid out as NHWC on the
    CPU, whose convolutions with few channels are faster so.
    """

    def __init__(self, in_channels: int, out_channels: int, size: tuple[int, int]) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1)
        self.resize = Resize(size)

    def forward(self, input: Tensor) -> Tensor:
        """Enlarges and convolves."""
        if input.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
            return super().forward(self.resize(input))
        height, width = self.resize.size
        if height * width < 2 * input.shape[2] * input.shape[3]:
            return super().forward(self.resize(input).contiguous(memory_format=torch.channels_last))
        return self._fused(input)

    def _fused(self, value: Tensor) -> Tensor:
        """Mixes channels once for each tap, then enlarges columns, then rows; all as matrix products over NHWC."""
        batch, channels, h, w = value.shape
        height, width = self.resize.size
        weight = self.weight.permute(1, 2, 3, 0).reshape(channels, -1)  # (C, 3 3 O)
        mixed = value.permute(0, 2, 3, 1).reshape(-1, channels) @ weight  # (B h w, 3 3 O)
        mixed = mixed.view(batch, h, w, 3, -1).permute(0, 3, 1, 2, 4)  # (B, 3, h, w, 3 O)
        columns = _taps(h, height, value) @ mixed.reshape(batch, 3 * h, -1)  # (B, H, w 3 O)
        taps = _taps(w, width, value).unflatten(1, (3, w)).transpose(1, 2).flatten(1)  # (W, w 3)
        enlarged = taps @ columns.view(batch * height, 3 * w, -1)  # (B H, W, O)
        assert self.bias is not None
        return (enlarged + self.bias).view(batch, height, width, -1).permute(0, 3, 1, 2)


def _taps(given: int, wanted: int, like: Tensor) -> Tensor:
    """Returns the matrices that enlarge ``given`` values to ``wanted`` and shift them by -1, 0 and 1, side by side.

    Shapes: () -> (wanted, 3 given).
    """
    unit = torch.eye(given, dtype=like.dtype, device=like.device)
    enlarge = F.interpolate(unit[None], size=wanted, mode="linear", align_corners=True)[0].T  # (wanted, given)
    padded = F.pad(enlarge, (0, 0, 1, 1))
    return torch.cat([padded[shift : shift + wanted] for shift in range(3)], dim=1)
