"""A study as one Parquet file: a row a trial, with its configuration, seeds, and all that was measured by epoch."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from optuna.trial import FrozenTrial
from pyarrow import parquet

from isograd.system.files import replacing
from isograd.system.passwords import hide_password
from isograd.tune.ground import ground_of
from isograd.tune.records import read_records
from isograd.tune.space import Ground
from isograd.tune.study import Outcome, Study, assignment_of, outcome_of

TABLE = "trials.parquet"
METADATA = b"isograd"

_EPOCH = pa.struct(
    [
        ("seed", pa.int64()),
        ("epoch", pa.int64()),
        ("test_error", pa.float64()),
        ("module_test_errors", pa.list_(pa.float64())),
        ("module_train_losses", pa.list_(pa.float64())),
    ]
)
_RUN = pa.struct(
    [
        ("seed", pa.int64()),
        ("images_per_s", pa.float64()),
        ("peak_bytes", pa.int64()),
        ("wall_s", pa.float64()),
        ("device_s", pa.float64()),
        ("devices", pa.list_(pa.string())),
        ("hardware", pa.string()),
    ]
)
_FIXED = [
    ("study", pa.string()),
    ("trial", pa.int64()),
    ("kind", pa.string()),  # complete, pruned, failed, lost or running
    ("reason", pa.string()),
    ("epoch", pa.int64()),
    ("seeds", pa.list_(pa.int64())),
    ("started", pa.timestamp("ms")),
    ("ended", pa.timestamp("ms")),
    ("host", pa.string()),
    ("fingerprint", pa.string()),
    ("config", pa.string()),  # JSON
    ("coordinates", pa.string()),  # JSON: what the searcher drew
    ("units", pa.list_(pa.string())),  # of the backbone, in order: what cuts are counted in
    ("runs", pa.list_(_RUN)),
    ("epochs", pa.list_(_EPOCH)),
]
METRICS = ("test_error", "best_test_error", "peak_bytes", "epoch_s", "train_s", "wall_s")


def write_table(study: Study, provenance: Mapping[str, Any]) -> Path:
    """Writes the trials of a study, wholly or not at all.

    Args:
        study: The study.
        provenance: Of the sweep; goes into the file's metadata, with what was asked for.

    Returns:
        The file's path.
    """
    trials = study.trials
    settings = [assignment_of(trial).settings for trial in trials]
    names = list(dict.fromkeys(name for each in settings for name in each))
    columns: dict[str, pa.Array] = {}
    ground = ground_of(study.request.base)
    rows = [_row(study, trial, ground) for trial in trials]
    by_trial: dict[int, list[Mapping[str, Any]]] = {}
    for record in read_records(study.request.folder):
        by_trial.setdefault(record["trial"], []).append(record)
    for row in rows:
        row["epochs"] = by_trial.get(row["trial"], [])
    for name, kind in _FIXED:
        columns[name] = pa.array([row[name] for row in rows], kind)
    for name in METRICS:
        columns[name] = pa.array([row["metrics"].get(name) for row in rows], pa.float64())
    for name in names:
        columns[name] = _option([each.get(name) for each in settings])
    table = pa.table(columns).replace_schema_metadata({METADATA: json.dumps(_metadata(study, provenance)).encode()})
    target = study.request.folder / TABLE
    with replacing(target) as draft:
        parquet.write_table(table, draft)
    return target


def _row(study: Study, trial: FrozenTrial, ground: Ground) -> dict[str, Any]:
    outcome = outcome_of(trial) or Outcome("running", {}, 0)
    record = trial.user_attrs["assigned"]
    return {
        "study": study.request.name,
        "trial": trial.number,
        "kind": outcome.kind,
        "reason": outcome.reason,
        "epoch": outcome.epoch,
        "seeds": study.request.sweep.seeds,
        "started": trial.datetime_start,
        "ended": trial.datetime_complete,
        "host": outcome.host,
        "fingerprint": record["fingerprint"],
        "config": json.dumps(record["config"]),
        "coordinates": json.dumps(trial.params),
        "units": list(ground.unit_names_with(record["settings"])),
        "runs": list(outcome.runs),
        "metrics": outcome.metrics,
    }


def _option(values: Sequence[Any]) -> pa.Array:
    """Returns a column of one type: numbers, truth values or text; anything else as JSON."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {bool}:
        return pa.array(values, pa.bool_())
    if kinds <= {int}:
        return pa.array(values, pa.int64())
    if kinds <= {int, float}:
        return pa.array([None if value is None else float(value) for value in values], pa.float64())
    if kinds <= {str}:
        return pa.array(values, pa.string())
    return pa.array([None if value is None else json.dumps(value) for value in values], pa.string())


def _metadata(study: Study, provenance: Mapping[str, Any]) -> dict[str, Any]:
    sweep = study.request.sweep
    return {
        "format": 1,
        "study": study.request.name,
        "space": study.request.file.name,
        "items": [hide_password(item) for item in study.request.items],
        "objectives": sweep.objectives,
        "seeds": sweep.seeds,
        "num_trials": study.num_trials,
        "num_epochs": study.request.base.train.epochs,
        "sampler": sweep.sampler_name,
        "sampler_seed": sweep.sampler_seed,
        "scheduler": sweep.scheduler,
        "grace_epochs": sweep.grace_epochs,
        "reduction": sweep.reduction,
        "reuse_actors": sweep.reuses_actors,
        "parameters": study.request.file.space.to_json(),
        "provenance": {**provenance, "data": study.data},
    }
