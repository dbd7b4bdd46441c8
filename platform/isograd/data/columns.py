"""Whether columns of Parquet files can be read as images and classes, and mean the same in all files of a data set."""

import shlex
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from isograd.data import labels
from isograd.errors import DataError


def check_columns(file: str | Path, schema: pa.Schema, image_column: str, label_column: str) -> None:
    """Raises DataError where a file does not have the two columns, or one has a type that cannot be read."""
    check_images(file, schema, image_column, option="data.image_column")
    check_column(
        *(file, schema, label_column, labels.is_label, "whole numbers, truth values or text"),
        option="data.label_column",
        mend="Write the file again with classes numbered from 0 (int64), or with their names.",
    )


def check_images(file: str | Path, schema: pa.Schema, column: str, *, option: str = "") -> None:
    """Raises DataError where a file has no such column of encoded images; ``option`` names the column, if any does."""
    check_column(
        *(file, schema, column, _is_image, "struct<bytes: binary, path: string> or binary"),
        option=option,
        mend="Store images as the bytes of their files (PNG, JPEG): `isograd prepare image_folder` makes such files.",
    )


def check_column(
    file: str | Path,
    schema: pa.Schema,
    column: str,
    fits: Callable[[pa.DataType], bool],
    wanted: str,
    *,
    option: str,
    mend: str,
) -> None:
    """Raises DataError where a file does not have a column once, or where its type cannot be read.

    Args:
        file: For messages.
        schema: Of the file.
        column: Name.
        fits: Whether a type can be read.
        wanted: Which types can, in words.
        option: That names the column; empty: none does.
        mend: What to do where no other column would fit.
    """
    times = schema.names.count(column)
    # A name that two columns have names none of them.
    fitting = [item.name for item in schema if fits(item.type) and schema.names.count(item.name) == 1]
    if option and fitting:
        mend = f"Use {option}={shlex.quote(fitting[0])}."
    if option and len(fitting) > 1:
        mend = f"Use {option}=NAME with one of {', '.join(fitting)}."
    if times != 1:
        raise DataError(
            f"{file} has {times or 'no'} column{'s' * (times > 1)} '{column}'",
            f"Its columns are: {', '.join(schema.names)}",
            mend,
        )
    if not fits(schema.field(column).type):
        raise DataError(
            f"column '{column}' of {file} is {schema.field(column).type}, not {wanted}",
            "The layout of the Hugging Face hub is expected",
            mend,
        )


def check_agree(schemas: dict[str, pa.Schema], label_column: str) -> None:
    """Raises DataError where files mean different classes by the same label."""
    kinds = {file: schema.field(label_column).type for file, schema in schemas.items()}
    first, kind = next(iter(kinds.items()))
    for file, other in kinds.items():
        if labels.is_text(kind) != labels.is_text(other):
            raise _disagree(label_column, f"are {kind} in {first}, but {other} in {file}")
    declared = {file: labels.declared_names(schema, label_column) for file, schema in schemas.items()}
    declared = {file: names for file, names in declared.items() if names}
    for file, others in declared.items():
        first, names = next(iter(declared.items()))
        if len(names) != len(others):
            raise _disagree(label_column, f"have {len(names)} names in {first}, but {len(others)} in {file}")
        for number, (name, other) in enumerate(zip(names, others, strict=True)):
            if name != other:
                raise _disagree(label_column, f"call {number} '{name}' in {first}, but '{other}' in {file}")


def _disagree(label_column: str, how: str) -> DataError:
    return DataError(
        f"the labels '{label_column}' {how}",
        "One number would mean two classes",
        "Use files of one data set, or write them again with the same names of classes.",
    )


def _is_image(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and _is_binary(field.type) for field in kind)
    return _is_binary(kind)


def _is_binary(kind: pa.DataType) -> bool:
    kind = kind.value_type if isinstance(kind, pa.DictionaryType) else kind
    return any(fits(kind) for fits in (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view))
