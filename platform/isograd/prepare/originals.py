"""The data sets that `isograd prepare` turns into Parquet: one row each, and their images as they come.

A row opens a data set of torchvision, or lists a folder of image files; what comes out is checked, and says which bytes
an image has and which label.
"""

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from isograd.data.access import reading
from isograd.errors import DataError
from isograd.prepare.image_folder import FileImages, list_images
from isograd.registry import Registry


@dataclass(frozen=True)
class PreparedSource:
    """A data set that can be prepared: one row.

    Attributes:
        open: (root, split, download) -> images in files, or a data set of torchvision, or an object with the same
            attributes: ``data``, uint8 (N, H, W), (N, H, W, 3) or (N, 3, H, W), with ``targets`` or ``labels``; and
            ``classes``, unless the row has them.
        splits: The splits, as they are called in the names of the shards.
        classes: Names of the classes; empty: the data set's own.
        downloads: Whether ``open`` can fetch it.
        by_hand: What a user does where it cannot.
    """

    open: Callable[[Path, str, bool], Any]
    splits: tuple[str, ...] = ("train", "test")
    classes: tuple[str, ...] = ()
    downloads: bool = True
    by_hand: str = "Fetch the original yourself, and set --root to its folder."


SOURCES: Registry[PreparedSource] = Registry("source")
_OTHER_NAMES = {"imagefolder": "image_folder"}  # as torchvision and the hub write it


def source_name(name: str) -> str:
    """Returns the name of a row as it is registered."""
    return _OTHER_NAMES.get(name.lower(), name)


@dataclass(frozen=True)
class ArrayImages:
    """Images held as an array: ``pixels`` (N, H, W) or (N, H, W, 3) uint8. Encoded as PNG, which loses nothing."""

    pixels: np.ndarray
    labels: np.ndarray
    classes: list[str]
    left_out: tuple[str, ...] = ()

    def encoded(self, row: int) -> tuple[bytes, str | None]:
        """Returns the bytes of an image, and its path, if it has one."""
        buffer = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(self.pixels[row])).save(buffer, "PNG")
        return buffer.getvalue(), None

    def identity(self) -> bytes:
        """Returns what tells this split from others, on every machine: a hash of all pixels."""
        return hashlib.blake2b(np.ascontiguousarray(self.pixels).data).digest()

    def stamp(self) -> bytes:
        """Returns what changes with the images: nothing, for :meth:`identity` does."""
        return b""

    def folders(self) -> set[str]:
        """Returns the folders that hold images: none."""
        return set()


def as_images(dataset: Any, classes: Sequence[str] = ()) -> ArrayImages | FileImages:
    """Returns the images of a data set of torchvision; see :class:`PreparedSource` for what it must have."""
    names = [name if isinstance(name, str) else ", ".join(name) for name in classes or dataset.classes]
    names = [f"{name} ({y})" if names.count(name) > 1 else name for y, name in enumerate(names)]  # two cranes
    if isinstance(dataset, FileImages):
        return replace(dataset, classes=names)
    pixels = np.asarray(dataset.data)
    if pixels.shape[1] == 3:
        pixels = pixels.transpose(0, 2, 3, 1)  # (N, H, W, 3)
    labels = dataset.targets if hasattr(dataset, "targets") else dataset.labels
    return ArrayImages(pixels, np.array(labels, np.int64), names)


def open_original(name: str, root: Path, download: bool) -> dict[str, ArrayImages | FileImages]:
    """Returns the images of all splits of a data set, checked.

    Args:
        name: Of a row of :data:`SOURCES`.
        root: Folder of the original.
        download: Whether to fetch it there.

    Raises:
        DataError: It is not there, cannot be read, or its labels and classes do not fit.
    """
    source = SOURCES.get(name)
    if download and not source.downloads:
        raise DataError(f"{name} cannot be downloaded", "Nobody offers it without an account", source.by_hand)
    mend = "Use --download (download=True in Python)." if source.downloads and not download else source.by_hand
    with reading(root):
        if not download and not root.is_dir():
            raise DataError(f"there is no folder {root}", f"The original of {name} is read from it", mend)
    splits: dict[str, ArrayImages | FileImages] = {}
    for split in source.splits:
        try:
            with reading(root):
                splits[split] = as_images(source.open(root, split, download), source.classes)
        except DataError:
            raise
        except Exception as error:  # torchvision lets through whatever its many parsers raise
            raise DataError(
                f"cannot open the {split} split of {name} in {root} ({error})",
                "It is not there, or not as torchvision expects it",
                mend,
            ) from error
        _check(name, split, splits)
    return splits


def _check(name: str, split: str, splits: dict[str, ArrayImages | FileImages]) -> None:
    images, classes = splits[split], splits["train"].classes
    if images.classes != classes:
        differing = sorted(set(images.classes) ^ set(classes))
        raise DataError(
            f"the splits of {name} differ in {len(differing)} classes: {', '.join(differing[:5])}"
            if differing
            else f"the splits of {name} have the same classes in another order",
            "Classes are numbered in the order of their names; one number would mean two classes",
            f"Let the {split} split have the same {len(classes)} class folders as train.",
        )
    if split != "train" and (shared := sorted(images.folders() & splits["train"].folders())):
        raise DataError(
            f"the splits train and {split} of {name} share {len(shared)} folders: {', '.join(shared[:5])}",
            "Tests on images that were trained on say nothing of others",
            "Remove the links between them, and put other images there.",
        )
    wrong = np.flatnonzero((images.labels < 0) | (images.labels >= len(classes)))
    if wrong.size or not len(images.labels):
        what = f"image {wrong[0]} has label {images.labels[wrong[0]]}" if wrong.size else "it has 0 images"
        raise DataError(
            f"the {split} split of {name} is not usable: {what}",
            f"Every image needs one of the labels 0 to {len(classes) - 1}",
            "Fetch the original again.",
        )
    if split == "train" and (images.labels == images.labels[0]).all():
        raise DataError(
            f"all {len(images.labels):,} images of the train split of {name} have one class, "
            f"'{classes[images.labels[0]]}'",
            "Of a single class there is nothing to tell apart: the loss falls to 0, and means nothing",
            "Use an original of two classes or more.",
        )


def _image_folder(root: Path, split: str, download: bool) -> Any:
    return list_images(root, ("train",) if split == "train" else ("test", "val", "validation", "valid"))


def _imagenet(root: Path, split: str, download: bool) -> Any:
    """Lists the files itself, as torchvision passes over folders that it cannot read, and follows links in circles."""
    from torchvision.datasets import ImageNet  # takes seconds

    class Unlisted(ImageNet):
        """Has the names of the classes, after unpacking what is still packed; of the images, none."""

        @staticmethod
        def make_dataset(*args: Any, **options: Any) -> list[tuple[str, int]]:
            return []

    dataset = Unlisted(str(root), split={"train": "train", "validation": "val"}[split])
    return replace(list_images(root, [dataset.split]), classes=dataset.classes)


def _add_row(name: str, kind: str, arguments: Callable[[str], dict[str, Any]], **options: Any) -> None:
    """Adds a class of torchvision; ``arguments`` are what it wants to hear for a split."""

    def open_split(root: Path, split: str, download: bool) -> Any:
        from torchvision import datasets  # takes seconds

        return getattr(datasets, kind)(root, **arguments(split), **({"download": True} if download else {}))

    SOURCES.add(name, PreparedSource(open_split, **options))


_add_row("cifar10", "CIFAR10", lambda split: {"train": split == "train"})
_add_row("cifar100", "CIFAR100", lambda split: {"train": split == "train"})
_add_row("svhn", "SVHN", lambda split: {"split": split}, classes=tuple("0123456789"))
_add_row("stl10", "STL10", lambda split: {"split": split})
SOURCES.add("imagenet", PreparedSource(_imagenet, splits=("train", "validation"), downloads=False))
_OWN = "Set --root to the folder that has train and test (or val, validation), with a folder a class in each."
SOURCES.add("image_folder", PreparedSource(_image_folder, downloads=False, by_hand=_OWN))
