"""Studies that never happened, as tables, for the tests of what is read from them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from isograd.display.measures import METRICS
from isograd.engine.config import fingerprint, to_dict
from isograd.studies.reading import load_study
from isograd.studies.study import StudyTable
from isograd.tune.space import Categorical, Cuts, Number
from isograd.tune.table import FIXED_COLUMNS, FORMAT, METADATA, TABLE
from tests.unit.studies.records import ERROR, composed

UNITS = ("stem", "a", "b", "c", "d", "head")
SPACE: dict[str, tuple[Any, dict[str, list[Any]]]] = {
    "optimizer.lr": (Number(0.01, 1.0, log=True), {}),
    "method.decay": (Number(0.5, 0.999, complement=True), {"kind": ["ema"]}),
    "kind": (Categorical({"ema": {"method.blocks": "ema"}, "none": {"method.blocks": "none"}}), {}),
    "partition.num_modules": (Number(2, 3, integer=True), {}),
    "partition.ends": (Cuts(), {}),
}


def trial(
    number: int,
    scores: Sequence[Sequence[float]] = ((0.5, 0.4), (0.2, 0.3)),
    kind: str = "complete",
    values: Mapping[str, Any] | None = None,
    ends: Sequence[str] = ("a",),
    metric: str = "error",
    **given: Any,
) -> dict[str, Any]:
    """Returns a row. ``scores`` are one an epoch, of each the seeds'; ``values`` are coordinates."""
    config = composed("method=dgl", "model.width=4", "executor.device=cpu")
    num_seeds = len(scores[0]) if scores else 2
    ended = kind in ("complete", "pruned")
    return {
        "trial": number,
        "kind": kind,
        "reason": "" if ended else "it stopped",
        "epoch": len(scores),
        "seeds": list(range(num_seeds)),
        "host": "somewhere",
        "fingerprint": fingerprint(config),
        "config": json.dumps(to_dict(config)),
        "coordinates": json.dumps(
            {"optimizer.lr": 0.1, "kind": "none", "partition.num_modules": 2} | dict(values or {})
        ),
        "units": list(UNITS),
        "runs": [_run(seed) for seed in range(num_seeds)] if ended else [],
        "epochs": list(_epochs(scores, metric)),
        "partition.ends": json.dumps(list(ends)),
        **({name: float(value) for name, value in _metrics(scores).items()} if ended else {}),
        **given,
    }


def study(folder: Path, *rows: Mapping[str, Any], **metadata: Any) -> StudyTable:
    """Writes a study's table, and reads it."""
    write(folder, *rows, **metadata)
    return load_study(folder)


def write(folder: Path, *rows: Mapping[str, Any], **metadata: Any) -> Path:
    """Writes a study's table into a folder."""
    columns = {name: pa.array([row.get(name) for row in rows], kind) for name, kind in FIXED_COLUMNS}
    columns |= {name: pa.array([row.get(name) for row in rows], pa.float64()) for name in METRICS}
    columns["partition.ends"] = pa.array([row["partition.ends"] for row in rows], pa.string())
    table = pa.table(columns).replace_schema_metadata({METADATA: json.dumps(_metadata() | metadata).encode()})
    folder.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, folder / TABLE)
    return folder / TABLE


def _metadata() -> dict[str, Any]:
    return {
        "format": FORMAT,
        "score": asdict(ERROR),
        "split": "valid",
        "study": "made",
        "space": "by-hand",
        "items": ["model.width=4"],
        "objectives": ["score"],
        "seeds": [0, 1],
        "num_trials": 8,
        "num_epochs": 2,
        "sampler": "tpe",
        "sampler_seed": 0,
        "scheduler": "asha",
        "grace_epochs": 1,
        "reduction": 3,
        "reuse_actors": True,
        "parameters": {
            name: {"distribution": type(made).__name__.lower(), **asdict(made), "when": when}
            for name, (made, when) in SPACE.items()
        },
        "provenance": {
            "commit": "abc123",
            "uncommitted_changes": True,
            "command": ["cli.py", "tune", "by-hand"],
            "python": "3.11",
            "packages": {"torch": "2.11"},
            "hardware": "a machine",
        },
    }


def _metrics(scores: Sequence[Sequence[float]]) -> dict[str, float]:
    means = [sum(of) / len(of) for of in scores]
    best = [min(each) for each in zip(*scores, strict=True)]
    return {
        "score": means[-1],
        "best_score": sum(best) / len(best),
        "test_score": means[-1] + 0.01,
        "peak_bytes": 3 * 2**20,
        "epoch_s": 2.0,
        "train_s": 8.0,
        "wall_s": 10.0,
    }


def _run(seed: int) -> dict[str, Any]:
    measured = {"samples_per_s": 100.0 + seed, "peak_bytes": 3 * 2**20, "wall_s": 4.0, "device_s": 4.0}
    return {"seed": seed, **measured, "devices": ["cpu"], "hardware": "a machine"}


def _epochs(scores: Sequence[Sequence[float]], metric: str) -> Iterator[dict[str, Any]]:
    """Yields the records of two local modules: train and valid after each epoch, test after the last."""
    for epoch, of in enumerate(scores, start=1):
        for seed, score in enumerate(of):
            for module, value in enumerate((0.9, score)):
                row = {"seed": seed, "epoch": epoch, "module": module, "step": 21 * epoch, "name": "ab"[module]}
                row["num_samples"] = 8
                yield row | {"split": "train", "loss": 2.0 - module, "values": [(metric, value)]}
                yield row | {"split": "valid", "loss": None, "values": [(metric, value)]}
                if epoch == len(scores):
                    yield row | {"split": "test", "loss": None, "values": [(metric, value + 0.01)]}
