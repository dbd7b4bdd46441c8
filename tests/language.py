"""Small language models for the tests: a made text, and the options of a network that learns it."""

from functools import cache
from pathlib import Path

import numpy as np

from isograd.config.load import load
from isograd.engine.blueprint import Blueprint
from isograd.engine.config import RunConfig

SMALL = (
    "experiment=wikitext2_small",
    "data=text",
    "data.context=12",
    "data.batch_size=4",
    "model.width=16",
    "model.num_heads=2",
    "lr_schedule.warmup_steps=2",
    "train.max_steps=6",
    "executor.device=cpu",
)


def write_text(folder: Path, num_lines: int = 60, seed: int = 0) -> Path:
    """Writes a text to train on and a shorter one to test on, of words that repeat; returns the folder."""
    generator = np.random.default_rng(seed)
    words = ["the", "cat", "sat", "on", "a", "mät", ",", "<unk>", "= Title ="]
    for name, count in (("train.txt", num_lines), ("test.txt", num_lines // 3)):
        lines = (" ".join(generator.choice(words, generator.integers(0, 7))) for _ in range(count))
        (folder / name).write_text("".join(f" {line} \n" for line in lines), encoding="utf-8")
    return folder


@cache
def config(*overrides: str) -> RunConfig:
    return load([*SMALL, *overrides])


def blueprint(*overrides: str) -> Blueprint:
    return Blueprint(config(*overrides))
