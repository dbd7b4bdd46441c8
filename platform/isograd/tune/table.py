"""The table of a study: one Parquet file, a row a trial, with its configuration and all that was measured by epoch."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyarrow import parquet

from isograd.display.measures import METRICS
from isograd.system.files import replacing
from isograd.system.passwords import hide_password
from isograd.tune.ground import make_ground
from isograd.tune.judge import SPLIT
from isograd.tune.results import ASSIGNED, Outcome, SeedRun, outcome_of, read_records
from isograd.tune.space import Ground
from isograd.tune.study import Study

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

TABLE = "trials.parquet"
METADATA = b"isograd"
FORMAT = 3  # of the table

_TYPES: dict[Any, pa.DataType] = {
    int: pa.int64(),
    float: pa.float64(),
    str: pa.string(),
    tuple[str, ...]: pa.list_(pa.string()),
}
_RUN = pa.struct([(item.name, _TYPES[item.type]) for item in fields(SeedRun)])
_EPOCH = pa.struct(  # an EpochRecord, and its seed
    [
        ("seed", pa.int64()),
        ("epoch", pa.int64()),
        ("split", pa.string()),
        ("module", pa.int64()),
        ("loss", pa.float64()),
        ("values", pa.map_(pa.string(), pa.float64())),
        ("step", pa.int64()),
        ("name", pa.string()),
        ("num_samples", pa.int64()),
    ]
)
FIXED_COLUMNS = [
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


def write_table(study: Study, provenance: Mapping[str, Any]) -> Path:
    """Writes the trials of a study, wholly or not at all, with what was asked for and the sweep's provenance.

    Returns:
        The file's path.
    """
    trials, ground = study.trials, make_ground(study.request.base)
    rows = [_row_of(study, trial, ground) for trial in trials]
    by_trial: dict[int, list[Mapping[str, Any]]] = {}
    for record in read_records(study.request.folder):
        by_trial.setdefault(record["trial"], []).append(record)
    for row in rows:
        row["epochs"] = by_trial.get(row["trial"], [])
    columns = {name: pa.array([row[name] for row in rows], kind) for name, kind in FIXED_COLUMNS}
    columns |= {name: pa.array([row["metrics"].get(name) for row in rows], pa.float64()) for name in METRICS}
    for name in dict.fromkeys(name for row in rows for name in row["settings"]):
        columns[name] = _to_column([row["settings"].get(name) for row in rows])
    table = pa.table(columns).replace_schema_metadata({METADATA: json.dumps(_describe(study, provenance)).encode()})
    target = study.request.folder / TABLE
    with replacing(target) as draft:
        parquet.write_table(table, draft)
    return target


def _row_of(study: Study, trial: "FrozenTrial", ground: Ground) -> dict[str, Any]:
    outcome = outcome_of(trial) or Outcome("running", {}, 0)
    record = trial.user_attrs[ASSIGNED]
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
        "settings": record["settings"],
    }


def _to_column(values: Sequence[Any]) -> pa.Array:
    """Returns a column of one type: numbers, truth values or text; anything else as JSON."""
    kinds = {type(value) for value in values if value is not None}
    for plain, kind in (
        ((bool,), pa.bool_()),
        ((int,), pa.int64()),
        ((int, float), pa.float64()),
        ((str,), pa.string()),
    ):
        if kinds <= set(plain):
            return pa.array(values, kind)
    return pa.array([None if value is None else json.dumps(value) for value in values], pa.string())


def _describe(study: Study, provenance: Mapping[str, Any]) -> dict[str, Any]:
    request, sweep = study.request, study.request.sweep
    return {
        "format": FORMAT,
        "study": request.name,
        "space": request.file.name,
        "items": [hide_password(item) for item in request.items],
        "score": asdict(request.score),
        "split": SPLIT,
        "objectives": sweep.objectives,
        "seeds": sweep.seeds,
        "num_trials": study.num_trials,
        "num_epochs": request.num_epochs,
        "sampler": sweep.sampler_name,
        "sampler_seed": sweep.sampler_seed,
        "scheduler": sweep.scheduler,
        "grace_epochs": sweep.grace_epochs,
        "reduction": sweep.reduction,
        "reuse_actors": sweep.reuses_actors,
        "parameters": request.file.space.to_json(),
        "provenance": {**provenance, "data": study.data},
    }
