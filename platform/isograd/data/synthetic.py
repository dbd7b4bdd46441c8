"""Batches for measurements: random images, held in memory, of any shape and number."""

import numpy as np

from isograd.data.memory import Images, MemorySource
from isograd.data.transforms import Augmentation


def source(
    num_batches: int, batch_size: int, shape: tuple[int, int, int] = (3, 32, 32), num_classes: int = 10
) -> MemorySource:
    """Returns ``num_batches`` batches an epoch of random images, augmented as CIFAR-10 is; no test split."""
    generator = np.random.Generator(np.random.PCG64(0))
    count = num_batches * batch_size
    train = Images(
        generator.integers(0, 256, (count, *shape), dtype=np.uint8), generator.integers(0, num_classes, count)
    )
    test = Images(train.pixels[:0], train.targets[:0])
    return MemorySource(train, test, batch_size=batch_size, seed=0, augmentation=Augmentation(padding=4, flip=True))
