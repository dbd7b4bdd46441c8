"""Where a local module's gradients meet those of other workers that train the same module on other samples."""

from typing import Protocol

from isograd.local.module import LocalModule


class Reducer(Protocol):
    """Averages gradients among workers, in two parts: what is under way between them overlaps other modules' compute.

    In each training step both are called once for every module, trained or not, in the same order on all workers.
    """

    def begin(self, module: LocalModule) -> None:
        """Is told that a module's last backward sweep has ended: its gradients are whole, and may be sent."""
        ...

    def finish(self, module: LocalModule) -> None:
        """Returns when the module's gradients are the mean over all workers: before they are clipped and used."""
        ...


class Alone:
    """A worker without others. Implements :class:`Reducer`."""

    def begin(self, module: LocalModule) -> None:
        """Does nothing."""

    def finish(self, module: LocalModule) -> None:
        """Does nothing."""


ALONE = Alone()
