"""A study from its table: everything is in the one Parquet file, so that it can be read on any machine."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from isograd.data.identity import data_in
from isograd.display.measures import METRICS
from isograd.errors import StudyError
from isograd.events.events import EpochRecord
from isograd.run.record import RunRecord
from isograd.studies.study import StudyTable, Trial
from isograd.system.paths import user_path
from isograd.system.trouble import trouble_of
from isograd.tasks.task import Score
from isograd.tune.request import is_study
from isograd.tune.space import Categorical, Cuts, Number, Parameter
from isograd.tune.table import FORMAT, METADATA, TABLE

_DISTRIBUTIONS = {made.__name__.lower(): made for made in (Number, Categorical, Cuts)}


def load_study(path: Path | str) -> StudyTable:
    """Reads a study.

    Args:
        path: Its folder, or its table alone, which needs none of the study's other files.

    Raises:
        StudyError: There is no table, or it is damaged, foreign, or of another version.
    """
    file = find_table(Path(path))
    if file is None:
        raise _explain_missing(Path(path))
    with _explain_damage(file):
        rows, metadata = _read(file)
        return _make_study(file.absolute(), rows, metadata)


def find_table(path: Path) -> Path | None:
    """Returns the table of a study's folder, or ``path`` itself where that is a Parquet file; None: neither."""
    path = user_path(path)
    candidates = (path / TABLE, path) if path.suffix == Path(TABLE).suffix else (path / TABLE,)
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def _explain_missing(path: Path) -> StudyError:
    if is_study(user_path(path)):
        return StudyError(
            f"the study {path} has no {TABLE} yet",
            "It is written when a sweep ends, and has all that a report needs",
            f"Use `isograd resume {path}` to go on with it, or wait until its sweep ends.",
        )
    return StudyError(
        f"{path} is no study: there is no {TABLE} in it",
        "That file has all that was measured",
        f"Use the folder that `isograd tune` printed, or the path of its {TABLE}.",
    )


@contextmanager
def _explain_damage(file: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, LookupError, TypeError, AttributeError, NotImplementedError) as error:
        trouble = trouble_of(error, file)
        if trouble is not None:  # such as a table that may not be read
            raise trouble from error
        raise StudyError(
            f"{file} cannot be read as a study's table ({type(error).__name__}: {str(error).partition(chr(10))[0]})",
            "It is damaged, or another version of isograd wrote it",
            f"Use a copy of {TABLE} as `isograd tune` wrote it.",
        ) from error


def _read(file: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    from pyarrow import parquet

    table = parquet.ParquetFile(file).read()
    metadata = json.loads((table.schema.metadata or {}).get(METADATA, b"{}"))
    if metadata.get("format") != FORMAT:
        raise StudyError(
            f"{file} is no table of a study: its metadata says format {metadata.get('format')}, not {FORMAT}",
            "Space, score, objectives and provenance are kept there",
            f"Use a {TABLE} that this version's `isograd tune` wrote.",
        )
    return table.to_pylist(), metadata


def _make_study(file: Path, rows: list[dict[str, Any]], metadata: Mapping[str, Any]) -> StudyTable:
    parameters = tuple(_make_parameter(name, spec) for name, spec in metadata["parameters"].items())
    score, split = Score(**metadata["score"]), metadata["split"]
    scheduler = "none: every trial trains all epochs"
    if metadata["scheduler"] != "none":
        grace, reduction = metadata["grace_epochs"], metadata["reduction"]
        scheduler = f"{metadata['scheduler']}, from epoch {grace} on, one in {reduction} goes on at each stop"
    return StudyTable(
        file=file,
        name=metadata["study"],
        space=metadata["space"],
        parameters=parameters,
        items=tuple(metadata["items"]),
        score=score,
        split=split,
        objectives=tuple(metadata["objectives"]),
        seeds=tuple(metadata["seeds"]),
        num_epochs=metadata["num_epochs"],
        num_trials=metadata["num_trials"],
        sampler=f"{metadata['sampler']}, seed {metadata['sampler_seed']}",
        scheduler=scheduler,
        reuses_processes=metadata["reuse_actors"],
        trials=tuple(_make_trial(row, parameters, score, split) for row in rows),
        provenance=metadata["provenance"],
        data=data_in(metadata["provenance"]),
    )


def _make_parameter(name: str, spec: Mapping[str, Any]) -> Parameter:
    given = dict(spec)
    kind, when = given.pop("distribution"), given.pop("when")
    return Parameter(name, _DISTRIBUTIONS[kind](**given), {other: tuple(values) for other, values in when.items()})


def _make_trial(row: Mapping[str, Any], parameters: tuple[Parameter, ...], score: Score, split: str) -> Trial:
    coordinates = json.loads(row["coordinates"])
    values = {parameter.name: _find_value(parameter, row, coordinates) for parameter in parameters}
    return Trial(
        number=row["trial"],
        kind=row["kind"],
        reason=row["reason"],
        epoch=row["epoch"],
        seeds=tuple(row["seeds"]),
        metrics={name: row[name] for name in METRICS if row[name] is not None},
        values={name: value for name, value in values.items() if value is not None},
        records=dict(_make_records(row, score, split)),
        config=json.loads(row["config"]),
        units=tuple(row["units"]),
        host=row["host"],
    )


def _make_records(row: Mapping[str, Any], score: Score, split: str) -> Iterator[tuple[int, RunRecord]]:
    """Yields a record a seed that has trained: its epochs, and what it took where the trial came to an end."""
    runs = {run["seed"]: run for run in row["runs"]}
    for seed in row["seeds"]:
        epochs = [_make_epoch(each) for each in row["epochs"] if each["seed"] == seed]
        run = runs.get(seed, {})
        if not (epochs or run):
            continue
        yield (
            seed,
            RunRecord(
                score=score,
                split=split,
                epochs=epochs,
                num_modules=max((each.module for each in epochs), default=0) + 1,
                num_steps=max((each.step for each in epochs), default=0),
                samples_per_s=run.get("samples_per_s"),
                wall_s=run.get("wall_s", 0.0),
                device_s=run.get("device_s", 0.0),
                peak_bytes=run.get("peak_bytes", 0),
                stages=[{"device": device} for device in run.get("devices", ())],
                checkpoint=None,
                fingerprint=row["fingerprint"],
                hardware=run.get("hardware", ""),
            ),
        )


def _make_epoch(row: Mapping[str, Any]) -> EpochRecord:
    record: dict[str, Any] = {item.name: row[item.name] for item in fields(EpochRecord)}
    record["values"] = {name: value for name, value in row["values"] or () if value is not None}
    return EpochRecord(**record)


def _find_value(parameter: Parameter, row: Mapping[str, Any], coordinates: dict[str, Any]) -> Any:
    """Returns what a trial had of a parameter; None: it was absent."""
    name, distribution = parameter.name, parameter.distribution
    if isinstance(distribution, Cuts):
        ends = row.get(name)
        return None if ends is None else tuple(json.loads(ends))
    if isinstance(distribution, Number):
        return distribution.find_value(name, coordinates)
    return coordinates.get(name)
