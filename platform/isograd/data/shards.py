"""Which files are a split: found by their names, and held to be one complete set.

A *place* is a folder that holds the files of splits: ``train-00000-of-00002.parquet``, with or without the suffix that
an upload to the hub adds to each, ``train.parquet``, or a folder ``train`` of files, as the hub's own conversion to
Parquet makes it (``refs/convert/parquet``). Places are the folder asked for, its subfolder ``data``, and the
subfolder of a configuration (``plain_text``, ``default``) where only one has the split.

Whatever is named as a file of a split counts, also where it cannot be read: a part passed over is a part missing.
"""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from isograd.data.access import not_allowed
from isograd.errors import DataError
from isograd.system.paths import user_path

# Where a split may lie, by the name that it is asked for: its own name first, else the only one that is there.
PREFIXES = {
    "test": ("test", "validation", "valid", "val"),
    "validation": ("validation", "valid", "val"),
    "val": ("val", "validation", "valid"),
}

_SUFFIX = ".parquet"
_NUMBERED = re.compile(
    r"(?P<stem>.*?)[-_. ]?(?P<number>\d+)[-_. ]?of[-_. ]?(?P<total>\d+)(?P<ending>.*)\.parquet", re.IGNORECASE
)
_HASH = re.compile(r"-[0-9a-f]{4,}", re.IGNORECASE)  # what an upload to the hub adds, another one to each file
# A number at the end, or before what all files of one job of Spark have: its identity, and how they are compressed.
_COUNTED = re.compile(
    r"(?P<stem>.*?)(?P<number>\d+)(?P<ending>(-[0-9a-f]{8}(-[0-9a-f]{4}){3}-.*?)?(\.[a-z]\w*)?)\.parquet"
)
_BEFORE_A_NUMBER = re.compile(r"|.*[-_. (]|.*(part|shard|chunk|file)", re.IGNORECASE)  # that belongs to no word
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
    if not split:
        raise DataError(
            "data.test_split is empty",
            "A split is found by the beginning of its files' names",
            "Use data.test_split=test.",
        )
    folder = user_path(folder).resolve()  # a Ray worker has another working directory
    try:
        return _found(folder, split)
    except PermissionError as error:
        raise not_allowed(folder, error) from error


def find_validation(place: Path, tested: Sequence[Path]) -> tuple[str, Shards] | None:
    """Finds a validation split beside the training split, which is not what is tested on.

    Args:
        place: Of the training split.
        tested: The files to test on.

    Returns:
        Its name and its files; None where there is none.

    Raises:
        DataError: Its files are no complete set.
    """
    for name in PREFIXES["validation"]:
        if sets := _sets_at(place, name):
            files = _complete(sets, name)
            if not any(file.samefile(other) for file in files for other in tested):
                return name, Shards(place, files)
    return None


def _found(folder: Path, split: str) -> Shards:
    if not folder.is_dir():
        raise _no_folder(folder, split)
    prefixes = PREFIXES.get(split, (split,))
    data = (folder / "data").resolve()  # it may be a link to the folder itself
    for prefix in prefixes:
        found = [files for place in dict.fromkeys([folder, data]) for files in _sets_at(place, prefix)]
        if found:
            _refuse_several([folder, data], split, prefix)
            return Shards(folder, _complete(found, prefix))
    for prefix in prefixes:
        places = {place: found for place in _subfolders(folder) if (found := _sets_at(place, prefix))}
        if len(places) > 1:
            raise DataError(
                f"{len(places)} folders of {folder} have a split {prefix}: {_names([*places])}",
                "Each is a data set, or a configuration of one, of its own",
                f"Use data.path={next(iter(places))}, or another one of them.",
            )
        for place, found in places.items():
            _refuse_several([place], split, prefix)
            return Shards(place, _complete(found, prefix))
    raise _no_split(folder, split, prefixes)


def _refuse_several(places: Sequence[Path], split: str, found: str) -> None:
    """Raises DataError where a split is not there by its name, but by several others that it may have."""
    there = [name for name in PREFIXES.get(split, ()) if any(_sets_at(place, name) for place in places)]
    if split != found and len(there) > 1:
        raise DataError(
            f"{places[0]} has no split {split}, but {len(there)} that may be meant: {', '.join(there)}",
            "One of them would be read, and the others passed over",
            f"Use data.test_split={found}, or another one of them.",
        )


def _shown(folder: Path) -> list[Path]:
    """Returns what is in a folder, sorted; nothing where there is none. Raises OSError where it cannot be read."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _subfolders(folder: Path) -> list[Path]:
    """Returns the folders in a folder that may be looked into: of others, as lost+found, nobody asked."""
    return [path for path in _shown(folder) if path.is_dir() and os.access(path, os.R_OK | os.X_OK)]


def _sets_at(place: Path, prefix: str) -> list[list[Path]]:
    """Returns what is called a file of the split: in a place, and in its folder of that name."""
    name = re.compile(rf"{re.escape(prefix)}(?![^\W\d_]).*", re.IGNORECASE)  # no letter follows
    beside = [path for path in _shown(place) if _is_called_parquet(path) and name.fullmatch(path.name)]
    within = place / prefix
    inside = list(_below(within, _DEPTH)) if any(map(_is_called_parquet, _shown(within))) else []
    inside.sort(key=lambda path: len(path.parts))  # what lies in the folder itself comes first
    return [files for files in (beside, inside) if files]


def _below(folder: Path, depth: int) -> Iterator[Path]:
    for path in _shown(folder):
        if _is_called_parquet(path):
            yield path
        elif depth and path.is_dir():
            yield from _below(path, depth - 1)


def _is_called_parquet(path: Path) -> bool:
    """Whether an entry has the suffix, in any form; what is kept beside a file (``.md5``, ``.bak``) only without it."""
    stem, suffix, rest = path.name.lower().rpartition(_SUFFIX)
    return bool(suffix) and not (rest and path.with_name(path.name[: len(stem + suffix)]).exists())


def _complete(found: list[list[Path]], prefix: str) -> tuple[Path, ...]:
    """Returns the files where they are one set, each part of it once. Raises DataError where not, or where unclear."""
    if len(found) > 1:
        places = [files[0].parent for files in found]
        raise DataError(
            f"the {prefix} split is there {len(found)} times: "
            + ", and ".join(f"{_names(files)} in {place}" for files, place in zip(found, places, strict=True)),
            "One of them would be read, and the others passed over",
            "Move what is not meant into another folder"
            + (f", or use data.path={places[-1]}." if places[-1].name == "data" else "."),
        )
    files = found[0]
    for file in files:
        _refuse_odd(file, files[0].parent, prefix)
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
        ("begin with", {match["stem"] for match in numbered}),
        ("promise", {f"{int(match['total'])}" for match in numbered}),
        ("end with", {_ending(match["ending"]) for match in numbered}),
    ):
        if len(values) > 1:
            shown = sorted(values, key=lambda value: (len(value), value))
            raise _refused(files, f"they {what} {' and '.join(shown)}", "Keep the files of one set, all of them.")
    numbers, total = [int(match["number"]) for match in numbered], int(numbered[0]["total"])
    if twice := sorted({number for number in numbers if numbers.count(number) > 1}):
        both = [file for file, number in zip(files, numbers, strict=True) if number == twice[0]]
        raise _refused(files, f"number {twice[0]} is there {len(both)} times ({_names(both)})", "Keep one set of them.")
    first = 1 if set(numbers) == set(range(1, total + 1)) else 0
    if missing := sorted(set(range(first, total + first)) - set(numbers)):
        shown = ", ".join(map(str, missing[:_SHOWN])) + (" ..." if len(missing) > _SHOWN else "")
        raise _refused(
            files,
            f"their names promise {total} shards, numbered from 0; {len(missing)} are missing: {shown}",
            "Complete the download.",
        )
    if len(numbers) > total:
        raise _refused(files, f"their names promise {total} shards", "Keep one set of them.")
    return tuple(files)


def _ending(text: str) -> str:
    return "a hash" if _HASH.fullmatch(text) else f"'{text}'" if text else "the number"


def _complete_without_total(files: list[Path], prefix: str) -> tuple[Path, ...]:
    """As :func:`_complete`, of names that do not say how many there are: numbers without a gap, or a single file."""
    counted = [match for file in files if (match := _COUNTED.fullmatch(file.name))]
    numbers = sorted(int(match["number"]) for match in counted)
    if len(files) == 1:
        stems = [match["stem"] for match in counted]
        if not stems or numbers == [0] or not (stems[0] == prefix or _BEFORE_A_NUMBER.fullmatch(stems[0])):
            return tuple(files)
        raise _refused(
            files,
            f"it is number {numbers[0]}, and there is no other",
            f"Complete the download; if it is all, call it {prefix}-00000-of-00001.parquet.",
        )
    is_one_set = len(counted) == len(files) and len({(match["stem"], match["ending"]) for match in counted}) == 1
    if is_one_set and numbers[0] in (0, 1) and numbers == list(range(numbers[0], numbers[0] + len(numbers))):
        return tuple(files)
    raise _refused(
        files,
        f"numbers {', '.join(map(str, numbers[:_SHOWN]))} do not run from 0 or 1 without a gap"
        if is_one_set
        else "their names do not say that they belong together",
        f"Complete the download, or move what does not belong elsewhere; if they are all, name them "
        f"{prefix}-00000-of-{len(files):05d}.parquet and so on.",
    )


def _refuse_odd(path: Path, place: Path, prefix: str) -> None:
    """Raises DataError for what is called a file of the split, but is not read as one."""
    what, mend = None, f"Let it be a file {prefix}-NUMBER{_SUFFIX} beside the others, or move it elsewhere."
    if path.is_symlink() and not path.exists():
        what = f"a link to {path.readlink()}, where nothing is"
    elif path.is_dir():
        what = "a folder"
    elif not path.is_file():
        what = "neither a file nor a folder"
    elif path.parent != place:
        what = f"in a folder below {place}"
    elif not path.name.endswith(_SUFFIX):
        what = f"called {path.suffix}, not {_SUFFIX}"
    elif path.parent.name != prefix and not path.name.startswith(prefix):
        what = f"called {path.name[: len(prefix)]}, not {prefix}"
        if prefix != "train":
            mend = f"Use data.test_split={path.name[: len(prefix)]}, or call it {prefix}."
    if what is not None:
        raise DataError(
            f"{path} is named as a part of the {prefix} split, but is {what}",
            "It would be passed over, and its rows be missing",
            mend,
        )


def _refused(files: Sequence[Path], reason: str, mend: str) -> DataError:
    them, are = (f"the {len(files)} files", "are") if len(files) > 1 else ("the file", "is")
    return DataError(
        f"{them} {_names(files)} in {files[0].parent} {are} not one complete set: {reason}",
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
    found = [*_shown(folder), *_shown(folder / "data")]
    return DataError(
        f"there is no {wanted} in {folder} or its subfolder data",
        f"The {split} split is read from such files; found: {_names(sorted(found, key=str)) or 'nothing'}",
        _mend(folder, split, prefixes),
    )


def _mend(folder: Path, split: str, prefixes: Sequence[str]) -> str:
    places = [folder.parent, *_places(folder, _DEPTH)]
    for place in places:
        if any(_sets_at(place, prefix) for prefix in prefixes) and _sets_at(place, "train"):
            return f"Use data.path={place}."
    if split != "train" and (others := _splits_at([folder, folder / "data", *_subfolders(folder)])):
        return f"Use data.test_split={others[0]}, or give the data set a split to test on."
    if split != "train" and any(_sets_at(place, "train") for place in [folder, folder / "data", *_subfolders(folder)]):
        return f"Put a part of the training split into a file of its own, {prefixes[0]}.parquet."
    if any(map(_is_called_parquet, (path for place in _places(folder, _DEPTH) for path in _shown(place)))):
        return "Put the files of each split into one folder, with all columns in them, and name them so."
    for root in (folder, folder.parent):
        if _subfolders(root / "train"):
            return f"Run `isograd prepare image_folder --root {root} --output FOLDER`, and use data.path=FOLDER."
    return (
        "Name the files so; of image files make them by `isograd prepare image_folder --root ROOT --output FOLDER`, "
        "where ROOT has folders train and test with a folder a class in each."
    )


def splits_beside(file: Path) -> list[str]:
    """Returns the names of the splits that lie beside a file of one, other than that and the training split."""
    return [name for name in _splits_at([file.parent]) if name != _split_of(file.name)]


def _places(folder: Path, depth: int) -> list[Path]:
    inner = _subfolders(folder) if depth else []
    return [*inner, *(place for path in inner for place in _places(path, depth - 1))]


def _splits_at(places: Sequence[Path]) -> list[str]:
    """Returns what could be the names of other splits than the training split."""
    names = [path.name for place in places for path in _shown(place) if path.name.endswith(_SUFFIX)]
    return [name for name in dict.fromkeys(map(_split_of, names)) if name not in ("train", "")]


def _split_of(name: str) -> str:
    """Returns the name of the split that a file is named after."""
    return re.split(r"[-.]", name)[0]
