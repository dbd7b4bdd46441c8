"""What lies in a folder of image files: which of its files are images, and which entries are none of the user's.

ImageFolder of torchvision takes ten suffixes, and passes over all other files. Here a file is an image if Pillow can
open such files; an image that it cannot open is refused. Hidden files (``.DS_Store``, ``._cat.jpg``) and those of file
managers are passed over.
"""

import mimetypes
from functools import lru_cache
from pathlib import Path

from PIL import Image

from isograd.data.access import reading
from isograd.data.decoding import has_pixels
from isograd.errors import DataError

_OF_FILE_MANAGERS = frozenset(["thumbs.db", "desktop.ini", "__macosx", "@eadir"])
# Formats of images that Pillow does not open by itself, or not in every build.
_OF_CAMERAS = frozenset([".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf"])
_DRAWINGS = frozenset([".svg", ".svgz", ".eps", ".ps", ".wmf", ".emf"])
_CLOSED = _OF_CAMERAS | _DRAWINGS | {".heic", ".heif", ".hif", ".avif", ".avifs", ".jxl", ".exr", ".hdr", ".dcm"}
_COPIES = ("~", ".bak", ".orig", ".old", ".tmp", ".part", ".crdownload")  # of an image that is there already


def is_hidden(name: str) -> bool:
    """Whether a file or folder is none of the user's: hidden, or made by a file manager."""
    return name.startswith(".") or name.lower() in _OF_FILE_MANAGERS


def list_folder(folder: Path) -> tuple[list[Path], list[Path]]:
    """Returns the subfolders and the files of a folder that are not hidden, each sorted by name.

    Raises:
        DataError: It cannot be read, or something in it is neither.
    """
    with reading(folder):
        shown = sorted((path for path in folder.iterdir() if not is_hidden(path.name)), key=lambda path: path.name)
    folders = [path for path in shown if path.is_dir()]
    files = [path for path in shown if not path.is_dir()]
    for path in files:
        if not path.is_file():
            is_link = path.is_symlink()
            raise DataError(
                f"{path} is a link to {path.readlink()}, where nothing is"
                if is_link
                else f"{path} is neither a folder nor a file",
                "What it stands for would be missing" if is_link else "It may be a pipe, whose bytes never end",
                "Remove it, or put there what is meant.",
            )
    return folders, files


def is_image(path: Path) -> bool:
    """Whether a file is an image, by its suffix or else its content. Raises DataError for one that cannot be opened."""
    suffix = path.suffix.lower()
    if suffix in _list_suffixes():
        return True
    if path.name.lower().endswith(_COPIES):
        return False
    try:
        with reading(path), Image.open(path) as image:
            if image.format is not None and has_pixels(image.format):
                return True
    except DataError:
        raise
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
def _list_suffixes() -> frozenset[str]:
    suffixes = Image.registered_extensions()
    return frozenset(suffix for suffix, kind in suffixes.items() if kind in Image.OPEN and has_pixels(kind))
