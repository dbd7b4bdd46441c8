"""interim"""

from typing import Any

import torch

from isograd.data.field import Field, Fields
from isograd.data.transforms import Normalize


class Dataset:
    """interim"""

    def __init__(self, config: Any) -> None:
        self.config = config

    @property
    def inputs(self) -> Fields:
        return {"image": Field(tuple(self.config.image_shape), torch.uint8, "image")}

    @property
    def targets(self) -> Fields:
        return {"label": Field((), torch.int64, "label", self.config.num_classes)}

    def entry(self, name: str) -> Normalize:
        return Normalize(self.config.mean, self.config.std)
