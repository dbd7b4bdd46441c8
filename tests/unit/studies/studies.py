"""Studies that never happened, as tables, for the tests of what is read from them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from isograd.engine.config import fingerprint, to_dict
from isograd.studies.reading import load_study
from isograd.studies.study import StudyTable
from isograd.tune.results import _FIXED, METADATA, METRICS, TABLE
from isograd.tune.space import Categorical, Cuts, Number
from tests.unit.studies.records import composed

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
    errors: Sequence[Sequence[float]] = ((0.5, 0.4), (0.2, 0.3)),
    kind: str = "complete",
    values: Mapping[str, Any] | None = None,
    ends: Sequence[str] = ("a",),
    **given: Any,
) -> dict[str, Any]:
    """Returns a row. ``errors`` are one an epoch, of each the seeds'; ``values`` are coordinates."""
    config = composed("method=dgl", "model.width=4", "executor.device=cpu")
    num_seeds = len(errors[0]) if errors else 2
    ended = kind in ("complete", "pruned")
    return {
        "trial": number,
        "kind": kind,
        "reason": "" if ended else "it stopped",
        "epoch": len(errors),
        "seeds": list(range(num_seeds)),
        "host": "somewhere",
        "fingerprint": fingerprint(config),
        "config": json.dumps(to_dict(config)),
        "coordinates": json.dumps(
            {"optimizer.lr": 0.1, "kind": "none", "partition.num_modules": 2} | dict(values or {})
        ),
        "units": list(UNITS),
        "runs": [_run(seed) for seed in range(num_seeds)] if ended else [],
        "epochs": [_epoch(seed, epoch, error) for epoch, of in enumerate(errors, 1) for seed, error in enumerate(of)],
        "partition.ends": json.dumps(list(ends)),
        **({name: float(value) for name, value in _metrics(errors).items()} if ended else {}),
        **given,
    }


def study(folder: Path, *rows: Mapping[str, Any], **metadata: Any) -> StudyTable:
    """Writes a study's table, and reads it."""
    write(folder, *rows, **metadata)
    return load_study(folder)


def write(folder: Path, *rows: Mapping[str, Any], **metadata: Any) -> Path:
    """Writes a study's table into a folder."""
    columns = {name: pa.array([row.get(name) for row in rows], kind) for name, kind in _FIXED}
    columns |= {name: pa.array([row.get(name) for row in rows], pa.float64()) for name in METRICS}
    columns["partition.ends"] = pa.array([row["partition.ends"] for row in rows], pa.string())
    table = pa.table(columns).replace_schema_metadata({METADATA: json.dumps(_metadata() | metadata).encode()})
    folder.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, folder / TABLE)
    return folder / TABLE


def _metadata() -> dict[str, Any]:
    return {
        "format": 1,
        "study": "made",
        "space": "by-hand",
        "items": ["model.width=4"],
        "objectives": ["test_error"],
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


def _metrics(errors: Sequence[Sequence[float]]) -> dict[str, float]:
    means = [sum(of) / len(of) for of in errors]
    best = [min(each) for each in zip(*errors, strict=True)]
    return {
        "test_error": means[-1],
        "best_test_error": sum(best) / len(best),
        "peak_bytes": 3 * 2**20,
        "epoch_s": 2.0,
        "train_s": 8.0,
        "wall_s": 10.0,
    }


def _run(seed: int) -> dict[str, Any]:
    measured = {"images_per_s": 100.0 + seed, "peak_bytes": 3 * 2**20, "wall_s": 4.0, "device_s": 4.0}
    return {"seed": seed, **measured, "devices": ["cpu"], "hardware": "a machine"}


def _epoch(seed: int, epoch: int, error: float) -> dict[str, Any]:
    found = {"module_test_errors": [0.9, error], "module_train_losses": [2.0, 1.0]}
    return {"seed": seed, "epoch": epoch, "test_error": error, **found}
