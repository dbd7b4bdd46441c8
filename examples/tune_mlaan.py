"""Searching MLAAN: splits, auxiliary networks, EMA decay, learnable bias, leaps and level weights.

``python examples/tune_mlaan.py`` searches on scanned digits, within two minutes on a laptop; ``--full`` the published
network on CIFAR-10. ``OPTION=VALUE`` changes either, as of `isograd tune`. As a job, on the cluster it is submitted to:
``ray job submit --working-dir . -- python examples/tune_mlaan.py``
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "platform"), str(ROOT)]  # the code beside this file, wherever a job has brought both

from isograd.cli.tune import exit_status, search  # noqa: E402
from isograd.system.console import wide_console  # noqa: E402
from isograd.system.exit_status import status_of  # noqa: E402

FOLDER = f"tune.folder={Path.home() / 'isograd-studies'}"  # not below here: a job's folder goes with its cluster
SMALL = ["model.width=4", "train.epochs=9", "lr_schedule.warmup_epochs=1", "tune.num_trials=12"]
FULL = [
    *("model=resnet32", "data=cifar10", "train.epochs=160", "executor.device=auto", "executor.gpus_per_stage=0.5"),
    *("tune.num_trials=200", "tune.seeds=[0,1,2]", "tune.grace_epochs=5"),
    *("space.partition.num_modules.high=16",),
]


def main(arguments: list[str]) -> int:
    """Searches."""
    size = FULL if "--full" in arguments else SMALL
    options = [argument for argument in arguments if argument != "--full"]
    return exit_status(search("mlaan", [FOLDER, *size, *options], wide_console()))


if __name__ == "__main__":
    sys.exit(status_of(lambda: main(sys.argv[1:])))
