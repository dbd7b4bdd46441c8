"""What crosses a cut in one step, as data."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields

from isograd.errors import ExchangeError


@dataclass(frozen=True)
class Exchange:
    """What a method's local modules tell each other, beyond the live values and the targets that always go down.

    Attributes:
        inputs: The inputs as they are stored go down to every local module (InfoPro's decoders).
        up_weights: A versioned snapshot of later modules' first blocks goes up (MAN, MLAAN).
        up_gradient: The gradient of a cascade window goes up (HPFF, MLAAN).
    """

    inputs: bool = False
    up_weights: bool = False
    up_gradient: bool = False

    @property
    def needed(self) -> frozenset[str]:
        """Names of what is exchanged."""
        return frozenset(item.name for item in fields(self) if getattr(self, item.name))

    def check_served(self, served: frozenset[str], method: str, executor: str) -> None:
        """Raises ExchangeError where an executor that serves only ``served`` cannot run the method."""
        missing = sorted(self.needed - served)
        if missing:
            raise ExchangeError(
                f"executor '{executor}' cannot run method '{method}': it exchanges {', '.join(missing)}",
                f"This executor carries {', '.join(sorted(served)) or 'nothing'} beyond live values and targets",
                "Use a method without this exchange.",
            )


@dataclass(frozen=True)
class Window:
    """Which cascade losses train a local module, and which of their gradients it hands to the module before it.

    The cascade loss of module i trains the modules i - r + 1 .. i; r is its reach.

    Attributes:
        sends: Whether the module's own cascade loss reaches the module before it.
        passes: For each later module whose cascade loss reaches this one, in order, whether it reaches further.
    """

    sends: bool = False
    passes: Mapping[int, bool] = field(default_factory=dict)


def window(index: int, num_modules: int, reach: Callable[[int], int]) -> Window:
    """Returns the window of module ``index``.

    Args:
        index: Of the module.
        num_modules: K.
        reach: How many modules the cascade loss of a module trains, itself included; less than 2 for none but itself.
    """
    lowest = {origin: max(origin - reach(origin) + 1, 0) for origin in range(index, num_modules)}
    passes = {origin: first < index for origin, first in lowest.items() if origin > index and first <= index}
    return Window(lowest[index] < index, passes)
