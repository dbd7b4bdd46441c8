"""What data and task look like to a model: one image in, logits out."""

from typing import TypedDict

import torch

from isograd.data.field import Field, Fields


class Sides(TypedDict):
    """Keywords of a model's builder."""

    inputs: Fields
    outputs: Fields


def classification(shape: tuple[int, int, int] = (3, 32, 32), num_classes: int = 10) -> Sides:
    """Returns the fields of an image classification."""
    image, logits = Field(shape, torch.uint8, "image"), Field((num_classes,), torch.float32, "vector")
    return {"inputs": {"image": image}, "outputs": {"logits": logits}}
