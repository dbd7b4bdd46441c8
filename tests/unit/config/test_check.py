"""Values that no run can have."""

import pytest

from isograd.config.check import check
from isograd.config.load import load
from isograd.errors import ConfigError


@pytest.mark.parametrize("shape", ["[3,8,8]", "[8,8]", "[4,8,8]", "[1,16,16]"])
def test_the_shape_of_digits_is_said(shape: str) -> None:
    with pytest.raises(ConfigError, match=r"whose images are \[1, 8, 8\].* Use data.image_shape=\[1,8,8\], or leave"):
        check(load([f"data.image_shape={shape}"]))
    check(load(["data.image_shape=[1,8,8]"]))


@pytest.mark.parametrize("shape", ["[8,8]", "[8,8,3]"])
def test_a_shape_of_other_images_is_put_in_order(shape: str) -> None:
    with pytest.raises(ConfigError, match=r"Use data.image_shape=\[3,8,8\]"):
        check(load(["data=parquet", f"data.image_shape={shape}"]))
