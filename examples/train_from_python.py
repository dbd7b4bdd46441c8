"""Training from Python: the same as ``isograd train``, with the result in hand.

Run it with ``python examples/train_from_python.py [OPTION=VALUE ...]``.
"""

import sys

from rich.console import Console

from isograd.config.load import load
from isograd.run.experiment import run


def main(overrides: list[str]) -> None:
    """Trains sequentially and as a pipeline, and compares the two."""
    results = {}
    for executor in ("sequential", "pipelined"):
        config = load([f"executor={executor}", "train.epochs=3", *overrides])
        results[executor] = run(config, Console())
    sequential, pipelined = results["sequential"], results["pipelined"]
    print(f"same scores of all local modules: {sequential.module_scores == pipelined.module_scores}")
    print(f"speed-up on {len(pipelined.stages)} stages: {pipelined.samples_per_s / sequential.samples_per_s:.2f}x")


if __name__ == "__main__":
    main(sys.argv[1:])
