"""Whether columns of Parquet files can be read as images and classes, and mean the same in all files of a data set."""

from pathlib import Path

import pyarrow as pa

from isograd.data import labels
from isograd.errors import DataError


def check_columns(file: str | Path, schema: pa.Schema, image_column: str, label_column: str) -> None:
    """Raises DataError where a file does not have the two columns, or one has a type that cannot be read."""
    for option, column, fits, wanted in (
        ("image_column", image_column, _is_image, "struct<bytes: binary, path: string> or binary"),
        ("label_column", label_column, labels.is_label, "whole numbers, truth values or text"),
    ):
        fitting = [field.name for field in schema if fits(field.type)]
        use = f"Use data.{option}={fitting[0] if len(fitting) == 1 else 'NAME with one of them'}."
        if schema.names.count(column) != 1:
            raise DataError(
                f"{file} has {schema.names.count(column) or 'no'} column{'s' * (column in schema.names)} '{column}'",
                f"Its columns are: {', '.join(schema.names)}",
                use,
            )
        if not fits(schema.field(column).type):
            raise DataError(
                f"column '{column}' of {file} is {schema.field(column).type}, not {wanted}",
                "The hub's layout of image classification is expected",
                f"Use data.{option}=NAME with another column ({', '.join(schema.names)}), or run `isograd prepare`.",
            )


def check_agree(schemas: dict[str, pa.Schema], label_column: str) -> None:
    """Raises DataError where files mean different classes by the same label."""
    (first, schema), *others = schemas.items()
    kind, names = schema.field(label_column).type, labels.declared_names(schema, label_column)
    for file, other in others:
        theirs, their_names = other.field(label_column).type, labels.declared_names(other, label_column)
        what = None
        if labels.is_text(kind) != labels.is_text(theirs):
            what = f"are {kind} in {first}, but {theirs} in {file}"
        elif names and their_names and names != their_names:
            place = next(
                (n for n, pair in enumerate(zip(names, their_names, strict=False)) if pair[0] != pair[1]), None
            )
            what = f"have {len(names)} names in {first}, but {len(their_names)} in {file}"
            if place is not None:
                what = f"call {place} '{names[place]}' in {first}, but '{their_names[place]}' in {file}"
        if what is not None:
            raise DataError(
                f"the labels '{label_column}' {what}",
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
