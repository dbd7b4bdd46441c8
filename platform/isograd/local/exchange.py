"""What crosses a cut in one step, as data."""

from dataclasses import dataclass, fields

from isograd.errors import ExchangeError


@dataclass(frozen=True)
class Exchange:
    """What a method's local modules tell each other, beyond the activation and the target that always go down.

    Attributes:
        input: The un-normalised image goes down to every local module (InfoPro's decoders).
        up_weights: A versioned snapshot of later modules' first blocks goes up (MAN, MLAAN).
        up_gradient: The gradient of a cascade window goes up (HPFF, MLAAN).
    """

    input: bool = False
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
                f"This executor carries {', '.join(sorted(served)) or 'nothing'} beyond activations and targets",
                "Use a method without this exchange.",
            )
