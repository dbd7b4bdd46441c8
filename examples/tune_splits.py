"""Searching where to cut: how many local modules, and after which units; what the even split of the same K comes to.

``python examples/tune_splits.py`` searches on scanned digits, within two minutes on a laptop; ``--full`` on CIFAR-10
with ResNet-32, score against the time of an epoch. ``OPTION=VALUE`` changes either, as of `isograd tune`.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "platform"), str(ROOT)]  # the code beside this file, wherever a job has brought both

from isograd.cli.tune import exit_status, search  # noqa: E402
from isograd.system.console import wide_console  # noqa: E402
from isograd.system.exit_status import status_of  # noqa: E402
from isograd.tune.results import assignment_of, outcome_of  # noqa: E402

SPACE = str(Path(__file__).with_name("splits.yaml"))
FOLDER = f"tune.folder={Path.home() / 'isograd-studies'}"  # not below here: a job's folder goes with its cluster
SMALL = ["model.width=4", "train.epochs=6", "lr_schedule.warmup_epochs=1", "tune.num_trials=12", "tune.scheduler=none"]
FULL = [
    *("model=resnet32", "data=cifar10", "train.epochs=160", "executor.device=auto", "executor.gpus_per_stage=0.5"),
    *("tune.num_trials=150", "tune.seeds=[0,1,2]", "tune.objectives=[score,epoch_s]"),
    *("space.partition.num_modules.high=8",),
]


def main(arguments: list[str]) -> int:
    """Searches, and holds the best splits against the even one, which is the first trial."""
    size = FULL if "--full" in arguments else SMALL
    options = [argument for argument in arguments if argument != "--full"]
    study = search(SPACE, [FOLDER, *size, *options], wide_console())
    measures = study.request.measures
    trials = {trial.number: trial for trial in study.trials}
    for number in sorted({0, *study.find_best().values} & trials.keys()):
        ends, outcome = assignment_of(trials[number]).settings["partition.ends"], outcome_of(trials[number])
        if outcome is not None and outcome.metrics:
            figures = ", ".join(measures[name].text(outcome.metrics[name]) for name in ("score", "epoch_s"))
            print(f"trial {number}, cut after {', '.join(ends)}: {figures} an epoch")
    return exit_status(study)


if __name__ == "__main__":
    sys.exit(status_of(lambda: main(sys.argv[1:])))
