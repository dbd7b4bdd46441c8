"""Seeds. Every random number is drawn from a stream that is named, not from one that happens to be next.

A name is a tuple such as ``(seed, "unit", "layer1.0")`` or ``(seed, "noise", step, "layer1.0")``. Streams so named
depend neither on the number of local modules, nor on the number of stages, nor on the executor, and a resumed run
finds them again without a stored generator state.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derive(*name: int | str) -> int:
    """Returns the 63-bit seed of the stream called ``name``."""
    digest = hashlib.blake2b(repr(name).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


@contextmanager
def seeded(*name: int | str) -> Iterator[None]:
    """Runs a block with torch's CPU generator at the start of the stream ``name``; restores it afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive(*name))
        yield


def reseed(device: torch.device, *name: int | str) -> None:
    """Puts the generator that dropout on ``device`` draws from at the start of the stream ``name``."""
    seed = derive(*name)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


def generator(*name: int | str) -> torch.Generator:
    """Returns a fresh CPU generator at the start of the stream ``name``."""
    return torch.Generator().manual_seed(derive(*name))
