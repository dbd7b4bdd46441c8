"""Which files are a split: found by their names, and held to be one complete set.

A *place* is a folder that holds the files of splits: ``train-00000-of-00002.parquet``, with or without the suffix that
an upload to the hub adds to each, ``train.parquet``, or a folder ``train`` of files, as the hub's own conversion to
Parquet makes it (``refs/convert/parquet``). Places are the folder asked for, its subfolder ``data``, and the
subfolder of a configuration (``plain_text``, ``default``) where only one has the split.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from isograd.errors import DataError
from isograd.paths import user_path

# Where a split may lie, by the name that it is asked for; the first that is there is taken.
PREFIXES = {
    "test": ("test", "validation", "valid", "val"),
    "validation": ("validation", "valid", "val"),
    "val": ("val", "validation", "valid"),
}

_NUMBERED = re.compile(r"(?P<stem>.+?)[-_.](?P<number>\d+)-of-(?P<total>\d+)(?P<suffix>-[0-9a-f]{4,})?\.parquet")
_COUNTED = re.compile(r"(?P<stem>.*?)[-_. ]?(?P<number>\d+)\.parquet")
_DEPTH = 4  # folders below the one asked for that are looked at, to say what would have been right
_SHOWN = 6


@dataclass(frozen=True)
class Shards:
    """The files of a split.

    Attributes:
        place: Where it was found; see above.
        files: Absolute paths, sorted by name.
    """

    place: Path
    files: tuple[Path, ...]


def find_shards(folder: Path, split: str) -> Shards:
    """Finds the files of a split.

    Args:
        folder: Holds them; see above. It may begin with ``~``.
        split: As it is asked for; see :data:`PREFIXES`.

    Raises:
        DataError: There is no such folder or split, several places have it, or its files are no complete set.
    """
    folder = user_path(folder).resolve()  # a Ray worker has another working directory
    if not folder.is_dir():
        raise _no_folder(folder, split)
    prefixes = PREFIXES.get(split, (split,))
    for prefix in prefixes:
        for place in (folder, folder / "data"):
            if files := _files_at(place, prefix):
                return Shards(folder, _complete(files, prefix))
    for prefix in prefixes:
        found = {place: files for place in _subfolders(folder) if (files := _files_at(place, prefix))}
        if len(found) > 1:
            raise DataError(
                f"{len(found)} folders of {folder} have a split {prefix}: {_names([*found])}",
                "Each is a data set, or a configuration of one, of its own",
                f"Use data.path={next(iter(found))}, or another one of them.",
            )
        for place, files in found.items():
            return Shards(place, _complete(files, prefix))
    raise _no_split(folder, split, prefixes)


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _files_at(place: Path, prefix: str) -> list[Path]:
    """Returns the files in a place whose names begin with the prefix, or those of its folder of that name."""
    name = re.compile(rf"{re.escape(prefix)}([-._ 0-9].*)?\.parquet")
    files = sorted(path for path in place.glob("*.parquet") if name.fullmatch(path.name) and path.is_file())
    inside = [path for path in (place / prefix).glob("*.parquet") if not path.name.startswith(".")]
    return files or sorted(inside)


def _complete(files: list[Path], prefix: str) -> tuple[Path, ...]:
    """Returns the files where they are one set, each part of it once. Raises DataError where not, or where unclear."""
    numbered = [match for file in files if (match := _NUMBERED.fullmatch(file.name))]
    if not numbered:
        return _complete_without_total(files, prefix)
    if len(numbered) < len(files):
        odd = [file for file in files if not _NUMBERED.fullmatch(file.name)]
        raise _refused(
            files,
            f"{len(numbered)} are numbered -of-, {len(odd)} are not ({_names(odd)})",
            "Move what does not belong to the set into another folder.",
        )
    for what, values in (
        ("begin with", sorted({match["stem"] for match in numbered})),
        ("promise", sorted({f"{int(match['total'])}" for match in numbered}, key=int)),
        ("end", sorted({"with a hash" if match["suffix"] else "without one" for match in numbered})),
    ):
        if len(values) > 1:
            raise _refused(files, f"they {what} {' and '.join(values)}", "Keep the files of one set, all of them.")
    numbers, total = [int(match["number"]) for match in numbered], int(numbered[0]["total"])
    if twice := sorted({number for number in numbers if numbers.count(number) > 1}):
        both = [file for file, number in zip(files, numbers, strict=True) if number == twice[0]]
        raise _refused(files, f"number {twice[0]} is there {len(both)} times ({_names(both)})", "Keep one set of them.")
    if missing := sorted(set(range(total)) - set(numbers)):
        shown = ", ".join(map(str, missing[:_SHOWN])) + (" ..." if len(missing) > _SHOWN else "")
        raise _refused(
            files,
            f"their names promise {total} shards, numbered from 0; {len(missing)} are missing: {shown}",
            "Complete the download.",
        )
    if len(numbers) > total:
        raise _refused(files, f"their names promise {total} shards", "Keep one set of them.")
    return tuple(files)


def _complete_without_total(files: list[Path], prefix: str) -> tuple[Path, ...]:
    """As :func:`_complete`, of names that do not say how many there are: numbers without a gap, or a single file."""
    counted = [match for file in files if (match := _COUNTED.fullmatch(file.name))]
    numbers = sorted(int(match["number"]) for match in counted)
    if len(files) == 1 and not (counted and counted[0]["number"].startswith("0") and numbers[0] > 1):
        return tuple(files)
    is_one_set = len(counted) == len(files) and len({match["stem"] for match in counted}) == 1
    if is_one_set and numbers[0] in (0, 1) and numbers == list(range(numbers[0], numbers[0] + len(numbers))):
        return tuple(files)
    raise _refused(
        files,
        f"numbers {', '.join(map(str, numbers[:_SHOWN]))} do not run from 0 or 1 without a gap"
        if is_one_set
        else "their names do not say that they belong together",
        f"Name them {prefix}-00000-of-{len(files):05d}.parquet and so on, or move what does not belong elsewhere.",
    )


def _refused(files: Sequence[Path], reason: str, mend: str) -> DataError:
    return DataError(
        f"the {len(files)} files {_names(files)} in {files[0].parent} are not one complete set: {reason}",
        "Rows would be missing, or occur twice",
        mend,
    )


def _names(paths: Sequence[Path]) -> str:
    return ", ".join(path.name for path in paths[:_SHOWN]) + (" ..." if len(paths) > _SHOWN else "")


def _no_folder(folder: Path, split: str) -> DataError:
    if folder.is_file():
        return DataError(
            f"{folder} is a file, not a folder",
            f"The {split} split is found by the names of the files in a folder",
            f"Use data.path={folder.parent}.",
        )
    return DataError(
        f"there is no folder {folder}",
        f"The {split} split is read from it",
        "Use data.path=FOLDER with the folder that holds its Parquet files, or make one with `isograd prepare`.",
    )


def _no_split(folder: Path, split: str, prefixes: Sequence[str]) -> DataError:
    """Names what is there, and the option that would find it."""
    wanted = " or ".join(f"{prefix}-*.parquet" for prefix in prefixes)
    found = [path for path in (*folder.glob("*"), *(folder / "data").glob("*")) if not path.name.startswith(".")]
    return DataError(
        f"there is no {wanted} in {folder} or its subfolder data",
        f"The {split} split is read from such files; found: {_names(sorted(found, key=str)) or 'nothing'}",
        _mend(folder, split, prefixes),
    )


def _mend(folder: Path, split: str, prefixes: Sequence[str]) -> str:
    places = [folder.parent, *_places(folder, _DEPTH)]
    for place in places:
        if any(_files_at(place, prefix) for prefix in prefixes) and any(_files_at(place, "train")):
            return f"Use data.path={place}."
    if split != "train" and (others := _splits_at([folder, folder / "data", *_subfolders(folder)])):
        return f"Use data.test_split={others[0]}, or give the data set a split to test on."
    if any(path.is_dir() for path in (folder / "train").glob("*")):
        return f"Run `isograd prepare image_folder --root {folder} --output FOLDER`, and use data.path=FOLDER."
    return "Name the files so, or run `isograd prepare`."


def _places(folder: Path, depth: int) -> list[Path]:
    inner = _subfolders(folder) if depth else []
    return [*inner, *(place for path in inner for place in _places(path, depth - 1))]


def _splits_at(places: Sequence[Path]) -> list[str]:
    """Returns what could be the names of other splits than the training split."""
    names = [path.name for place in places if place.is_dir() for path in sorted(place.glob("*.parquet"))]
    found = [re.split(r"[-.]", name)[0] for name in names if not name.startswith(".")]
    return [name for name in dict.fromkeys(found) if name not in ("train", "")]
