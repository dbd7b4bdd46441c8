"""The local loss that other methods build on: DGL's, or InfoPro's. MAN, HPFF and MLAAN each wrap one of them."""

import re
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from torch import nn

from isograd.data.dataset import Dataset
from isograd.data.field import Field
from isograd.data.transforms import Normalize
from isograd.errors import ConfigError, ContractError, UnknownNameError
from isograd.local import decoders
from isograd.local.blocks import stage_number
from isograd.local.decoders import ImageShape
from isograd.local.infopro import ContrastObjective, Entered, InfoProObjective, SequenceReconstruction, StoredImage
from isograd.local.module import Objective, TaskObjective
from isograd.local.patches import Patching
from isograd.models.backbone import MAIN, Feature
from isograd.options import choice, number
from isograd.partition.partition import Partition
from isograd.registry import Registry, suggestion
from isograd.tasks.heads import VECTOR_HEADS
from isograd.tasks.task import Form, Task

WHOLE = Patching()
_HEAD = "[012]c[123]f"  # X convolutions, Y fully connected layers


@dataclass
class DGLConfig:
    """Attributes:
    auxiliary: Name of the auxiliary network.
    """

    auxiliary: str = "auto"


@dataclass
class InfoProConfig:
    """Attributes:
    loss: ``softmax`` (the task's loss) or ``contrast``.
    lambda1: Weight of the reconstruction in the first and in the last but one module.
    lambda2: Weight of the task or contrastive loss, likewise.
    head: ``0c1f`` ... ``2c3f`` (convolutions and fully connected layers), or ``imagenet``.
    decoder: ``plain``; the released ImageNet code's: ``imagenet`` (InfoPro, MAN) or ``imagenet_hpff``.
    feature_dim: Width of the head's hidden fully connected layers before ``widen``, and of what ``contrast`` compares.
    widen: Factor on the inner widths of decoder and head.
    """

    loss: str = choice("softmax", "contrast")
    lambda1: list[float] = field(default_factory=lambda: [5.0, 0.0])
    lambda2: list[float] = field(default_factory=lambda: [0.5, 1.0])
    head: str = "1c2f"
    decoder: str = choice("plain", "imagenet", "imagenet_hpff")
    feature_dim: int = number(128, least=1)
    widen: float = number(1.0, least=0.1)


@dataclass
class BaseConfig(InfoProConfig, DGLConfig):
    """The options of both bases, of which a method uses one.

    Attributes:
        base: ``dgl`` or ``infopro``.
    """

    base: str = choice("dgl", "infopro")


@dataclass
class RuleConfig(BaseConfig):
    """The options of both bases, and which rule gives the coefficients.

    Attributes:
        coefficients: For ``base=infopro``: ``depth``, by the module's position, or ``stage``, as the code of MAN and
            MLAAN was released; see :func:`loss_ratio`.
    """

    coefficients: str = choice("depth", "stage")


@dataclass(frozen=True)
class Site:
    """Where a local loss stands.

    Attributes:
        partition: Of the backbone.
        live: What the loss is given.
        entering: What was alive before the local module.
        ratio: Position in the network, 0 at the first local module and 1 at the last but one; coefficients are
            interpolated by it. Released code exceeds 1 in places.
    """

    partition: Partition
    live: Mapping[str, Feature]
    entering: Mapping[str, Feature]
    ratio: float = 0.0

    @staticmethod
    def after(partition: Partition, index: int, ratio: float = 0.0, feature: Feature | None = None) -> "Site":
        """Returns the site after local module ``index``, on h_k or on what a network makes of it, ``feature``."""
        live = partition.live(index)
        live = live if feature is None else {**live, MAIN: feature}
        return Site(partition, live, partition.entering(index), ratio)


class BaseLoss(ABC):
    """A family of local losses.

    Attributes:
        needs_image: Whether the image has to go down with the activation.
    """

    needs_image = False

    @abstractmethod
    def objective(self, site: Site, patching: Patching = WHOLE) -> Objective:
        """Returns the whole local loss of a module."""

    @abstractmethod
    def head(self, site: Site) -> Objective:
        """Returns the part of it that predicts the target, with weight 1."""


BASES: Registry[type] = Registry("base loss")


@BASES.register("dgl")
class DGLBase(BaseLoss):
    """The task's loss of an auxiliary network on the activation."""

    def __init__(self, config: DGLConfig, task: Task, dataset: Dataset) -> None:
        check_unread(config, [*_names(InfoProConfig), "coefficients"], "method.base=dgl")
        self._config, self._task = config, task

    def objective(self, site: Site, patching: Patching = WHOLE) -> Objective:
        """Returns the task's loss of the auxiliary network, on patches where asked for."""
        if patching.mode == "quadrants":
            raise ConfigError(
                "method.patches=quadrants has nothing to split with method.base=dgl",
                "Released HPFF gives each quadrant an image decoder of its own, and DGL has no decoder",
                "Use method.patches=shared, or method.base=infopro.",
            )
        form = Form(form_name(self._config, "auxiliary", self._task))
        return TaskObjective(
            self._task, patching.head(site.live, lambda live: self._task.head(live, form), self._task.output)
        )

    def head(self, site: Site) -> Objective:
        """Returns the same on the whole map."""
        return self.objective(site)


@BASES.register("infopro")
class InfoProBase(BaseLoss):
    """lambda1 times reconstruction plus lambda2 times the task's loss, or the contrastive one.

    What is reconstructed is the image, from the activation of any module; of a sequence of tokens it is what entered
    the module, as in LoPT.
    """

    def __init__(self, config: InfoProConfig, task: Task, dataset: Dataset) -> None:
        _check(config, task)
        check_unread(config, _names(DGLConfig), "InfoPro's losses")
        self._config, self._task, self._dataset = config, task, dataset
        self.needs_image = not is_sequence(dataset)
        if self.needs_image:
            self._image, self._field = _only_image(dataset)
        else:
            check_unread(config, ("decoder", "feature_dim", "widen"), "tokens, whose reconstruction is LoPT's")
        if config.loss == "contrast" and not task.knows_groups:
            raise ConfigError(
                "method.loss=contrast has no groups to tell apart in this task",
                "The contrastive loss pulls samples of one group together, such as a class, and apart from others",
                "Use method.loss=softmax.",
            )

    def objective(self, site: Site, patching: Patching = WHOLE) -> Objective:
        """Returns the weighted sum of both losses, with coefficients interpolated by the site's ratio."""
        config, ratio = self._config, site.ratio
        wanted, reconstruction = self._of_image(site, patching) if self.needs_image else self._of_sequence(site)
        return InfoProObjective(
            wanted,
            reconstruction,
            self._target(site, patching),
            interpolated(config.lambda1, ratio),
            interpolated(config.lambda2, ratio),
        )

    def _of_image(self, site: Site, patching: Patching) -> tuple[StoredImage, nn.Module]:
        shape: ImageShape = self._field.fixed_shape  # pyright: ignore[reportAssignmentType]
        entry = self._dataset.entry(self._image)
        if not isinstance(entry, Normalize):
            raise ContractError(
                f"the entry of the input '{self._image}' has no way back to the image: it is {type(entry).__name__}",
                "InfoPro reconstructs the image that the network was given",
                "Use Normalize for the entry of images.",
            )
        return StoredImage(self._image, entry), patching.reconstruction(site.live[MAIN], shape, self._decoder)

    def _of_sequence(self, site: Site) -> tuple[Entered, nn.Module]:
        name, entering = next(iter(site.entering.items()))
        field = self._dataset.inputs.get(name)
        width = entering.channels if field is None else field.num_values or 0
        return Entered(name), SequenceReconstruction(site.live[MAIN].channels, width)

    def head(self, site: Site) -> Objective:
        """Returns the loss of the target alone."""
        return self._target(site, WHOLE)

    def _target(self, site: Site, patching: Patching) -> Objective:
        config, form = self._config, self._form(site.partition)
        if config.loss == "contrast":
            build = VECTOR_HEADS.get(form.name)
            return ContrastObjective(
                self._task,
                patching.network(site.live[MAIN], lambda feature: build(feature, config.feature_dim, **form.options)),
            )
        return TaskObjective(
            self._task, patching.head(site.live, lambda live: self._task.head(live, form), self._task.output)
        )

    def _decoder(self, feature: Feature, image_shape: ImageShape) -> nn.Module:
        if self._config.decoder == "imagenet":
            return decoders.imagenet_decoder(feature, image_shape)
        if self._config.decoder == "imagenet_hpff":
            return decoders.hpff_decoder(feature, image_shape)
        return decoders.image_decoder(feature, image_shape, self._config.widen)

    def _form(self, partition: Partition) -> Form:
        config, name = self._config, form_name(self._config, "head", self._task)
        if not re.fullmatch(_HEAD, name):
            return Form(name)
        last_channels = partition.backbone.units[-2].output.channels
        return Form(name, {"last_channels": last_channels, "feature_dim": config.feature_dim, "widen": config.widen})


def is_sequence(dataset: Dataset) -> bool:
    """Whether the data consists of tokens."""
    return all(field.kind == "tokens" for field in dataset.inputs.values())


def _only_image(dataset: Dataset) -> tuple[str, Field]:
    images = [(name, field) for name, field in dataset.inputs.items() if field.kind == "image"]
    if len(images) != 1:
        known = ", ".join(f"{name} ({field.kind})" for name, field in dataset.inputs.items())
        raise ConfigError(
            f"InfoPro's losses reproduce one image, and the data has {len(images)} among its inputs: {known}",
            "Its decoders know images, and sequences of tokens where all inputs are tokens",
            "Use method=dgl, or method.base=dgl where the method has it.",
        )
    return images[0]


def form_name(config: Any, option: str, task: Task) -> str:
    """Returns the form of auxiliary network that an option asks for; its default counts where the task has it.

    Raises:
        UnknownNameError: The task has no such form.
    """
    asked = getattr(config, option)
    if asked == getattr(type(config)(), option):
        return task.preferred(asked)
    if asked not in task.forms:  # a task of few forms may not look at the name
        raise UnknownNameError(
            f"task={task.config.name} has no auxiliary network '{asked}'.{suggestion(asked, task.forms)}",
            f"Those that it has: {', '.join(task.forms)}",
            f"Use method.{option}=auto.",
        )
    return asked


def depth_ratio(index: int, num_modules: int) -> float:
    """Returns index / (K - 2): 0 for the first local module, 1 for the last but one; 0 for K = 2."""
    return index / (num_modules - 2) if num_modules > 2 else 0.0


def loss_ratio(config: RuleConfig, partition: Partition, index: int) -> float:
    """Returns where a module's coefficients lie between the first and the last.

    ``depth`` is :func:`depth_ratio`. ``stage`` is the stage number of the next block (1, 2, 3) over K - 2, K as the
    paper names it. It extrapolates: at K = 3 and K = 4 it gives negative weights, about which we warn. Where no block
    follows, and for K = 2, both are the same.
    """
    block = partition.block_after(index)
    if config.coefficients == "depth" or partition.named_num_modules <= 2 or block is None:
        return depth_ratio(index, partition.num_modules)
    ratio = stage_number(partition.backbone, block) / (partition.named_num_modules - 2)
    weights = [interpolated(ends, ratio) for ends in (config.lambda1, config.lambda2)]
    if config.base == "infopro" and min(weights) < 0:
        warnings.warn(
            f"method.coefficients=stage gives local module {index} the loss weights {weights[0]:.3g} and "
            f"{weights[1]:.3g}: it will train against a loss. method.coefficients=depth does not extrapolate.",
            stacklevel=2,
        )
    return ratio


def interpolated(ends: list[float], ratio: float) -> float:
    """Returns (1 - r) first + r last."""
    return (1 - ratio) * ends[0] + ratio * ends[1]


def check_unread(config: Any, names: Iterable[str], why: str) -> None:
    """Refuses options that are set but that nothing would read.

    Args:
        config: A method's.
        names: The options in question; those that the method does not have are passed over.
        why: With what they have no meaning.

    Raises:
        ConfigError: One of them differs from its default.
    """
    default = type(config)()
    for name in names:
        if hasattr(config, name) and getattr(config, name) != getattr(default, name):
            raise ConfigError(
                f"method.{name}={getattr(config, name)} would change nothing",
                f"Nothing reads method.{name} with {why}",
                f"Leave method.{name} out.",
            )


def _names(section: type) -> list[str]:
    return [item.name for item in fields(section)]


def _check(config: InfoProConfig, task: Task) -> None:
    if config.head not in {*VECTOR_HEADS, *task.forms}:
        raise ConfigError(
            f"method.head='{config.head}' names no InfoPro head",
            "A head is X convolutions and Y fully connected layers, with X of 0, 1, 2 and Y of 1, 2, 3",
            "Use method.head=1c2f, the paper's default.",
        )
    for name in ("lambda1", "lambda2"):
        ends = getattr(config, name)
        if len(ends) != 2:
            raise ConfigError(
                f"method.{name}={list(ends)} has {len(ends)} values",
                "It is interpolated from the first local module to the last but one, so it needs two",
                f"Use method.{name}=[5,0.5], for example.",
            )
