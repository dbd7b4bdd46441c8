"""A method that changes the backbone and leaves the losses to another method (RepL)."""

import dataclasses
from functools import cached_property
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import nn

from isograd.errors import ConfigError
from isograd.local.exchange import Exchange
from isograd.local.method import METHODS, Method
from isograd.local.module import Objective
from isograd.methods.repl.replaced import fold, plain
from isograd.models.backbone import Backbone
from isograd.options import check_declared
from isograd.partition.partition import Partition
from isograd.registry import suggestion


class Wrapping(Method):
    """Has the objectives and the exchange of the method that its configuration names: ``wraps``, with ``options``."""

    @property
    def default_num_modules(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """K where the user names none: the wrapped method's."""
        return self._wrapped.default_num_modules

    @property
    def default_table(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The published cut table where the user names none: the wrapped method's."""
        return self._wrapped.default_table

    @property
    def max_num_modules(self) -> int | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Greatest K, or None: the wrapped method's."""
        return self._wrapped.max_num_modules

    @property
    def exchange(self) -> Exchange:
        """What crosses a cut: the wrapped method's."""
        return self._wrapped.exchange

    def arrange(self, partition: Partition) -> Partition:
        """Returns the wrapped method's partition."""
        return self._wrapped.arrange(partition)

    def fold(self, backbone: Backbone) -> Backbone:
        """Returns the network with ordinary blocks in place of replaced ones, as the wrapped method uses it."""
        return self._wrapped.fold(fold(backbone))

    def objective(self, partition: Partition, index: int) -> Objective:
        """Builds the wrapped method's objective; auxiliary blocks are like the backbone's own, with all weights."""
        return self._wrapped.objective(plain(partition), index)

    def last_objective(self, partition: Partition) -> Objective:
        """Builds the wrapped method's last objective."""
        return self._wrapped.last_objective(partition)

    def cascade(self, partition: Partition, index: int) -> Objective | None:
        """Builds the wrapped method's cascade objective."""
        return self._wrapped.cascade(plain(partition), index)

    def reach(self, partition: Partition, index: int) -> int:
        """Returns the wrapped method's reach."""
        return self._wrapped.reach(partition, index)

    def num_passes(self, partition: Partition, index: int) -> list[int]:
        """Returns the wrapped method's numbers of passes."""
        return self._wrapped.num_passes(partition, index)

    def follows(self, partition: Partition, index: int) -> tuple[str, ...]:
        """Returns the units that the wrapped method averages; none of them is replaced."""
        return self._wrapped.follows(partition, index)

    def initialise(self, objective: nn.Module, partition: Partition, index: int) -> None:
        """Draws the weights of an objective as the wrapped method does."""
        self._wrapped.initialise(objective, plain(partition), index)

    @cached_property
    def _wrapped(self) -> Method:
        config = wrapped_config(self.config.wraps, self.config.options)
        return METHODS.get(self.config.wraps)(config, self.task, self.dataset)


def wrapped_config(name: str, options: dict[str, Any]) -> Any:
    """Returns the configuration of a method that is wrapped.

    Args:
        name: Of the method.
        options: Those that differ from its defaults.

    Raises:
        UnknownNameError: There is no such method.
        ConfigError: It wraps another one itself, does not have an option, or cannot have that value.
    """
    method = METHODS.get(name)
    if issubclass(method, Wrapping):
        raise ConfigError(
            f"method.wraps={name} wraps a method that itself wraps another one",
            "It has no losses of its own, and what it makes of the backbone could not be changed once more",
            "Use method.wraps=e2e, or another method with losses.",
        )
    default = method.Config()
    known = [item.name for item in dataclasses.fields(default) if item.name != "name"]
    for option in options:
        if option not in known:
            raise ConfigError(
                f"method.options has '{option}', which method '{name}' does not have.{suggestion(option, known)}",
                f"Its options are: {', '.join(known) or 'none'}",
                "Use these names in method.options.",
            )
    config = _typed(default, options)
    check_declared("method.options", config)
    return config


def _typed(default: Any, options: dict[str, Any]) -> Any:
    try:
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(default), options))
    except OmegaConfBaseException as error:
        raise ConfigError(
            f"method.options={options} does not fit method '{default.name}' ({str(error).splitlines()[0]})",
            "Each value has to have its option's type",
            f"Use values like the defaults of `isograd train method={default.name} --config`.",
        ) from error
