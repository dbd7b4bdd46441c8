"""What the options of models may be, whatever the model."""

from dataclasses import fields, replace

import pytest

from isograd.errors import ConfigError
from isograd.models.backbone import MODELS
from isograd.options import check_declared


@pytest.mark.parametrize("model", MODELS)
def test_every_number_has_a_range(model: str) -> None:
    config = MODELS.get(model).config
    check_declared("model", config)
    numbers = [item.name for item in fields(config) if type(getattr(config, item.name)) in (int, float)]
    assert numbers
    for name in numbers:
        with pytest.raises(ConfigError, match=rf"model\.{name}=-1 is out of range"):
            check_declared("model", replace(config, **{name: -1}))
