"""What the libraries of image classifiers have in common: the options of a network, and its construction."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from isograd.errors import BackboneError, ConfigError
from isograd.options import number

REFUSALS = (RuntimeError, ValueError, AssertionError, ArithmeticError, LookupError)  # of a size that does not fit


@dataclass
class LibraryConfig:
    """A network of a library, by its name there.

    Attributes:
        name: Of the registry's entry.
        architecture: What timm's ``create_model`` or torchvision's ``get_model`` takes.
        pretrained: Starts from the library's weights (downloaded) instead of random ones; the classifier is new where
            the number of classes differs.
        drop_rate: Probability of dropout, 0 for none, whatever the architecture's own default.
        drop_path_rate: Probability of dropping the last residual branch; falls towards the first. 0 for none.
        kwargs: Further keywords of the library's function.
    """

    name: str
    architecture: str = "resnet18"
    pretrained: bool = False
    drop_rate: float = number(0.0, 0, 1)
    drop_path_rate: float = number(0.0, 0, 1)
    kwargs: dict[str, Any] = field(default_factory=dict)


def construct(name: str, make: Callable[..., nn.Module], kwargs: dict[str, Any], optional: dict[str, Any]) -> nn.Module:
    """Calls ``make`` with ``kwargs``, which it must take, and with those of ``optional`` that it takes.

    Raises:
        ConfigError: It rejects a keyword of ``kwargs``.
        BackboneError: It fails, for instance because of the image size, or because pretrained weights are missing.
    """
    options = {**optional, **kwargs}
    try:
        return make(**options)
    except TypeError as error:
        quoted = set(re.findall(r"'(\w+)'", str(error)))
        rejected = quoted & (optional.keys() - kwargs.keys())
        if rejected and not quoted & kwargs.keys():
            return construct(name, make, kwargs, {key: optional[key] for key in optional.keys() - rejected})
        raise ConfigError(
            f"{name} does not take these options: {kwargs} ({error})",
            "Each architecture has options of its own",
            "Correct model.drop_rate, model.drop_path_rate or model.kwargs, or use an architecture that takes them.",
        ) from error
    except (*REFUSALS, OSError) as error:
        raise BackboneError(
            f"{name} cannot be built with {options}: {error}",
            "The architecture does not fit the image size of the data or these options",
            "Change model.kwargs or the architecture; without access to the internet, use model.pretrained=false.",
        ) from error
