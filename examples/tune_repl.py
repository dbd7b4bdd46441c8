"""Searching RepL's fusion: how often blocks are replaced, and how their weights are made from both neighbours'.

``python examples/tune_repl.py`` searches on scanned digits, within two minutes on a laptop; ``--full`` on CIFAR-10 with
ResNet-110, score against memory against time. ``OPTION=VALUE`` changes either, as of `isograd tune`.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "platform"), str(ROOT)]  # the code beside this file, wherever a job has brought both

from isograd.cli.tune import exit_status, search  # noqa: E402
from isograd.system.console import wide_console  # noqa: E402
from isograd.system.exit_status import status_of  # noqa: E402
from isograd.tune.results import assignment_of, outcome_of  # noqa: E402
from isograd.tune.study import Study  # noqa: E402

FOLDER = f"tune.folder={Path.home() / 'isograd-studies'}"  # not below here: a job's folder goes with its cluster
SMALL = ["model.width=4", "train.epochs=6", "lr_schedule.warmup_epochs=1", "tune.num_trials=10", "tune.scheduler=none"]
FULL = [
    *("model=resnet110", "data=cifar10", "train.epochs=160", "executor.device=auto"),
    *("tune.num_trials=100", "tune.seeds=[0,1,2]", "tune.grace_epochs=5"),
    "tune.objectives=[score,peak_bytes,epoch_s]",
]


def main(arguments: list[str]) -> int:
    """Searches, and says what each mode came to."""
    size = FULL if "--full" in arguments else SMALL
    options = [argument for argument in arguments if argument != "--full"]
    study = search("repl", [FOLDER, *size, *options], wide_console())
    measure = study.request.measures["score"]
    for mode, score in sorted(by_mode(study).items(), key=lambda item: measure.cost(item[1])):
        print(f"method.mode={mode}: {measure.label} of the best of its complete trials {measure.text(score)}")
    return exit_status(study)


def by_mode(study: Study) -> dict[str, float]:
    """Returns the best score of each mode's complete trials."""
    scores: dict[str, list[float]] = {}
    for trial in study.trials:
        outcome = outcome_of(trial)
        if outcome is not None and outcome.kind == "complete":
            scores.setdefault(assignment_of(trial).settings["method.mode"], []).append(outcome.metrics["score"])
    cost = study.request.measures["score"].cost
    return {mode: min(each, key=cost) for mode, each in scores.items()}


if __name__ == "__main__":
    sys.exit(status_of(lambda: main(sys.argv[1:])))
