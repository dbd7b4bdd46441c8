"""What each kind of image file decodes to, or why it is refused."""

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from isograd.data.crops import Exact
from isograd.data.decoding import decode, open_image, to_pixels
from isograd.data.stored_images import load_images
from isograd.data.stream import WindowDecoder
from isograd.data.windows import cut_windows
from isograd.errors import DataError
from isograd.prepare.conversion import Statistics
from isograd.prepare.image_folder import FileImages
from tests.unit.data.folders import find_split

WIDE = np.array([[0, 128, 129, 257], [32896, 40000, 65406, 65535]], np.uint16)
SCALED = [[0, 0, 1, 1], [128, 156, 254, 255]]


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM", "JPEG2000"])
def test_sixteen_bits_are_scaled_by_their_range(kind: str) -> None:
    data = encode(Image.fromarray(WIDE), kind)
    assert decode(data, 1).tolist() == [SCALED]
    assert decode(data, 3).tolist() == [SCALED] * 3
    assert Statistics.of(open_image(data)).shapes == {(1, 2, 4)}


def test_twelve_bits_and_white_is_zero() -> None:
    twelve = np.array([[0, 2048], [4080, 4095]], np.uint16)
    packed = bytes(byte for a, b in twelve.tolist() for byte in (a >> 4, (a & 15) << 4 | b >> 8, b & 255))
    assert decode(tiff(packed, bits=12, photometric=1), 1).tolist() == [[[0, 128], [254, 255]]]
    wide = np.array([[0, 32768], [65535, 1]], "<u2").tobytes()
    assert decode(tiff(wide, bits=16, photometric=0), 1).tolist() == [[[255, 127], [0, 255]]]


def tiff(data: bytes, *, bits: int, photometric: int) -> bytes:
    """A little-endian, uncompressed grey image of 2x2."""
    tags = [
        (256, 2),
        (257, 2),
        (258, bits),
        (259, 1),
        (262, photometric),
        (273, 8),
        (277, 1),
        (278, 2),
        (279, len(data)),
    ]
    start = 8 + len(data)
    entries = b"".join(tag.to_bytes(2, "little") + b"\3\0\1\0\0\0" + value.to_bytes(4, "little") for tag, value in tags)
    return b"II*\0" + start.to_bytes(4, "little") + data + len(tags).to_bytes(2, "little") + entries + bytes(4)


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (np.array([[0, 70000]], np.int32), "mode I, whole numbers from 0 to 70000"),
        (np.array([[0, 0.5]], np.float32), r"mode F, real numbers from 0\.0 to 0\.5"),
    ],
)
def test_modes_without_a_range_are_refused(pixels: np.ndarray, words: str) -> None:
    data = encode(Image.fromarray(pixels), "TIFF")
    with pytest.raises(DataError, match=f"{words}.*Nothing says.*PNG"):
        decode(data, 1)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_the_orientation_of_exif_is_applied_once(orientation: int, kind: str) -> None:
    upright = np.zeros((16, 24), np.uint8)
    upright[:8, :8] = 255  # the mark is in the upper left corner
    back = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]  # PIL's Transpose that undoes it
    stored = Image.fromarray(upright) if back is None else Image.fromarray(upright).transpose(Image.Transpose(back))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {"quality": 95} if kind == "JPEG" else {}
    found = decode(encode(stored, kind, exif=exif, **options), 1)
    assert found.shape == (1, 16, 24) and np.abs(found[0].astype(int) - upright).max() < 40


def test_unreadable_exif_is_no_reason_to_refuse() -> None:
    data = encode(Image.new("L", (3, 2), 7), "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert decode(data, 1).tolist() == [[[7] * 3] * 2]


def test_eight_bits_are_what_pillow_says() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 5, 4), dtype=np.uint8)
    for mode, kind in (("1", "PNG"), ("LA", "PNG"), ("RGBA", "PNG"), ("P", "GIF"), ("CMYK", "TIFF"), ("RGB", "BMP")):
        data = encode(Image.fromarray(pixels, "RGBA").convert(mode), kind)
        for channels, target in ((1, "L"), (3, "RGB")):
            expected = np.asarray(Image.open(io.BytesIO(data)).convert(target))
            assert np.array_equal(decode(data, channels), to_pixels(Image.fromarray(expected), channels)), mode


def test_a_palette_with_transparency_keeps_its_colours_without_a_warning() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = decode(encode(image, "PNG", transparency=b"\0\xff"), 3)
    assert found.tolist() == [[[10, 200]], [[20, 100]], [[30, 50]]]


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_several_frames_are_refused(kind: str) -> None:
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue", "green")]
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match=f"format {kind} has 3 frames.*as an image of its own"):
        decode(data, 3)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (encode(Image.new("L", (4, 4)), "EPS"), "EPS"),
        (b"\x89HDF\r\n\x1a\n" + bytes(20), "HDF5"),
        (b"\x00\x00\x01\xb3\x00\x40\x04" + bytes(20), "MPEG"),
    ],
)
def test_formats_without_pixels_are_no_damaged_images(data: bytes, kind: str) -> None:
    with pytest.raises(DataError, match=rf"an image of format {kind} has no pixels .*Convert it to PNG"):
        open_image(data)


def test_too_many_pixels_are_no_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4)
    with pytest.raises(DataError, match=r"an image is too large \(.*16 pixels.*Scale it down"):
        open_image(encode(Image.new("L", (4, 4)), "PNG"))


def test_a_photograph_with_its_preview_is_one_picture() -> None:
    data = encode(Image.new("RGB", (4, 4), "red"), "MPO", save_all=True, append_images=[Image.new("RGB", (2, 2))])
    assert decode(data, 3).shape == (3, 4, 4)


def test_a_colour_space_without_a_way_to_rgb() -> None:
    assert decode(encode(Image.new("LAB", (2, 2)), "TIFF"), 1).shape == (1, 2, 2)
    with pytest.raises(DataError, match="mode La, which cannot be converted to RGB"):
        to_pixels(Image.new("La", (2, 2)), 3)


def write(folder: Path, images: list[bytes | None], path: str | None = None) -> Path:
    rows = [{"bytes": image, "path": path} for image in images]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array(rows, kind), "label": range(len(rows))})
    pq.write_table(table, folder / "train-00000-of-00001.parquet")
    return folder


def loaded(folder: Path, shape: tuple[int, int, int]) -> list[np.ndarray]:
    """The pixels of both loaders."""
    split = find_split(folder, "train")
    decoder = WindowDecoder(split, Exact(shape), 0, cut_windows(split.groups, 100))
    streamed = list(decoder.decode(0))
    return [load_images(split, shape, 9)[0].numpy(), np.concatenate([part["image"] for part in streamed])]


def test_both_loaders_scale_and_turn(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encode(Image.fromarray(np.ascontiguousarray(np.rot90(WIDE))), "PNG", exif=exif)
    for pixels in loaded(write(tmp_path, [encode(Image.fromarray(WIDE), "PNG"), turned]), (1, 2, 4)):
        assert pixels.tolist() == [[SCALED]] * 2


@pytest.mark.parametrize(
    ("image", "path", "words"),
    [
        (None, "cats/1.jpg", r"bytes are null, it has only a path, 'cats/1.jpg'.*prepare image_folder"),
        (None, None, r"cannot be decoded \(its bytes are null\)"),
        (encode(Image.fromarray(np.array([[0.5]], np.float32)), "TIFF"), None, "mode F.*row 1 of"),
    ],
)
def test_both_loaders_refuse_alike(tmp_path: Path, image: bytes | None, path: str | None, words: str) -> None:
    split = find_split(write(tmp_path, [encode(Image.new("L", (1, 1)), "PNG"), image], path), "train")
    decoder = WindowDecoder(split, Exact((1, 1, 1)), 0, cut_windows(split.groups, 100))
    refusals = []
    for load in (
        lambda: load_images(split, (1, 1, 1), 9),
        lambda: list(decoder.decode(0)),
    ):
        with pytest.raises(DataError, match=words) as caught:
            load()
        refusals.append(str(caught.value))
    assert refusals[0] == refusals[1] and "row 1 of" in refusals[0]


def test_a_path_that_is_no_utf8_is_stored_all_the_same(tmp_path: Path) -> None:
    name = b"caf\xe9.png".decode("utf-8", "surrogateescape")
    (tmp_path / name).write_bytes(b"x")
    images = FileImages(tmp_path, [name], np.zeros(1, np.int64), ["a", "b"])
    assert images.encoded(0) == (b"x", "caf\N{REPLACEMENT CHARACTER}.png") and images.identity() == b"caf\xe9.png"
