"""Any image classifier of timm as a backbone, by name: https://github.com/huggingface/pytorch-image-models.

timm is imported where a network is built: it takes seconds, which other backbones need not wait for.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from isograd.data.field import Fields
from isograd.errors import UnknownNameError
from isograd.models.assembly import assemble, token_grid
from isograd.models.backbone import MODELS, Backbone, Layout, ModelEntry, classifier
from isograd.models.chain import chain
from isograd.models.library import LibraryConfig, construct
from isograd.registry import suggestion
from isograd.seeding import seeded


@dataclass
class TimmConfig(LibraryConfig):
    """A network of timm, as ``timm.create_model`` takes it (``resnet18``, ``vit_tiny_patch16_224``)."""

    name: str = "timm"


def create(config: TimmConfig, *, input_shape: tuple[int, int, int], num_classes: int, seed: int) -> nn.Module:
    """Makes timm's own model, with initial weights that depend only on ``seed`` and the architecture.

    Architectures that are built for one image size (ViT, Swin, Mixer) are built for the size of the data.

    Raises:
        UnknownNameError: timm has no such architecture.
        ConfigError: The architecture does not take an option.
        BackboneError: The architecture does not fit the image size, or the weights cannot be had.
    """
    import timm

    if not timm.is_model(config.architecture):
        known = timm.list_models()
        raise UnknownNameError(
            f"unknown architecture '{config.architecture}' of timm.{suggestion(config.architecture, known)}",
            f"timm {timm.__version__} knows {len(known)} names, and this is none of them",
            "Use a name of timm.list_models() for model.architecture.",
        )
    kwargs: dict[str, Any] = {"num_classes": num_classes, "in_chans": input_shape[0]}
    optional: dict[str, Any] = {"img_size": input_shape[1:]}
    for setting, rate in (("drop_rate", config.drop_rate), ("drop_path_rate", config.drop_path_rate)):
        (kwargs if rate else optional)[setting] = rate

    def make(**kwargs: Any) -> nn.Module:
        with seeded(seed, "backbone", config.architecture):
            return timm.create_model(config.architecture, pretrained=config.pretrained, **kwargs)

    return construct(f"timm/{config.architecture}", make, kwargs | config.kwargs, optional)


def build(config: TimmConfig, *, inputs: Fields, outputs: Fields, seed: int) -> Backbone:
    """Makes a backbone of timm's model; raises what :func:`create` and :func:`~isograd.models.chain.chain` do."""
    name = f"timm/{config.architecture}"
    wanted = classifier(name, inputs, outputs)
    shape = wanted.input_shape
    model = create(config, input_shape=shape, num_classes=wanted.num_classes, seed=seed)
    links = chain(name, model, _expand(model), wanted)
    return assemble(name, links, inputs=inputs, outputs=outputs, layout_of=_layout_of(model, shape[1], shape[2]))


def _expand(model: nn.Module) -> Callable[[str, nn.Module], bool]:
    """timm numbers the parameters by layer, for layer-wise learning rates: what holds several layers is no block.

    Where a whole stage counts as one layer, because it holds one block or because timm is coarse, it is none either.
    """
    from timm.models._manipulate import group_parameters

    matcher = getattr(model, "group_matcher", None)
    layer_of: Any = group_parameters(model, matcher(coarse=False), reverse=True) if matcher else {}

    def has_layers(path: str, module: nn.Module) -> bool:
        return len({layer_of.get(f"{path}.{name}") for name, _ in module.named_parameters()}) > 1

    stages = {type(module) for path, module in model.named_modules() if path and has_layers(path, module)}

    def expand(path: str, module: nn.Module) -> bool:
        if type(module) is nn.Sequential:
            return has_layers(path, module) or len(module) == 1 or path.endswith(".blocks") or not layer_of
        return type(module) in stages or isinstance(getattr(module, "blocks", None), nn.Sequential | nn.ModuleList)

    return expand


def _layout_of(model: nn.Module, height: int, width: int) -> Callable[[Tensor], tuple[Layout, int]]:
    """Tells the layout from the shape, because many networks change it on the way; where that is open, asks timm.

    Square images make square maps, and patches form a grid; class tokens may join them late (CaiT, XCiT).
    """
    declared: Layout = "NHWC" if getattr(model, "output_fmt", "NCHW") == "NHWC" else "NCHW"
    num_prefix_tokens = getattr(model, "num_prefix_tokens", 0)

    def layout(value: Tensor) -> tuple[Layout, int]:
        if value.ndim == 2:
            return "NC", 0
        if value.ndim == 3:
            num_tokens = value.shape[1]
            without = token_grid(num_tokens - num_prefix_tokens, height, width)
            is_late = without is None and token_grid(num_tokens, height, width) is not None
            return "NLC", 0 if is_late else num_prefix_tokens
        second, third, fourth = value.shape[1:]
        if height == width and (second == third) != (third == fourth):
            return ("NCHW" if third == fourth else "NHWC"), 0
        return declared, 0

    return layout


MODELS.add("timm", ModelEntry(TimmConfig(), build))
