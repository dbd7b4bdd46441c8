"""Units over named values: what is wired wrongly is refused in three parts, before anything is trained."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from isograd.data.field import Field
from isograd.errors import BackboneError
from isograd.models.assembly import Link, assemble
from isograd.models.backbone import Backbone, classifier
from isograd.models.resnet_cifar import ResNetCifarConfig, build
from tests.fields import classification


class Add(nn.Module):
    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return first + second


class Twice(nn.Module):
    def forward(self, value: Tensor) -> tuple[Tensor, Tensor]:
        return value, 2 * value


class Text(nn.Module):
    def forward(self, value: Tensor) -> tuple[Tensor, str]:
        return value, "text"


STEM, HEAD = nn.Conv2d(3, 4, 3, 2, 1), nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))
BLOCK = nn.Conv2d(4, 4, 3, 1, 1)


def made(*links: Link) -> Backbone:
    return assemble("net", links, **classification())


def test_a_long_skip_is_alive_until_its_last_reader() -> None:
    backbone = made(
        Link("stem", STEM),
        Link("split", Twice(), writes=("x", "skip")),
        Link("a", BLOCK),
        Link("join", Add(), reads=("x", "skip"), role="neck"),
        Link("head", HEAD),
    )
    assert [list(backbone.live(at)) for at in range(6)] == [
        ["image"], ["x"], ["x", "skip"], ["x", "skip"], ["x"], ["logits"]
    ]  # fmt: skip
    assert [unit.role for unit in backbone.units] == ["stem", "block", "block", "neck", "head"]
    assert [unit.name for unit in backbone.blocks] == ["split", "a"]
    images = torch.randn(2, 3, 8, 8)
    value = STEM(images)
    assert torch.equal(backbone.forward({"image": images})["logits"], HEAD(BLOCK(value) + 2 * value))


def test_inputs_that_are_no_images_need_no_image() -> None:
    tokens, scores = Field((16,), torch.int64, "tokens", 100), Field((16, 100), torch.float32, "map")
    links = [Link("stem", nn.Embedding(100, 8)), Link("block", nn.Linear(8, 8)), Link("head", nn.Linear(8, 100))]
    backbone = assemble("net", links, inputs={"tokens": tokens}, outputs={"scores": scores})
    assert (backbone.live(1)["x"].shape, backbone.live(1)["x"].layout) == ((16, 8), "NLC")
    assert backbone.forward({"tokens": torch.zeros(2, 16, dtype=torch.int64)})["scores"].shape == (2, 16, 100)
    with pytest.raises(BackboneError, match=r"'block' rejects the shape \(16, 8\)") as caught:
        assemble(
            "net",
            [links[0], Link("block", nn.Linear(9, 8)), links[2]],
            inputs={"tokens": tokens},
            outputs={"scores": scores},
        )
    assert "image" not in str(caught.value)


@pytest.mark.parametrize(
    ("links", "message"),
    [
        ([Link("stem", STEM), Link("head", HEAD, reads=("skip",))], "'head' reads 'skip', which no unit before it"),
        ([Link("stem", STEM), Link("again", STEM, reads=("image",)), Link("head", HEAD)], "'again' writes 'x' anew"),
        ([Link("stem", Text(), writes=("x", "y")), Link("head", HEAD)], r"returns \(Tensor, str\) for x, y"),
        ([Link("stem", Twice()), Link("head", HEAD)], r"returns \(Tensor, Tensor\) for x"),
        ([Link("stem", STEM), Link("head", HEAD, writes=("scores",))], "writes scores .* the task reads logits"),
        ([Link("stem", STEM), Link("head", nn.Flatten())], r"returns 'logits' of shape \(1, 1024\) for one sample"),
        ([Link("stem", nn.Conv2d(5, 4, 3)), Link("head", HEAD)], r"'stem' rejects the shape \(3, 32, 32\)"),
    ],
)
def test_wrong_wiring_is_refused(links: Sequence[Link], message: str) -> None:
    with pytest.raises(BackboneError, match=message) as caught:
        made(*links)
    assert len(caught.value.args) == 3 and all(caught.value.args)


def test_a_classifier_of_images_refuses_other_data_and_other_tasks() -> None:
    tokens, image = Field((16,), torch.int64, "tokens", 100), Field((3, 32, 32), torch.uint8, "image")
    labels = classification()["outputs"]
    assert classifier("net", {"picture": image}, labels) == ("picture", (3, 32, 32), "logits", 10)
    for inputs in ({"tokens": tokens}, {"image": image, "other": image}, {}):
        with pytest.raises(BackboneError, match="net classifies images, and the data has"):
            classifier("net", inputs, labels)
    with pytest.raises(BackboneError, match=r"resnet32 classifies images, and the task reads 'x2' \(3x64x64, image\)"):
        build(
            ResNetCifarConfig(),
            inputs={"image": image},
            outputs={"x2": Field((3, 64, 64), torch.uint8, "image")},
            seed=0,
        )
