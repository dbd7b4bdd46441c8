"""Which families of timm and torchvision cannot be cut, each with its reason; all others can.

Networks are built without memory for their weights: what is asked is only where they can be cut.
"""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
import torchvision as torchvision_library

from isograd.errors import BackboneError
from isograd.local.weightless import weightless
from isograd.models import timm, torchvision
from isograd.models.backbone import Backbone
from isograd.models.library import LibraryConfig
from tests.fields import classification

_AUXILIARY = "has several outputs, or runs other code in training than in evaluation"  # unless aux_logits is false

# What each refusal says.
REFUSED = {
    "timm/coat_tiny": "'stem' and 'parallel_blocks.0.norm12' share the parameter 'crpe2.conv_list.0.weight'",
    "timm/crossvit_tiny_240": "cannot be traced (TraceError: symbolically traced variables cannot be used as inputs to",
    "timm/deepseek_vit_412m": "encoder.norm, cannot be cut apart: between them there is a value of type int",
    "timm/gemma4_vit_167m": "the code of encoder cannot be traced (TraceError: symbolically traced",
    "timm/pit_ti_224": "52 of its 54 weights, in transformers, cannot be cut apart: transformers is one block",
    "timm/qwen3_vit_88m": "50 of its 51 weights, in encoder, cannot be cut apart: the code of encoder cannot be traced",
    "timm/selecsls42": "in features.0 ... from_seq, cannot be cut apart: between them there is a value of type list",
    "timm/tnt_s_legacy_patch16_224": "blocks.11, cannot be cut apart: between them there is a value of type tuple",
    "timm/twins_svt_small": "cannot be traced (TraceError: Proxy object cannot be iterated",
    "timm/vit_srelpos_small_patch16_224": "'blocks.1' share the parameter 'shared_rel_pos.mlp.fc1.weight'",
    "torchvision/googlenet": _AUXILIARY,
    "torchvision/inception_v3": _AUXILIARY,
}

# One network of each of timm's modules, a small one.
_TIMM = (Path(__file__).parents[1] / "data" / "timm_networks.txt").read_text().split()
_CLASSIFIERS = [f"torchvision/{name}" for name in torchvision_library.models.list_models(torchvision_library.models)]
SIZES = (64, 96, 224, 299)  # the first that a network takes


def build(name: str) -> Backbone:
    """Builds a backbone for the first image size that the network takes."""
    library, _, architecture = name.partition("/")
    module, kind = (timm, timm.TimmConfig) if library == "timm" else (torchvision, torchvision.TorchvisionConfig)
    for size in SIZES:
        try:
            return _build(module.build, kind(architecture=architecture), size)
        except BackboneError as error:
            if size == SIZES[-1] or not ("image size" in str(error) or "belong to none" in str(error)):
                raise
    raise AssertionError


def _build(make: Callable[..., Backbone], config: LibraryConfig, size: int) -> Backbone:
    sides = classification((3, size, size))
    # Recurrent layers without memory take minutes, and RegNets compute their widths in tensors.
    with nullcontext() if config.architecture.startswith(("sequencer", "regnet")) else weightless():
        return make(config, **sides, seed=0)


@pytest.mark.parametrize("name", REFUSED)
def test_a_network_that_cannot_be_cut_is_refused_with_the_reason(name: str) -> None:
    with pytest.raises(BackboneError) as caught:
        build(name)
    assert REFUSED[name] in str(caught.value)
    assert len(caught.value.args) == 3 and all(caught.value.args)


@pytest.mark.long
@pytest.mark.parametrize("name", sorted({*(f"timm/{name}" for name in _TIMM), *_CLASSIFIERS} - REFUSED.keys()))
def test_every_other_network_is_cut_into_units(name: str) -> None:
    backbone = build(name)
    assert len({unit.name for unit in backbone.units}) == len(backbone.units) >= 3
    assert list(backbone.live(len(backbone.units))) == ["logits"]
