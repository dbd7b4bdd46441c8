import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from isograd.config.load import load
from isograd.data.field import Field, Tree
from isograd.data.super_resolution import resize
from isograd.engine.blueprint import Blueprint
from isograd.errors import BackboneError, TaskError, UnknownNameError
from isograd.models.backbone import Feature
from isograd.models.edsr import EDSRConfig, build
from isograd.seeding import generator
from isograd.tasks.super_resolution import LumaMetrics, SuperResolution, luma, psnr, ssim
from isograd.tasks.task import Form
from tests.enlarging import config, source

CPU = torch.device("cpu")
SET5 = Path(__file__).parents[4] / "shared" / "data" / "set5"
PUBLISHED_DB = {2: 33.66, 3: 30.39, 4: 28.42}


def image(side: int, **options: Any) -> Field:
    return Field((3, side, side), torch.uint8, "image", **options)


def task(scale: int = 2, **options: Any) -> SuperResolution:
    return SuperResolution(SuperResolution.Config(), {"image": image(8)}, {"high": image(8 * scale, **options)})


@pytest.mark.skipif(not SET5.is_dir(), reason="Set5 lies in ../shared, which is not here")
@pytest.mark.parametrize("scale", PUBLISHED_DB)
def test_bicubic_interpolation_is_the_published_baseline(scale: int, tmp_path: Path) -> None:
    Image.new("RGB", (256, 256)).save(tmp_path / "0.png")
    options = ("data=camvid_set5", "task=super_resolution", "model=edsr_small", f"data.scale={scale}")
    paths = (f"data.path={tmp_path}", f"data.test_path={SET5}", "data.shrink=1")
    blueprint = Blueprint(load([*options, *paths, "method=e2e"]))
    metrics = blueprint.task.metrics(CPU)
    assert isinstance(metrics, LumaMetrics)
    for batch in blueprint.dataset.open(0).test():
        high = batch.targets["high"]
        metrics.num_samples += batch.size
        metrics.sums += metrics.compare(resize(batch.inputs["image"], (high.shape[2], high.shape[3])), high)
    assert metrics.compute()["psnr"] == pytest.approx(PUBLISHED_DB[scale], abs=0.02)
    assert 0.8 < metrics.compute()["ssim"] < 0.95


def plain_ssim(first: np.ndarray, second: np.ndarray) -> float:
    """Window by window, as it is defined."""
    offsets = np.arange(11) - 5
    weights = np.exp(-(offsets[:, None] ** 2 + offsets[None, :] ** 2) / (2 * 1.5**2))
    weights /= weights.sum()
    values = []
    for top in range(first.shape[0] - 10):
        for left in range(first.shape[1] - 10):
            x, y = (value[top : top + 11, left : left + 11] for value in (first, second))
            mean_x, mean_y = (weights * x).sum(), (weights * y).sum()
            var_x, var_y = (weights * (x - mean_x) ** 2).sum(), (weights * (y - mean_y) ** 2).sum()
            both = (weights * (x - mean_x) * (y - mean_y)).sum()
            c_1, c_2 = 2.55**2, 7.65**2
            values.append(
                (2 * mean_x * mean_y + c_1) * (2 * both + c_2) / (mean_x**2 + mean_y**2 + c_1) / (var_x + var_y + c_2)
            )
    return float(np.mean(values))


def test_metrics_are_their_definitions() -> None:
    generator = torch.Generator().manual_seed(0)
    first = torch.randint(0, 256, (2, 3, 16, 18), generator=generator)
    second = (first + torch.randint(-9, 10, first.shape, generator=generator)).clamp(0, 255)
    light = [luma(value) for value in (first, second)]
    assert light[0].min() >= 16 and light[0].max() <= 235.01
    error = (light[0] - light[1]).square().mean(dim=(1, 2, 3))
    assert psnr(*light).tolist() == pytest.approx([10 * math.log10(255**2 / value) for value in error.tolist()])
    expected = [plain_ssim(*(value[row, 0].double().numpy() for value in light)) for row in range(2)]
    assert ssim(*light).tolist() == pytest.approx(expected, abs=1e-9)
    assert ssim(light[0], light[0]).tolist() == pytest.approx([1, 1])


def test_sums_of_parts_are_those_of_the_whole() -> None:
    high = torch.randint(0, 256, (4, 3, 16, 16), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    prediction = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    whole, first, second = (task().metrics(CPU) for _ in range(3))
    whole.update({"high": prediction}, {"high": high}, 4)
    first.update({"high": prediction[:1]}, {"high": high[:1]}, 1)
    second.update({"high": prediction[1:]}, {"high": high[1:]}, 3)
    first.merge(second)
    assert first.compute() == pytest.approx(whole.compute())
    restored = task().metrics(CPU)
    restored.load_state(whole.state())
    assert restored.compute() == whole.compute() and not task().metrics(CPU).compute()


@pytest.mark.parametrize(
    ("mean", "value_range"), [((0.4, 0.5, 0.6), 1.0), ((0.4, 0.5, 0.6), 255.0), ((), 255.0), ((0.5,), 2.0)]
)
def test_a_perfect_image_has_no_loss_and_the_best_score(mean: tuple[float, ...], value_range: float) -> None:
    judge = task(mean=mean, value_range=value_range)
    high = torch.randint(0, 256, (1, 3, 20, 24), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    prediction = {"high": high * (value_range / 255) - value_range * torch.tensor(mean or (0.0,)).view(-1, 1, 1)}
    loss, weight = judge.loss(prediction, {"high": high})
    metrics = judge.metrics(CPU)
    metrics.update(prediction, {"high": high}, 1)
    assert loss < 1e-5 * value_range and weight == high.numel()
    assert metrics.compute() == pytest.approx({"psnr": 10 * math.log10(255**2 / 1e-10), "ssim": 1})


def test_a_network_makes_images_in_the_range_that_it_is_given_them_in() -> None:
    blueprint = Blueprint(config("data.mean=[0.1,0.2,0.3]", "data.value_range=255"))
    pixels = {"high": torch.randint(0, 256, (2, 3, 16, 16), generator=generator(0, "pixels")).to(torch.uint8)}
    loss, _ = blueprint.task.loss({"high": blueprint.dataset.entry("image")(pixels["high"])}, pixels)
    assert loss < 1e-4


def test_fields_that_do_not_fit_are_refused() -> None:
    label = {"label": Field((), torch.int64, "label", num_values=10)}
    for inputs, targets in (
        ({"image": image(8)}, label),
        ({"image": image(8)}, {"high": image(12)}),
        ({"image": image(8)}, {"high": image(8)}),
    ):
        with pytest.raises(TaskError) as caught:
            SuperResolution(SuperResolution.Config(), inputs, targets)
        assert len(caught.value.args) == 3
    with pytest.raises(BackboneError):
        build(EDSRConfig(), inputs={"image": image(8)}, outputs={"high": image(40)}, seed=0)
    with pytest.raises(BackboneError):
        build(EDSRConfig(), inputs={"image": image(8)}, outputs=label, seed=0)


def test_heads_need_a_map_and_read_what_has_its_shape() -> None:
    maps, other = Feature((6, 8, 8), "NCHW"), Feature((6, 4, 4), "NCHW")
    head = task().head({"x": maps, "skip": maps, "small": other}, Form())
    assert head.reads == ("x", "skip") and head.writes == ("high",)
    with pytest.raises(TaskError):
        task().head({"skip": maps}, Form())
    with pytest.raises(TaskError):
        task().head({"x": Feature((9, 6), "NLC")}, Form())
    with pytest.raises(UnknownNameError):
        task().head({"x": maps}, Form("mlp"))


METHODS = (
    *("dgl", "man", "man method.auxiliary=linear method.fusion=scaled", "glcan", "glcan method.view=dilated"),
    *("glcan method.fusion=gated", "glcan method.branches=global", "mlaan", "auglocal", "hpff method.patches=none"),
)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("method", METHODS)
def test_every_head_takes_images_of_any_size_and_has_no_batch_norm(method: str, scale: int) -> None:
    options = (f"data.scale={scale}", "partition.num_modules=4", *f"method={method}".split())
    blueprint = Blueprint(config(*options))
    modules = blueprint.method.local_modules(blueprint.partition, 0)
    assert all(list(blueprint.partition.live(index)) == ["x", "skip"] for index in range(3))
    assert not any("running" in name or "norm" in name for module in modules for name in module.named_state())
    for batch in source(blueprint.config).test():
        values: dict[str, Tensor] = dict(batch.inputs)
        predictions: list[Tree | None] = []
        for module in modules:
            values = dict(module.eval()(values))
            predictions.append(module.predict(values))
        shapes = {prediction["high"].shape for prediction in predictions if prediction is not None}
        assert shapes == {batch.targets["high"].shape}


def test_a_network_has_the_published_number_of_weights() -> None:
    published = {("edsr_baseline", 2): 1.37, ("edsr_baseline", 3): 1.55, ("edsr_baseline", 4): 1.52}
    for (model, scale), millions in published.items():
        backbone = Blueprint(load(["data=camvid_set5", f"data.scale={scale}", f"model={model}", *TASK])).backbone
        count = sum(weight.numel() for unit in backbone.units for weight in unit.module.parameters())
        assert round(count / 1e6, 2) == millions


TASK = ("task=super_resolution", "method=e2e")


def test_initial_weights_depend_on_names_alone() -> None:
    few, many = (Blueprint(config(f"model.depth={depth}", *TASK)).backbone for depth in (2, 4))
    for name in ("head", "block.1", "tail"):
        first, second = (net.units[net.index(name)].module.state_dict() for net in (few, many))
        assert all(torch.equal(tensor, second[key]) for key, tensor in first.items())


def test_a_surrogate_has_neither_norm_nor_relu_behind_its_sum() -> None:
    blueprint = Blueprint(config("method=repl", "method.mode=surrogate", "model.residual_scale=0.5"))
    before, replaced, after = (unit.module for unit in blueprint.partition.backbone.units[1:4])
    value = torch.randn(2, 6, 5, 7, generator=torch.Generator().manual_seed(0))
    layers = [module.get_submodule(f"body.{at}") for module in (before, after) for at in (0, 2)]
    weight, bias = (0.5 * torch.stack([getattr(layer, name) for layer in layers]).sum(0) for name in ("weight", "bias"))
    expected = value + 0.5 * torch.conv2d(value.relu(), weight, bias, padding=1)  # pyright: ignore[reportArgumentType]
    torch.testing.assert_close(replaced(value), expected)
    assert [name for name, _ in replaced.named_parameters()] == ["synthesis.scales.a", "synthesis.scales.b"]
