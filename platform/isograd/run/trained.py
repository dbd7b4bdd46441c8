"""The trained network of a run folder, for inference and for other code."""

from pathlib import Path

import torch

from isograd.engine.blueprint import Blueprint
from isograd.engine.config import fingerprint
from isograd.models.backbone import Backbone
from isograd.run import checkpoint
from isograd.run.experiment import stored_config
from isograd.run.folder import RunFolder
from isograd.system.paths import user_path


def trained_network(path: Path) -> Backbone:
    """Returns the backbone of a run with the weights of its newest checkpoint, in evaluation mode, on the CPU.

    Blocks that replacement learning replaced are ordinary ones with the synthesised weights. Auxiliary networks are not
    needed for inference and not there. It takes what the data set's entry makes of the stored inputs, such as images
    normalised by the run's ``data.mean`` and ``data.std``.

    Args:
        path: The run folder.

    Raises:
        CheckpointError: It holds no checkpoint, or a damaged one.
        ConfigError: Its configuration cannot be read.
    """
    run_folder = RunFolder(user_path(path).absolute())
    config = stored_config(run_folder)
    state = checkpoint.read(checkpoint.newest(run_folder.checkpoints), fingerprint(config)).state
    blueprint = Blueprint(config)
    backbone = blueprint.partition.backbone
    with torch.no_grad():
        for unit in backbone.units:
            for name, tensor in unit.module.state_dict(keep_vars=True).items():
                tensor.copy_(state[f"backbone.{unit.name}.{name}"])
            unit.module.eval()
    return blueprint.method.fold(backbone)
