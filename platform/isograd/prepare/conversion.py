"""Turns data sets into the Parquet layout that :mod:`isograd.data.parquet` reads.

The rows of a split are shuffled once, with a fixed seed, and written in shards. A shard appears under its name when it
is complete, and carries the fingerprint of the data set and the sums of its pixels; so an interrupted run goes on
where it stopped, and ends with the same bytes. ``dataset.json`` is written last. What was written before is compared
with its original, image by image, unless the sizes and times of all files say that none has changed.
"""

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from rich.console import Console
from rich.progress import Progress

from isograd.data.access import not_allowed, open_parquet, reading
from isograd.data.decoding import GREY_MODES, open_image, to_pixels, undecodable
from isograd.errors import ConfigError, DataError
from isograd.prepare.image_folder import FileImages, folders_beside
from isograd.prepare.originals import SOURCES, ArrayImages, open_original, source_name
from isograd.seeding import derive
from isograd.system.console import say
from isograd.system.files import write_atomically
from isograd.system.lock import held
from isograd.system.paths import user_path

ROWS_PER_GROUP = 1000
NUM_THREADS = 4
FOOTER = b"isograd"  # key of a shard's footer
SUMMARY = "dataset.json"
STAMP = ".original"  # not in the summary, whose bytes are the same for every copy of the original


def prepare(name: str, root: Path, output: Path, *, download: bool = False, rows_per_shard: int = 10_000) -> Path:
    """Writes the data set ``name`` as Parquet, or what is missing of it.

    Args:
        name: Of a row of :data:`SOURCES`.
        root: Folder of the original, as torchvision expects it; for ``image_folder`` it holds ``train`` and ``test``
            (or ``val``, ``validation``), each with one folder a class.
        output: Folder to write to.
        download: Whether to fetch the original into ``root`` where it is not there.
        rows_per_shard: Images a file, about.

    Returns:
        ``output``.

    Raises:
        UnknownNameError: There is no such row.
        DataError: The original is missing or has a corrupt image, or ``output`` cannot be written to or holds another
            data set, or other images.
        ConfigError: ``rows_per_shard`` is not positive.
    """
    name, root, output = source_name(name), user_path(root), user_path(output)
    SOURCES.get(name)  # says which there are
    if rows_per_shard < 1:
        raise ConfigError(f"rows_per_shard={rows_per_shard} is not positive", "A shard holds rows", "Use 10000.")
    console, found = Console(stderr=True), _read_summary(output)
    if found.get("name") == name and not root.exists():
        say(console, f"{output} already holds {name}, complete; its original is gone, and was not compared.")
        return output
    job = Job(name, output, open_original(name, root, download), rows_per_shard)
    job.check_output()
    job.compare(console)
    for split, images in job.splits.items():
        if left_out := images.left_out:
            names = ", ".join(left_out[:5]) + (" ..." if len(left_out) > 5 else "")
            say(console, f"left out of {split}: {len(left_out)} files that are no images ({names})")
    if passed_over := job.list_passed_over():
        say(console, f"not read: the folders {', '.join(passed_over)} in {root}")
    if found.get("fingerprint") == job.fingerprint:
        with suppress(OSError):  # of an output that may only be read, images are compared each time
            job.note_stamp()
        say(console, f"{output} already holds {name}, complete.")
        return output
    try:
        output.mkdir(parents=True, exist_ok=True)
        with held(output):
            job.check_output()  # what another process may have written since
            job.run(console)
    except OSError as error:  # what concerns the original has become a DataError before
        raise DataError(
            f"cannot write to {output} ({error})", f"The shards of {name} go there", "Use another output folder."
        ) from error
    return output


@dataclass(frozen=True)
class Statistics:
    """Sums over images, in integers, so that the order of adding does not matter.

    Attributes:
        totals: (7,) int64: number of pixels, then per channel of RGB the sum of the pixels and of their squares.
        shapes: (C, H, W) that occur; C = 1 where an image is stored grey.
    """

    totals: np.ndarray = field(default_factory=lambda: np.zeros(7, np.int64))
    shapes: frozenset[tuple[int, ...]] = frozenset()

    @classmethod
    def of(cls, image: Image.Image) -> "Statistics":
        """Returns those of one image."""
        pixels = to_pixels(image, 3).reshape(3, -1).astype(np.int64)
        shape = (1 if image.mode in GREY_MODES else 3, image.height, image.width)
        return cls(np.array([pixels.shape[1], *pixels.sum(1), *np.square(pixels).sum(1)]), frozenset([shape]))

    def __add__(self, other: "Statistics") -> "Statistics":
        return Statistics(self.totals + other.totals, self.shapes | other.shapes)

    def summary(self) -> dict[str, Any]:
        """Returns ``image_shape`` [C, H, W], or None where sizes differ, and ``mean`` and ``std`` in [0, 1]."""
        channels, sizes = max(shape[0] for shape in self.shapes), {shape[1:] for shape in self.shapes}
        means, squares = (self.totals[1:] / self.totals[0] / 255).reshape(2, 3)[:, :channels]
        return {
            "image_shape": [channels, *sizes.pop()] if len(sizes) == 1 else None,
            "mean": means.tolist(),
            "std": np.sqrt(np.maximum(squares / 255 - means**2, 0)).tolist(),
        }


@dataclass(frozen=True)
class Shard:
    """A file to write: some rows of a split, in the order of the file."""

    split: str
    file: str
    rows: np.ndarray


@dataclass(frozen=True)
class Job:
    """What :func:`prepare` does once the original is open.

    Attributes:
        name: Of the data set.
        output: Folder to write to.
        splits: Images by split.
        rows_per_shard: Images a file, about.
    """

    name: str
    output: Path
    splits: dict[str, ArrayImages | FileImages]
    rows_per_shard: int

    @property
    def classes(self) -> list[str]:
        """Names of the classes, the same for all splits."""
        return self.splits["train"].classes

    @cached_property
    def fingerprint(self) -> str:
        """Names the data set and the options; equal only where all bytes written are."""
        digest = hashlib.blake2b(json.dumps([self.name, self.classes, self.rows_per_shard]).encode(), digest_size=16)
        for split, images in self.splits.items():
            digest.update(split.encode() + images.labels.tobytes() + images.identity())
        return digest.hexdigest()

    @cached_property
    def stamp(self) -> str:
        """Changes with the images; may change without."""
        digest = hashlib.blake2b(digest_size=16)
        for images in self.splits.values():
            digest.update(images.stamp())
        return digest.hexdigest()

    def list_passed_over(self) -> list[str]:
        """Returns the names of the folders beside those of the splits, but not of what is written."""
        folders = [images.folder for images in self.splits.values() if isinstance(images, FileImages)]
        return folders_beside(folders, self.output)

    def shards(self) -> Iterator[Shard]:
        """Yields the shards of all splits. The order of the rows is the same on every machine."""
        for split, images in self.splits.items():
            order = np.random.default_rng(derive("prepare", split)).permutation(len(images.labels))
            count = -(-len(order) // self.rows_per_shard)
            for number, rows in enumerate(np.array_split(order, count)):
                yield Shard(split, f"{split}-{number:05d}-of-{count:05d}.parquet", rows)

    def check_output(self) -> None:
        """Raises DataError where the output folder lies in the original, or holds shards that are not this job's."""
        for images in self.splits.values():
            if isinstance(images, FileImages) and self.output.resolve().is_relative_to(images.folder.resolve()):
                raise DataError(
                    f"the output folder {self.output} lies in {images.folder}, among the images of {self.name}",
                    "The next call would take what was written for a class, or for a file of the original",
                    "Use another output folder.",
                )
        for path in sorted(self.output.glob("*.parquet")):
            found = _read_footer(path)
            if found is None:
                raise DataError(
                    f"{path} is damaged: it is no Parquet file",
                    "It would be kept, as what an interrupted call has written",
                    "Remove it, and call prepare again; it is written anew.",
                )
            if found.get("fingerprint") != self.fingerprint:
                raise DataError(
                    f"{path} is not a shard of {self.name} as its original is now",
                    "The folder holds another data set, or this one before images were added, removed or renamed, "
                    "or cut otherwise, and the two would mix",
                    "Use another output folder, or empty this one.",
                )

    def compare(self, console: Console) -> None:
        """Raises DataError where a shard that is there holds an image that the original does not have."""
        if self._read_stamp() == self.stamp:
            return
        there = [
            (shard, images)
            for shard in self.shards()
            if isinstance(images := self.splits[shard.split], FileImages)  # arrays' pixels are in the fingerprint
            and (self.output / shard.file).exists()
        ]
        if there:
            say(console, f"comparing {len(there)} shards in {self.output} with the original of {self.name}")
        for shard, images in there:
            self._compare(shard, images)

    def _compare(self, shard: Shard, images: FileImages) -> None:
        path = self.output / shard.file
        for row, stored in zip(shard.rows, _read_images(path), strict=True):
            if images.encoded(int(row))[0] != stored:
                raise DataError(
                    f"image {images.paths[row]} of the {shard.split} split of {self.name} is another one in {path}",
                    "The original has changed since it was prepared, and two states of it would mix",
                    "Use another output folder, or empty this one.",
                )

    def run(self, console: Console) -> None:
        """Writes the shards that are not there, then the summary."""
        shards = list(self.shards())
        with Progress(console=console) as progress, ThreadPoolExecutor(NUM_THREADS) as pool:
            bar = progress.add_task(self.name, total=sum(len(shard.rows) for shard in shards))
            for shard in shards:
                there = (self.output / shard.file).exists()
                for count in [len(shard.rows)] if there else self._write(shard, pool):
                    progress.advance(bar, count)
        self._write_summary(shards)
        self.note_stamp()

    def _write(self, shard: Shard, pool: ThreadPoolExecutor) -> Iterator[int]:
        """Writes a shard, and yields the number of rows after each row group; of one that fails, nothing stays."""
        partial, schema, statistics = self.output / f".{shard.file}.partial", self._schema(), Statistics()
        try:
            with pq.ParquetWriter(partial, schema, compression="none", use_dictionary=False) as writer:
                for start in range(0, len(shard.rows), ROWS_PER_GROUP):
                    rows = shard.rows[start : start + ROWS_PER_GROUP]
                    images = list(pool.map(lambda row: self._image(shard.split, int(row)), rows))
                    labels = self.splits[shard.split].labels[rows]
                    writer.write_table(pa.table([[image for image, _ in images], labels], schema=schema))
                    statistics = sum((of_image for _, of_image in images), statistics)
                    yield len(rows)
                footer = {"totals": statistics.totals.tolist(), "shapes": sorted(statistics.shapes)}
                writer.add_key_value_metadata({FOOTER: json.dumps({"fingerprint": self.fingerprint, **footer})})
            partial.replace(self.output / shard.file)
        finally:
            partial.unlink(missing_ok=True)

    def _image(self, split: str, row: int) -> tuple[dict[str, Any], Statistics]:
        path = None
        try:
            data, path = self.splits[split].encoded(row)
            return {"bytes": data, "path": path}, Statistics.of(open_image(data))
        except PermissionError as error:
            raise not_allowed(path or self.output, error) from error
        except DataError as error:
            where = f"image {path or row} of the {split} split of {self.name}"
            raise DataError(f"{where} cannot be used: {error.what}", error.why, error.mend) from error
        except Exception as error:
            raise DataError(
                f"image {path or row} of the {split} split of {self.name} cannot be decoded ({undecodable(error)})",
                "Training would fail at it",
                "Replace it by an intact copy and call prepare again; complete shards are kept.",
            ) from error

    def _schema(self) -> pa.Schema:
        """Returns the columns, and what the library `datasets` of the hub wants to know about them."""
        label = {"names": self.classes, "_type": "ClassLabel"}
        features = {"info": {"features": {"image": {"_type": "Image"}, "label": label}}}
        image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        return pa.schema([("image", image), ("label", pa.int64())], {"huggingface": json.dumps(features)})

    def note_stamp(self) -> None:
        """Writes the stamp of the original that the shards were made of, or compared with."""
        if self._read_stamp() != self.stamp:
            (self.output / STAMP).write_text(self.stamp)

    def _read_stamp(self) -> str:
        try:
            return (self.output / STAMP).read_text()
        except (OSError, ValueError):
            return ""

    def _write_summary(self, shards: list[Shard]) -> None:
        footers = [_read_footer(self.output / shard.file) or {} for shard in shards if shard.split == "train"]
        parts = [Statistics(np.array(part["totals"]), frozenset(map(tuple, part["shapes"]))) for part in footers]
        summary = {
            "name": self.name,
            "num_classes": len(self.classes),
            "classes": self.classes,
            "num_rows": {split: len(images.labels) for split, images in self.splits.items()},
            **sum(parts, Statistics()).summary(),
            "fingerprint": self.fingerprint,
            "shards": [shard.file for shard in shards],
        }
        write_atomically(self.output / SUMMARY, json.dumps(summary, indent=2) + "\n")


def _read_summary(output: Path) -> dict[str, Any]:
    """Returns the summary of a finished data set, or nothing."""
    try:
        summary = json.loads((output / SUMMARY).read_text())
        return summary if all((output / file).is_file() for file in summary["shards"]) else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _read_images(path: Path) -> Iterator[bytes]:
    """Yields the encoded images of a shard of ours. Raises DataError where it is damaged."""
    with open_parquet(path) as file:
        for batch in file.iter_batches(ROWS_PER_GROUP, columns=["image.bytes"]):
            yield from (image.as_py()["bytes"] for image in batch.column("image"))


def _read_footer(path: Path) -> dict[str, Any] | None:
    """Returns what a shard of ours says about itself; of other Parquet files nothing, of what is none None."""
    try:
        with reading(path):
            return json.loads((pq.read_metadata(path).metadata or {}).get(FOOTER, "{}"))
    except (pa.ArrowException, OSError):
        return None
    except ValueError:
        return {}
