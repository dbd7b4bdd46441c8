"""A folder of image files, with one folder a class, as torchvision's ImageFolder reads it; but nothing unseen.

What is no image is named, and hidden files are neither images nor classes (:mod:`isograd.data.folders`). Links are
followed, but a folder is one class's, and once.
"""

import os
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from isograd.data.folders import is_hidden, is_image, list_folder
from isograd.errors import DataError

_SHOWN = 5


@dataclass(frozen=True)
class FileImages:
    """Images that lie in files; their bytes are kept.

    Attributes:
        folder: Of the split.
        paths: Of each image, below ``folder``, in the order of ImageFolder.
        labels: (N,) int64, the class of each.
        classes: Names of the classes, sorted.
        left_out: Files that are no images, below ``folder``.
    """

    folder: Path
    paths: list[str]
    labels: np.ndarray
    classes: list[str]
    left_out: tuple[str, ...] = ()

    def encoded(self, row: int) -> tuple[bytes, str | None]:
        """Returns the bytes of an image, and its path, in which bytes that are no UTF-8 are replaced."""
        path, stored = self.folder / self.paths[row], self.paths[row]
        if not path.is_file():
            raise DataError(f"{path} is no file", "A pipe's bytes may never end", "Replace it by an image.")
        return path.read_bytes(), stored.encode("utf-8", "surrogateescape").decode("utf-8", "replace")

    def identity(self) -> bytes:
        """Returns all paths, not the contents: a corrupt file may be replaced without starting anew."""
        return "\n".join(self.paths).encode("utf-8", "surrogateescape")

    def stamp(self) -> bytes:
        """Returns what changes with the images, and where they are copied: sizes and times of all files."""
        statuses = (os.stat(self.folder / path) for path in self.paths)
        return b"".join(b"%d %d\n" % (status.st_size, status.st_mtime_ns) for status in statuses)

    def folders(self) -> set[str]:
        """Returns the folders that hold images, by their paths without links."""
        return {os.path.realpath(self.folder / place) for place in {os.path.dirname(path) for path in self.paths}}


def list_images(root: Path, names: Sequence[str]) -> FileImages:
    """Lists the images of a split.

    Args:
        root: Has a folder for each split.
        names: Of the split's folder: its own one, and those of others that may stand for it, of which only one may be
            there with class folders.

    Raises:
        DataError: The split or its class folders are not there, or there twice, a class has no image, an image is in no
            class, or Pillow cannot open it; a folder is there twice, by a link, or cannot be read, or something is
            neither a folder nor a file.
    """
    folder = _find_folder(root, names)
    places, beside = list_folder(folder)
    places.sort(key=_class_name)
    _refuse_one_name(places)
    if astray := [path.name for path in beside if is_image(path)]:
        raise DataError(
            f"{len(astray)} images lie in {folder} itself, in no class folder: {_join(astray)}",
            "An image's class is the folder that it lies in",
            "Move them into the folders of their classes, or elsewhere.",
        )
    if not places:
        raise DataError(
            f"{folder} has no class folders", "An image's class is the folder that it lies in", "Make one a class."
        )
    paths: list[str] = []
    labels: list[int] = []
    left_out = [path.name for path in beside]
    seen = {folder.resolve(): folder}
    for label, place in enumerate(places):
        for path in (path for _, files in sorted(_walk(place, seen)) for path in files):
            (paths if is_image(path) else left_out).append(path.relative_to(folder).as_posix())
        if len(paths) == len(labels):
            raise DataError(
                f"the class folder {place} has no image",
                "Classes are numbered in the order of their folders, and each needs images",
                "Remove the folder, or put the images of its class there.",
            )
        labels += [label] * (len(paths) - len(labels))
    return FileImages(
        folder, paths, np.array(labels, np.int64), [_class_name(place) for place in places], tuple(left_out)
    )


def folders_beside(folders: Sequence[Path], output: Path) -> list[str]:
    """Returns the names of the folders that lie beside those of splits, sorted, as far as they may be listed.

    Args:
        folders: Of the splits.
        output: May lie there as well, and is none of them; nor are hidden ones.
    """
    read = {folder.resolve() for folder in (*folders, output)}
    found = []
    for root in {folder.parent for folder in folders}:
        with suppress(PermissionError):
            found += [path for path in root.iterdir() if not is_hidden(path.name)]
    return sorted(path.name for path in found if os.path.isdir(path) and path.resolve() not in read)


def _find_folder(root: Path, names: Sequence[str]) -> Path:
    """Returns the folder of a split: the one with class folders, as ImageNet's ``test`` has none."""
    there: dict[Path, Path] = {}
    for folder in (root / name for name in names):
        if folder.is_dir():
            there.setdefault(folder.resolve(), folder)  # a link gives one folder two names
    if not there:
        raise _no_folder(root, names)
    with_classes = [folder for folder in there.values() if list_folder(folder)[0]]
    if len(with_classes) > 1 and with_classes[0].name != names[0]:
        first, *others = with_classes
        raise DataError(
            f"{root} has {len(with_classes)} folders to test on: {', '.join(folder.name for folder in with_classes)}",
            "One of them would be read, and the others passed over",
            f"To test on {first.name}, rename {' and '.join(map(str, others))}, say to unused_{others[0].name}; "
            "or the other way round.",
        )
    return next(iter(with_classes or there.values()))


def _no_folder(root: Path, names: Sequence[str]) -> DataError:
    """Says which folders are wanted, and where those lie that may be meant."""
    there = sorted(path.name for path in root.iterdir() if not is_hidden(path.name))
    mend = f"Arrange the images so: {root / names[0]}/CLASS/IMAGE.png, and likewise for the other split."
    alike = [name for name in there if name.lower().startswith((*names, names[0][:4])) and (root / name).is_dir()]
    inner = [name for name in there if (root / name / names[0]).is_dir()]
    if alike:
        mend = f"Rename {root / alike[0]} to {names[0]}."
    elif inner:
        mend = f"Use --root {root / inner[0]}."
    elif (root.parent / names[0]).is_dir():
        mend = f"Use --root {root.parent}."
    return DataError(
        f"there is no folder {' or '.join(names)} in {root}; found: {_join(there) or 'nothing'}",
        "A folder of images has a folder for each split, train and test (or val, validation), with one a class in each",
        mend,
    )


def _class_name(path: Path) -> str:
    """Returns the name of a class, whose accents file systems write in two ways: é as one character, or as two.

    Raises:
        DataError: It has bytes that are no UTF-8.
    """
    if any(unicodedata.category(letter) == "Cs" for letter in path.name):
        raise DataError(
            f"the name of the class folder {str(path)!r} holds bytes that are no UTF-8",
            "Names of classes are kept in JSON, which is",
            "Rename it (`convmv` does).",
        )
    return unicodedata.normalize("NFC", path.name)


def _refuse_one_name(classes: Sequence[Path]) -> None:
    """Raises DataError where two folders of classes have names that read the same."""
    for one, other in pairwise(classes):
        if _class_name(one) == _class_name(other):
            raise DataError(
                f"two class folders of {one.parent} are called {_class_name(one)}: {one.name!a} and {other.name!a}",
                "Accents are written as one character in one of them, and as two in the other; they are one class",
                "Move the images of one of them into the other.",
            )


def _walk(folder: Path, seen: dict[Path, Path]) -> Iterator[tuple[str, list[Path]]]:
    """Yields a folder and all below it, each with its files.

    Args:
        folder: Of a class.
        seen: Where each folder of the split was found, by its path without links; those of this class are added.

    Raises:
        DataError: One of them was seen before: links lead there twice.
    """
    real = folder.resolve()
    if real in seen:
        raise DataError(
            f"{folder} leads to {seen[real]}, which is read already",
            "Its images would occur twice, as of two classes or of one",
            "Remove the link.",
        )
    seen[real] = folder
    folders, files = list_folder(folder)
    yield str(folder), files
    for path in folders:
        yield from _walk(path, seen)


def _join(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (" ..." if len(names) > _SHOWN else "")
