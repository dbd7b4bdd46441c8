"""A folder of image files, with one folder a class, as torchvision's ImageFolder reads it; but nothing unseen.

ImageFolder takes ten suffixes, and passes over all other files. Here a file is an image if Pillow can open such files;
an image that it cannot open is refused, what is no image is named, and hidden files (``.DS_Store``, ``._cat.jpg``) and
those of file managers are neither images nor classes. Links are followed, but a folder is one class's, and once.
"""

import errno
import mimetypes
import os
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

from PIL import Image

from isograd.data.access import not_allowed
from isograd.data.decoding import has_pixels
from isograd.errors import DataError

_OF_FILE_MANAGERS = frozenset(["thumbs.db", "desktop.ini", "__macosx", "@eadir"])
# Formats of images that Pillow does not open by itself, or not in every build.
_OF_CAMERAS = frozenset([".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf"])
_DRAWINGS = frozenset([".svg", ".svgz", ".eps", ".ps", ".wmf", ".emf"])
_CLOSED = _OF_CAMERAS | _DRAWINGS | {".heic", ".heif", ".hif", ".avif", ".avifs", ".jxl", ".exr", ".hdr", ".dcm"}
_COPIES = ("~", ".bak", ".orig", ".old", ".tmp", ".part", ".crdownload")  # of an image that is there already
_SHOWN = 5


@dataclass(frozen=True)
class FolderImages:
    """The images of a split, as ImageFolder has them.

    Attributes:
        root: Folder of the split.
        samples: Path and class of each image, sorted.
        classes: Names of the classes, sorted.
        left_out: Files that are no images, relative to ``root``.
    """

    root: Path
    samples: list[tuple[str, int]]
    classes: list[str]
    left_out: list[str]


def is_hidden(name: str) -> bool:
    """Whether a file or folder is none of the user's: hidden, or made by a file manager."""
    return name.startswith(".") or name.lower() in _OF_FILE_MANAGERS


def list_images(root: Path, names: Sequence[str]) -> FolderImages:
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
    folder = _chosen(root, names)
    folders, files = _listed(folder)
    classes = sorted(folders, key=_name)
    _refuse_one_name(classes)
    beside = {path: _is_image(path) for path in files}
    if astray := [path.name for path, is_image in beside.items() if is_image]:
        raise DataError(
            f"{len(astray)} images lie in {folder} itself, in no class folder: {_some(astray)}",
            "An image's class is the folder that it lies in",
            "Move them into the folders of their classes, or elsewhere.",
        )
    if not classes:
        raise DataError(
            f"{folder} has no class folders", "An image's class is the folder that it lies in", "Make one a class."
        )
    samples: list[tuple[str, int]] = []
    left_out = [path.name for path in beside]
    seen = {folder.resolve(): folder}
    for number, place in enumerate(classes):
        found = {path: _is_image(path) for path in _files(place, seen)}
        samples += [(str(path), number) for path, is_image in found.items() if is_image]
        left_out += [path.relative_to(folder).as_posix() for path, is_image in found.items() if not is_image]
        if not any(found.values()):
            raise DataError(
                f"the class folder {place} has no image",
                "Classes are numbered in the order of their folders, and each needs images",
                "Remove the folder, or put the images of its class there.",
            )
    return FolderImages(folder, samples, [_name(path) for path in classes], left_out)


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


def _chosen(root: Path, names: Sequence[str]) -> Path:
    """Returns the folder of a split: the one with class folders, as ImageNet's ``test`` has none."""
    there: dict[Path, Path] = {}
    for folder in (root / name for name in names):
        if folder.is_dir():
            there.setdefault(folder.resolve(), folder)  # a link gives one folder two names
    if not there:
        raise _no_folder(root, names)
    with_classes = [folder for folder in there.values() if _listed(folder)[0]]
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
        f"there is no folder {' or '.join(names)} in {root}; found: {_some(there) or 'nothing'}",
        "A folder of images has a folder for each split, train and test (or val, validation), with one a class in each",
        mend,
    )


def _name(path: Path) -> str:
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
        if _name(one) == _name(other):
            raise DataError(
                f"two class folders of {one.parent} are called {_name(one)}: {one.name!a} and {other.name!a}",
                "Accents are written as one character in one of them, and as two in the other; they are one class",
                "Move the images of one of them into the other.",
            )


def _listed(folder: Path) -> tuple[list[Path], list[Path]]:
    """Returns the subfolders and the files of a folder that are not hidden, each sorted by name.

    Raises:
        DataError: It cannot be read, or something in it is neither.
    """
    try:
        with os.scandir(folder) as entries:
            shown = sorted((entry for entry in entries if not is_hidden(entry.name)), key=lambda entry: entry.name)
    except PermissionError as error:
        raise not_allowed(folder, error) from error
    found: dict[str, list[Path]] = {"folder": [], "file": []}
    for entry in shown:
        kind = _kind(entry)
        if kind is None:
            link = entry.is_symlink()
            raise DataError(
                f"{entry.path} is a link to {os.readlink(entry)}, where nothing is"
                if link
                else f"{entry.path} is neither a folder nor a file",
                "What it stands for would be missing" if link else "It may be a pipe, whose bytes never end",
                "Remove it, or put there what is meant.",
            )
        found[kind].append(Path(entry.path))
    return found["folder"], found["file"]


def _kind(entry: os.DirEntry[str]) -> str | None:
    """Returns what an entry is, or leads to; None where it is no folder or file, or leads to nothing."""
    try:
        return "folder" if entry.is_dir() else "file" if entry.is_file() else None
    except OSError as error:
        if error.errno == errno.ELOOP:  # a link to itself
            return None
        raise


def _files(folder: Path, seen: dict[Path, Path]) -> Iterator[Path]:
    """Yields the files of a class, in the order of ImageFolder.

    Args:
        folder: Of the class.
        seen: Where each folder of the split was found, by its path without links; those of this class are added.
    """
    for _, files in sorted(_walk(folder, seen)):
        yield from files


def _walk(folder: Path, seen: dict[Path, Path]) -> Iterator[tuple[str, list[Path]]]:
    """Yields a folder and all below it, each with its files.

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
    folders, files = _listed(folder)
    yield str(folder), files
    for path in folders:
        yield from _walk(path, seen)


def _is_image(path: Path) -> bool:
    """Whether a file is an image, by its suffix or else its content. Raises DataError for one that cannot be opened."""
    suffix = path.suffix.lower()
    if suffix in _openable():
        return True
    if path.name.lower().endswith(_COPIES):
        return False
    try:
        with Image.open(path) as image:
            if image.format is not None and has_pixels(image.format):
                return True
    except PermissionError as error:
        raise not_allowed(path, error) from error
    except Exception:  # of whatever is no image, Pillow's many readers raise what they like
        pass
    guess = mimetypes.guess_type(path.name)[0] or ""
    if suffix not in _CLOSED and not guess.startswith("image/"):
        return False
    raise DataError(
        f"{path} is an image of a format that cannot be opened here ({suffix})",
        f"Pillow {Image.__version__} reads no pixels of it, and to leave it out would change the data set unseen",
        "Convert such files to PNG or JPEG, or move them elsewhere.",
    )


@lru_cache(maxsize=1)
def _openable() -> frozenset[str]:
    suffixes = Image.registered_extensions()
    return frozenset(suffix for suffix, kind in suffixes.items() if kind in Image.OPEN and has_pixels(kind))


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (" ..." if len(names) > _SHOWN else "")
