"""Values that no run can have."""

import pytest

from isograd.cli.main import main
from isograd.config.load import load
from isograd.engine.check import check
from isograd.errors import ConfigError


@pytest.mark.parametrize("item", ["data.image_shape=[1,8,8]", "data.path=elsewhere", "data.loading=stream"])
def test_digits_have_no_options_of_files(item: str) -> None:
    with pytest.raises(ConfigError, match=r"no option 'data\..*It is an option of .*data=parquet"):
        load([item])


@pytest.mark.parametrize("shape", ["[8,8]", "[8,8,3]"])
def test_a_shape_of_other_images_is_put_in_order(shape: str) -> None:
    with pytest.raises(ConfigError, match=r"Use data.image_shape=\[3,8,8\]"):
        check(load(["data=parquet", f"data.image_shape={shape}"]))


def test_a_model_is_held_against_its_own_declarations() -> None:
    with pytest.raises(ConfigError, match=r"model\.residual_scale=-1 is out of range.* at least 0"):
        check(load(["model=edsr_small", "model.residual_scale=-1"]))


@pytest.mark.parametrize("item", ["train.epochs=-1", "optimizer.lr=-1", "executor.channel=mail"])
def test_a_configuration_that_no_run_can_have_is_not_printed(item: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--config", item]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith(f"error: {item.partition('=')[0]}=")
