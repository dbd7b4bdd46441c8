"""A study from its table: everything is in the one Parquet file, so that it can be read on any machine."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from isograd.data.identity import data_in
from isograd.errors import StudyError
from isograd.studies.study import Epoch, StudyTable, Trial
from isograd.system.paths import user_path
from isograd.system.trouble import trouble_of
from isograd.tune.request import is_study
from isograd.tune.results import METADATA, METRICS, TABLE, SeedRun
from isograd.tune.space import Categorical, Cuts, Number, Parameter

_FORMAT = 1
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
    if metadata.get("format") != _FORMAT:
        raise StudyError(
            f"{file} is no table of a study: its metadata says format {metadata.get('format')}, not {_FORMAT}",
            "Space, objectives and provenance are kept there",
            f"Use a {TABLE} that this version's `isograd tune` wrote.",
        )
    return table.to_pylist(), metadata


def _make_study(file: Path, rows: list[dict[str, Any]], metadata: Mapping[str, Any]) -> StudyTable:
    parameters = tuple(_make_parameter(name, spec) for name, spec in metadata["parameters"].items())
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
        objectives=tuple(metadata["objectives"]),
        seeds=tuple(metadata["seeds"]),
        num_epochs=metadata["num_epochs"],
        num_trials=metadata["num_trials"],
        sampler=f"{metadata['sampler']}, seed {metadata['sampler_seed']}",
        scheduler=scheduler,
        reuses_processes=metadata["reuse_actors"],
        trials=tuple(_make_trial(row, parameters) for row in rows),
        provenance=metadata["provenance"],
        data=data_in(metadata["provenance"]),
    )


def _make_parameter(name: str, spec: Mapping[str, Any]) -> Parameter:
    given = dict(spec)
    kind, when = given.pop("distribution"), given.pop("when")
    return Parameter(name, _DISTRIBUTIONS[kind](**given), {other: tuple(values) for other, values in when.items()})


def _make_trial(row: Mapping[str, Any], parameters: tuple[Parameter, ...]) -> Trial:
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
        runs=tuple(SeedRun(**{**run, "devices": tuple(run["devices"])}) for run in row["runs"]),
        epochs=tuple(_make_epoch(record) for record in row["epochs"] if record["test_error"] is not None),
        config=json.loads(row["config"]),
        units=tuple(row["units"]),
        host=row["host"],
    )


def _make_epoch(record: Mapping[str, Any]) -> Epoch:
    losses = tuple(record["module_train_losses"] or ())
    return Epoch(record["seed"], record["epoch"], record["test_error"], tuple(record["module_test_errors"]), losses)


def _find_value(parameter: Parameter, row: Mapping[str, Any], coordinates: Mapping[str, Any]) -> Any:
    """Returns what a trial had of a parameter; None: it was absent."""
    name, distribution = parameter.name, parameter.distribution
    if isinstance(distribution, Cuts):
        ends = row.get(name)
        return None if ends is None else tuple(json.loads(ends))
    if isinstance(distribution, Number) and distribution.complement:
        rest = coordinates.get(f"1 - {name}")
        return None if rest is None else 1 - rest
    return coordinates.get(name)
