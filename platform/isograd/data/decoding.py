"""From the bytes of an image file to its pixels: the one way an image is decoded, in runs and in `isograd prepare`.

What comes out is one upright picture with 8 bits a channel, or a refusal with its reason; nothing is clipped, turned or
left out unseen. Alpha is dropped and colours are not managed, as torchvision's and timm's loaders do.
"""

import io

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.ExifTags import Base
from PIL.ImageFile import StubImageFile

from isograd.errors import DataError

MODES = {1: "L", 3: "RGB"}  # channels -> mode of PIL
GREY_MODES = frozenset(["1", "L", "LA", "La"])

_WIDE_MODES = ("I", "F")  # how the names of PIL's modes of more than 8 bits begin
_FULL_RANGE = frozenset([None, "PNG", "TIFF", "JPEG2000", "PPM"])  # formats whose 16 bits mean 0 to 65535
_DRAWINGS = frozenset(["EPS"])  # formats without pixels, which another program draws, if it is there
_ONE_PICTURE = frozenset(["MPO", "PSD"])  # further frames are thumbnails and layers of the first
_BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0  # TIFF


def open_image(data: bytes) -> Image.Image:
    """Decodes one image: upright, as its EXIF orientation says, and with at most 8 bits a channel.

    Raises:
        DataError: It has several frames, or a mode without a range that could be scaled to 8 bits, is of a format that
            has no pixels that Pillow reads, or is too large for it.
        Exception: Whatever PIL raises on a corrupt image; callers know where it lies, see :func:`undecodable`.
    """
    try:
        image = Image.open(io.BytesIO(data))
    except Image.DecompressionBombError as error:
        raise DataError(
            f"an image is too large ({error})", "Pillow opens no image of so many pixels", "Scale it down."
        ) from error
    _refuse_unreadable(image)
    _refuse_frames(image)
    image.load()
    return _eight_bits(_upright(image), image)


def decode(data: bytes, channels: int) -> np.ndarray:
    """Returns the pixels of one encoded image, (C, H, W) uint8, grey (C = 1) or RGB (C = 3); raises as `open_image`."""
    return to_pixels(open_image(data), channels)


def to_pixels(image: Image.Image, channels: int) -> np.ndarray:
    """Returns the pixels of an opened image, (C, H, W) uint8, read-only."""
    pixels = np.asarray(convert(image, channels))
    return pixels.reshape(1, *pixels.shape) if channels == 1 else pixels.transpose(2, 0, 1)


def convert(image: Image.Image, channels: int) -> Image.Image:
    """Returns the image in grey (1 channel) or RGB (3).

    Raises:
        DataError: Other numbers of channels are asked for, or the image has a mode that cannot be converted.
    """
    if channels not in MODES:
        raise DataError(
            f"images of {channels} channels are asked for",
            "They are decoded to grey or RGB",
            "Use data.image_shape=[C,H,W] with C of 1 or 3.",
        )
    image = _eight_bits(image, image)
    if image.mode == MODES[channels]:
        return image
    if image.mode == "P" and "transparency" in image.info:  # the same colours; directly, PIL warns of the lost alpha
        image = image.convert("RGBA")
    try:
        if image.mode == "LAB":  # to grey there is no other way
            image = image.convert("RGB")
        return image.convert(MODES[channels])
    except ValueError as error:
        raise DataError(
            f"an image has mode {image.mode}, which cannot be converted to {MODES[channels]}",
            "Images are decoded to grey or RGB, and Pillow does not know the way from this colour space",
            "Store it as RGB or grey.",
        ) from error


def has_pixels(kind: str) -> bool:
    """Whether Pillow itself reads the pixels of a format, whatever else is installed.

    Of others it only knows the files when it sees them; and what is a drawing has no pixels, but those that Ghostscript
    would give it, by its version.
    """
    opener = Image.OPEN.get(kind, (None,))[0]  # a reader may call what it has read by another name, as MPO
    is_stub = isinstance(opener, type) and issubclass(opener, StubImageFile)
    return kind not in _DRAWINGS and kind != "MPEG" and not is_stub


def undecodable(cause: Exception) -> str:
    """Returns why an image cannot be decoded; of an unknown format PIL says the address of a buffer."""
    return "no known format" if isinstance(cause, UnidentifiedImageError) else str(cause) or type(cause).__name__


def _refuse_unreadable(image: Image.Image) -> None:
    kind = image.format
    if kind is not None and not has_pixels(kind):
        raise DataError(
            f"an image of format {kind} has no pixels that can be read here",
            "It is a drawing, or data that other programs make a picture of, each as it sees fit",
            "Convert it to PNG.",
        )


def _refuse_frames(image: Image.Image) -> None:
    num_frames = 1 if image.format in _ONE_PICTURE else getattr(image, "n_frames", 1)
    if num_frames > 1:
        raise DataError(
            f"an image of format {image.format} has {num_frames} frames",
            "A row is one picture; which of the frames is meant is not said, and the others would be left out unseen",
            "Store the frame that is meant, or each frame as an image of its own.",
        )


def _upright(image: Image.Image) -> Image.Image:
    """Turns the picture as the camera says, as the library `datasets` of the hub does."""
    try:
        orientation = image.getexif().get(Base.Orientation, 1)
    except Exception:  # unreadable metadata says nothing about the picture, which is intact
        return image
    return image if orientation == 1 else ImageOps.exif_transpose(image)


def _eight_bits(image: Image.Image, original: Image.Image) -> Image.Image:
    """Scales more than 8 bits to 8, rounding to the nearest; PIL's own conversion clips at 255.

    Args:
        image: To scale; others than those of more bits are returned as they are.
        original: The image as it was opened, which knows its file's format.
    """
    if not image.mode.startswith(_WIDE_MODES):
        return image
    is_tiff, is_wide = original.format == "TIFF", image.mode.startswith("I;16")
    has_range = original.format in _FULL_RANGE if is_wide else image.mode == "I" and original.format in ("PNG", "PPM")
    if not has_range:
        least, most = image.getextrema()
        raise DataError(
            f"an image of format {original.format} has mode {image.mode}, "
            f"{'real numbers' if image.mode == 'F' else 'whole numbers'} from {least} to {most}",
            "Nothing says which number is black and which is white, and Pillow would clip what exceeds 255",
            "Scale it as you mean it, and store it with 8 or 16 bits a pixel (PNG).",
        )
    tags = getattr(original, "tag_v2", {}) if is_tiff else {}
    most = 2 ** int(tags.get(_BITS_PER_SAMPLE, (16,))[0]) - 1
    values = np.asarray(image).astype(np.uint32)
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        values = most - values
    return Image.fromarray(((values * 255 + most // 2) // most).astype(np.uint8))
