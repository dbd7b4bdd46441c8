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

from isograd.data.access import reading
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
    with reading(folder):
        return _find(folder, split)


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
    places = dict.fromkeys([place, (place / "data").resolve()])
    for name in PREFIXES["validation"]:
        if sets := [files for there in places for files in _find_sets(there, name)]:
            files = _check_complete(sets, name)
            if not any(file.samefile(other) for file in files for other in tested):
                return name, Shards(place, files)
    return None


def refuse_twice(files: Sequence[Path], mend: str = "Put there what the file is named after, or remove it.") -> None:
    """Raises DataError where two files are one, by a link or because a folder was named twice."""
    seen: dict[tuple[int, int], Path] = {}
    for file in files:
        status = file.stat()
        identity = status.st_dev, status.st_ino
        if (other := seen.get(identity)) is not None:
            raise DataError(
                f"{file} would be read twice: it is {other}",
                "Tests on images that were trained on say nothing of others, and rows of one split would occur twice",
                mend,
            )
        seen[identity] = file


def _find(folder: Path, split: str) -> Shards:
    if not folder.is_dir():
        raise _no_folder(folder, split)
    prefixes = PREFIXES.get(split, (split,))
    data = (folder / "data").resolve()  # it may be a link to the folder itself
    for prefix in prefixes:
        found = [files for place in dict.fromkeys([folder, data]) for files in _find_sets(place, prefix)]
        if found:
            _refuse_several([folder, data], split, prefix)
            return Shards(folder, _check_complete(found, prefix))
    for prefix in prefixes:
        places = {place: found for place in _list_subfolders(folder) if (found := _find_sets(place, prefix))}
        if len(places) > 1:
            raise DataError(
                f"{len(places)} folders of {folder} have a split {prefix}: {_join_names([*places])}",
                "Each is a data set, or a configuration of one, of its own",
                f"Use data.path={next(iter(places))}, or another one of them.",
            )
        for place, found in places.items():
            _refuse_several([place], split, prefix)
            return Shards(place, _check_complete(found, prefix))
    raise _no_split(folder, split, prefixes)


def _refuse_several(places: Sequence[Path], split: str, found: str) -> None:
    """Raises DataError where a split is not there by its name, but by several others that it may have."""
    there = [name for name in PREFIXES.get(split, ()) if any(_find_sets(place, name) for place in places)]
    if split != found and len(there) > 1:
        raise DataError(
            f"{places[0]} has no split {split}, but {len(there)} that may be meant: {', '.join(there)}",
            "One of them would be read, and the others passed over",
            f"Use data.test_split={found}, or another one of them.",
        )


def _list(folder: Path) -> list[Path]:
    """Returns what is in a folder, sorted; nothing where there is none. Raises OSError where it cannot be read."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _list_subfolders(folder: Path) -> list[Path]:
    """Returns the folders in a folder that may be looked into: of others, as lost+found, nobody asked."""
    return [path for path in _list(folder) if path.is_dir() and os.access(path, os.R_OK | os.X_OK)]


def _find_sets(place: Path, prefix: str) -> list[list[Path]]:
    """Returns what is called a file of the split: in a place, and in its folder of that name."""
    name = re.compile(rf"{re.escape(prefix)}(?![^\W\d_]).*", re.IGNORECASE)  # no letter follows
    beside = [path for path in _list(place) if _is_called_parquet(path) and name.fullmatch(path.name)]
    within = place / prefix
    inside = list(_walk(within, _DEPTH)) if any(map(_is_called_parquet, _list(within))) else []
    inside.sort(key=lambda path: len(path.parts))  # what lies in the folder itself comes first
    return [files for files in (beside, inside) if files]


def _walk(folder: Path, depth: int) -> Iterator[Path]:
    for path in _list(folder):
        if _is_called_parquet(path):
            yield path
        elif depth and path.is_dir():
            yield from _walk(path, depth - 1)


def _is_called_parquet(path: Path) -> bool:
    """Whether an entry has the suffix, in any form; what is kept beside a file (``.md5``, ``.bak``) only without it."""
    stem, suffix, rest = path.name.lower().rpartition(_SUFFIX)
    return bool(suffix) and not (rest and path.with_name(path.name[: len(stem + suffix)]).exists())


def _check_complete(sets: list[list[Path]], prefix: str) -> tuple[Path, ...]:
    """Returns the files where they are one set, each part of it once. Raises DataError where not, or where unclear."""
    if len(sets) > 1:
        places = [files[0].parent for files in sets]
        raise DataError(
            f"the {prefix} split is there {len(sets)} times: "
            + ", and ".join(f"{_join_names(files)} in {place}" for files, place in zip(sets, places, strict=True)),
            "One of them would be read, and the others passed over",
            "Move what is not meant into another folder"
            + (f", or use data.path={places[-1]}." if places[-1].name == "data" else "."),
        )
    files = sets[0]
    for file in files:
        _refuse_odd(file, files[0].parent, prefix)
    is_numbered = any(_NUMBERED.fullmatch(file.name) for file in files)
    if flaw := _flaw_of_numbered(files) if is_numbered else _flaw_of_counted(files, prefix):
        them, are = (f"the {len(files)} files", "are") if len(files) > 1 else ("the file", "is")
        reason, mend = flaw
        raise DataError(
            f"{them} {_join_names(files)} in {files[0].parent} {are} not one complete set: {reason}",
            "Rows would be missing, or occur twice",
            mend,
        )
    return tuple(files)


def _flaw_of_numbered(files: list[Path]) -> tuple[str, str] | None:
    """Returns why files are not one set, and what mends it, of names that say how many there are; None: they are."""
    matches = [(file, match) for file in files if (match := _NUMBERED.fullmatch(file.name))]
    if odd := [file for file in files if not _NUMBERED.fullmatch(file.name)]:
        reason = f"{len(matches)} are numbered -of-, {len(odd)} are not ({_join_names(odd)})"
        return reason, "Move what does not belong to the set into another folder."
    for what, values in (
        ("begin with", {match["stem"] for _, match in matches}),
        ("promise", {f"{int(match['total'])}" for _, match in matches}),
        ("end with", {_name_ending(match["ending"]) for _, match in matches}),
    ):
        if len(values) > 1:
            shown = sorted(values, key=lambda value: (len(value), value))
            return f"they {what} {' and '.join(shown)}", "Keep the files of one set, all of them."
    numbers, total = [int(match["number"]) for _, match in matches], int(matches[0][1]["total"])
    if twice := sorted({number for number in numbers if numbers.count(number) > 1}):
        both = [file for file, match in matches if int(match["number"]) == twice[0]]
        return f"number {twice[0]} is there {len(both)} times ({_join_names(both)})", "Keep one set of them."
    first = 1 if set(numbers) == set(range(1, total + 1)) else 0
    if missing := sorted(set(range(first, total + first)) - set(numbers)):
        shown = ", ".join(map(str, missing[:_SHOWN])) + (" ..." if len(missing) > _SHOWN else "")
        reason = f"their names promise {total} shards, numbered from 0; {len(missing)} are missing: {shown}"
        return reason, "Complete the download."
    return (f"their names promise {total} shards", "Keep one set of them.") if len(numbers) > total else None


def _name_ending(text: str) -> str:
    return "a hash" if _HASH.fullmatch(text) else f"'{text}'" if text else "the number"


def _flaw_of_counted(files: list[Path], prefix: str) -> tuple[str, str] | None:
    """As above, of names that do not say how many there are: numbers without a gap, or a single file."""
    counted = [match for file in files if (match := _COUNTED.fullmatch(file.name))]
    numbers = sorted(int(match["number"]) for match in counted)
    if len(files) == 1:
        stem = counted[0]["stem"] if counted else None
        if stem is None or numbers == [0] or not (stem == prefix or _BEFORE_A_NUMBER.fullmatch(stem)):
            return None
        reason = f"it is number {numbers[0]}, and there is no other"
        return reason, f"Complete the download; if it is all, call it {prefix}-00000-of-00001.parquet."
    is_one_set = len(counted) == len(files) and len({(match["stem"], match["ending"]) for match in counted}) == 1
    if is_one_set and numbers[0] in (0, 1) and numbers == list(range(numbers[0], numbers[0] + len(numbers))):
        return None
    reason = "their names do not say that they belong together"
    if is_one_set:
        reason = f"numbers {', '.join(map(str, numbers[:_SHOWN]))} do not run from 0 or 1 without a gap"
    return reason, (
        "Complete the download, or move what does not belong elsewhere; if they are all, name them "
        f"{prefix}-00000-of-{len(files):05d}.parquet and so on."
    )


def _refuse_odd(path: Path, place: Path, prefix: str) -> None:
    """Raises DataError for what is called a file of the split, but is not read as one."""
    what, mend = "", f"Let it be a file {prefix}-NUMBER{_SUFFIX} beside the others, or move it elsewhere."
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
    if what:
        raise DataError(
            f"{path} is named as a part of the {prefix} split, but is {what}",
            "It would be passed over, and its rows be missing",
            mend,
        )


def _join_names(paths: Sequence[Path]) -> str:
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
    found = [*_list(folder), *_list(folder / "data")]
    return DataError(
        f"there is no {wanted} in {folder} or its subfolder data",
        f"The {split} split is read from such files; found: {_join_names(sorted(found, key=str)) or 'nothing'}",
        _mend(folder, split, prefixes),
    )


def _mend(folder: Path, split: str, prefixes: Sequence[str]) -> str:
    places = [folder.parent, *_list_places(folder, _DEPTH)]
    for place in places:
        if any(_find_sets(place, prefix) for prefix in prefixes) and _find_sets(place, "train"):
            return f"Use data.path={place}."
    near = [folder, folder / "data", *_list_subfolders(folder)]
    if split != "train" and (others := _split_names(near)):
        return f"Use data.test_split={others[0]}, or give the data set a split to test on."
    if split != "train" and any(_find_sets(place, "train") for place in near):
        return f"Put a part of the training split into a file of its own, {prefixes[0]}.parquet."
    if any(map(_is_called_parquet, (path for place in _list_places(folder, _DEPTH) for path in _list(place)))):
        return "Put the files of each split into one folder, with all columns in them, and name them so."
    for root in (folder, folder.parent):
        if _list_subfolders(root / "train"):
            return f"Run `isograd prepare image_folder --root {root} --output FOLDER`, and use data.path=FOLDER."
    return (
        "Name the files so; of image files make them by `isograd prepare image_folder --root ROOT --output FOLDER`, "
        "where ROOT has folders train and test with a folder a class in each."
    )


def splits_beside(file: Path) -> list[str]:
    """Returns the names of the splits that lie beside a file of one, other than that and the training split."""
    return [name for name in _split_names([file.parent]) if name != _split_of(file.name)]


def _list_places(folder: Path, depth: int) -> list[Path]:
    inner = _list_subfolders(folder) if depth else []
    return [*inner, *(place for path in inner for place in _list_places(path, depth - 1))]


def _split_names(places: Sequence[Path]) -> list[str]:
    """Returns what could be the names of other splits than the training split."""
    names = [path.name for place in places for path in _list(place) if path.name.endswith(_SUFFIX)]
    return [name for name in dict.fromkeys(map(_split_of, names)) if name not in ("train", "")]


def _split_of(name: str) -> str:
    """Returns the name of the split that a file is named after."""
    return re.split(r"[-.]", name)[0]
