"""What every kind of data tells of itself, and the registry of data sets.

A kind is a class in a file of its own. A row of :data:`DATASETS` ("cifar10") is a kind with a configuration of its own.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Generic, Self, TypeVar

from torch import nn

from isograd.data.batch import Source
from isograd.data.field import Fields
from isograd.data.identity import Identity
from isograd.data.transforms import UNCHANGED, BatchTransform
from isograd.options import check_declared, number
from isograd.registry import Registry


@dataclass
class DataConfig:
    """What data of every kind is asked for; a kind adds options of its own.

    Attributes:
        name: Of the row.
        batch_size: Samples a batch, B.
        valid: Share of the training split that is held out to validate on, where the data has no validation split of
            its own; 0: nothing is validated on. null: the data's own split if there is one, else whoever runs decides:
            a tenth is held out where something is chosen by it, nothing in a single run.
    """

    name: str = ""
    batch_size: int = number(128, 1)
    valid: float | None = number(None, 0, 1, below=True)

    @property
    def path(self) -> str:
        """Where its files lie; empty where it reads none."""
        return ""

    @property
    def streams(self) -> bool:
        """Whether tasks of Ray read it while it is trained on; they need a CPU that nobody has reserved."""
        return False

    def at(self, path: str) -> Self:
        """Returns the configuration of the same data, whose files have moved to ``path``."""
        return self


@dataclass
class StoredConfig(DataConfig):
    """What data that lies in files is asked for.

    Attributes:
        path: Folder of the files.
    """

    path: str = "data"  # pyright: ignore[reportIncompatibleMethodOverride]

    def at(self, path: str) -> Self:
        """Returns the configuration of the same data, which has moved to ``path``."""
        return replace(self, path=path)


AnyConfig = TypeVar("AnyConfig", bound=DataConfig)


class Dataset(ABC, Generic[AnyConfig]):
    """Data of one kind: its fields, its entry into a network, and its batches.

    Args:
        config: An instance of ``Config``.
    """

    Config: ClassVar[type[DataConfig]] = DataConfig

    def __init__(self, config: AnyConfig) -> None:
        self.config = config

    @property
    @abstractmethod
    def inputs(self) -> Fields:
        """What a network may get of a sample, by name."""

    @property
    @abstractmethod
    def targets(self) -> Fields:
        """What a network shall tell of a sample, by name."""

    @property
    def augmentation(self) -> BatchTransform:
        """What batches to train on are augmented by."""
        return UNCHANGED

    def entry(self, name: str) -> nn.Module:
        """Returns what turns the stored values of an input into those that the first unit takes."""
        return nn.Identity()

    def check(self) -> None:
        """Raises ConfigError for values of options that no run can have; opens no file."""
        check_declared("data", self.config)

    @abstractmethod
    def open(self, seed: int) -> Source:
        """Checks the data and returns its batches.

        Args:
            seed: Of the order and the augmentation; which samples are held out does not depend on it.

        Raises:
            DataError: It is missing or corrupt, or cannot be learned from or split as asked.
        """

    @abstractmethod
    def identify(self) -> Identity:
        """Returns what tells the data from other data, wherever it lies. Raises DataError where there is none."""


@dataclass(frozen=True)
class DatasetEntry:
    """A row.

    Attributes:
        config: Its configuration, before any option is changed.
        kind: Called with a configuration, it returns the data set.
    """

    config: DataConfig
    kind: type[Dataset[Any]]


DATASETS: Registry[DatasetEntry] = Registry("data set", "isograd.data", "isograd.data")


def dataset_of(config: DataConfig) -> Dataset[Any]:
    """Returns the data set of a configuration. Raises UnknownNameError where no row has its name."""
    return DATASETS.get(config.name).kind(config)
