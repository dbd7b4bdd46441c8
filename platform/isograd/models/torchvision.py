"""Any image classifier of torchvision as a backbone, by name: https://pytorch.org/vision/stable/models.html.

torchvision is imported where a network is built: it takes seconds, which other backbones need not wait for.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from isograd.data.field import Fields
from isograd.errors import BackboneError, ConfigError, UnknownNameError
from isograd.models.assembly import assemble
from isograd.models.backbone import MODELS, Backbone, Layout, ModelEntry, classifier
from isograd.models.chain import chain
from isograd.models.library import LibraryConfig, construct
from isograd.registry import suggestion
from isograd.seeding import seeded


@dataclass
class TorchvisionConfig(LibraryConfig):
    """A network of torchvision, as ``torchvision.models.get_model`` takes it (``resnet18``, ``swin_t``)."""

    name: str = "torchvision"


def create(config: TorchvisionConfig, *, input_shape: tuple[int, int, int], num_classes: int, seed: int) -> nn.Module:
    """Makes torchvision's own model, with initial weights that depend only on ``seed`` and the architecture.

    Architectures that are built for one image size (ViT, MaxViT) are built for the size of the data, unless pretrained.

    Raises:
        UnknownNameError: torchvision has no such architecture.
        ConfigError: The architecture does not take an option.
        BackboneError: The architecture does not fit the image size, or the weights cannot be had.
    """
    import torchvision

    known = torchvision.models.list_models(module=torchvision.models)
    if config.architecture not in known:
        raise UnknownNameError(
            f"unknown architecture '{config.architecture}' of torchvision.{suggestion(config.architecture, known)}",
            f"Known are: {', '.join(known)}",
            "Use one of these names for model.architecture.",
        )
    name = f"torchvision/{config.architecture}"
    dropout = "drop_rate" if config.architecture.startswith("densenet") else "dropout"
    kwargs: dict[str, Any] = {dropout: config.drop_rate} if config.drop_rate else {}
    optional: dict[str, Any] = {dropout: config.drop_rate}
    if config.pretrained:  # the weights dictate number of classes and image size
        kwargs["weights"] = "DEFAULT"
    else:
        kwargs["num_classes"] = num_classes
        optional |= {"image_size": input_shape[1], "input_size": input_shape[1:]}

    def make(**kwargs: Any) -> nn.Module:
        with seeded(seed, "backbone", config.architecture):
            model = torchvision.models.get_model(config.architecture, **kwargs)
            _adapt_channels(name, model, input_shape[0], config.pretrained)
            _adapt_classes(model, num_classes)
        return model

    model = construct(name, make, kwargs | config.kwargs, optional)
    _set_drop_path(name, model, config.drop_path_rate)
    return model


def build(config: TorchvisionConfig, *, inputs: Fields, outputs: Fields, seed: int) -> Backbone:
    """Makes a backbone of the model; raises what :func:`create` and :func:`~isograd.models.chain.chain` do."""
    name = f"torchvision/{config.architecture}"
    wanted = classifier(name, inputs, outputs)
    maps: Layout = "NHWC" if config.architecture.startswith("swin") else "NCHW"
    # Tokens are those of the vision transformer, with its class token.
    layouts: dict[int, tuple[Layout, int]] = {2: ("NC", 0), 3: ("NLC", 1), 4: (maps, 0)}
    model = create(config, input_shape=wanted.input_shape, num_classes=wanted.num_classes, seed=seed)
    links = chain(name, model, _expand, wanted)
    return assemble(name, links, inputs=inputs, outputs=outputs, layout_of=lambda value: layouts[value.ndim])


def _expand(path: str, module: nn.Module) -> bool:
    """Plain sequences hold blocks; their subclasses (Conv2dNormActivation) are blocks, but for a few stages."""
    from torchvision.models.maxvit import MaxVitBlock
    from torchvision.models.regnet import AnyStage
    from torchvision.models.vision_transformer import Encoder

    return type(module) is nn.Sequential or isinstance(module, AnyStage | Encoder | MaxVitBlock)


def _adapt_channels(name: str, model: nn.Module, num_channels: int, pretrained: bool) -> None:
    """Replaces the first convolution where the images are not RGB; new random weights have the scale of the old."""
    first = next(((path, m) for path, m in model.named_modules() if isinstance(m, nn.Conv2d)), None)
    if num_channels == 3:
        return
    if first is None or first[1].in_channels != 3 or first[1].groups != 1:
        raise BackboneError(
            f"{name} cannot process images of {num_channels} channels",
            "Its first convolution, which would be replaced, is not one over 3 channels",
            "Use RGB images or another architecture.",
        )
    path, old = first
    new = nn.Conv2d(
        num_channels,
        old.out_channels,
        old.kernel_size,  # pyright: ignore[reportArgumentType]
        old.stride,  # pyright: ignore[reportArgumentType]
        old.padding,  # pyright: ignore[reportArgumentType]
        old.dilation,  # pyright: ignore[reportArgumentType]
        bias=old.bias is not None,
        padding_mode=old.padding_mode,
    )
    with torch.no_grad():
        if pretrained:  # every channel contributes as the mean colour did
            new.weight.copy_(old.weight.mean(1, keepdim=True) * 3 / num_channels)  # (D, 1, k, k) -> (D, C, k, k)
        else:
            nn.init.normal_(new.weight, std=float(old.weight.std()))
        if old.bias is not None and new.bias is not None:
            new.bias.copy_(old.bias)
    model.set_submodule(path, new)


def _adapt_classes(model: nn.Module, num_classes: int) -> None:
    """Replaces the classifier of a pretrained network, its last layer, where its number of classes differs."""
    path, last = [(path, m) for path, m in model.named_modules() if isinstance(m, (nn.Linear, nn.Conv2d))][-1]
    if isinstance(last, nn.Linear) and last.out_features != num_classes:
        model.set_submodule(path, nn.Linear(last.in_features, num_classes, bias=last.bias is not None))
    elif isinstance(last, nn.Conv2d) and last.out_channels != num_classes:
        model.set_submodule(path, nn.Conv2d(last.in_channels, num_classes, kernel_size=1))


def _set_drop_path(name: str, model: nn.Module, rate: float) -> None:
    """Scales the architecture's own schedule; its keyword for it is not one that every architecture accepts."""
    from torchvision.ops import StochasticDepth

    layers = [module for module in model.modules() if isinstance(module, StochasticDepth)]
    highest = max((layer.p for layer in layers), default=0.0)
    if rate and not highest:
        raise ConfigError(
            f"{name} does not take model.drop_path_rate={rate}",
            "This architecture has no stochastic depth",
            "Use model.drop_path_rate=0 or another architecture.",
        )
    for layer in layers:
        layer.p *= rate / (highest or 1.0)


MODELS.add("torchvision", ModelEntry(TorchvisionConfig(), build))
