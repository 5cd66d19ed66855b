"""Any file to an upright RGB picture, or one clear sentence that says why not.

Pictures come from strangers: a file is refused by its size and by the dimensions in its header
before anything is decoded, only the formats named here are ever opened, and whatever the decoder
raises becomes a `PictureError`. What was changed on the way (orientation, colours, depth, frames)
is said in `Picture.notes`.

Limits: bytes flipped inside a JPEG's or WebP's compressed data may decode to a wrong picture
without an error, because those formats carry no checksum. Deep grey is taken to span its whole
range (0 to 65,535 for 16 bits): a 12-bit scan stored in 16 bits comes out dark. About a damaged
TIFF, libtiff also writes lines of its own to standard error.
"""

from __future__ import annotations

import io
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from dermx.errors import PictureError

if TYPE_CHECKING:
    from jaxtyping import UInt8

Source: TypeAlias = "Path | str | bytes | Image.Image | np.ndarray"


@dataclass(frozen=True, kw_only=True)
class ReadLimits:
    """What is refused before it is decoded."""

    max_bytes: int = 64 * 2**20  # of the file
    max_pixels: int = 100_000_000  # width times height, from the header
    smallest_side: int = 32  # pixels; a smaller picture shows no lesion


DEFAULT_LIMITS: Final = ReadLimits()


@dataclass(frozen=True, kw_only=True, eq=False)
class Picture:
    """An upright picture; `pixels` may be smaller than the original, `size` never is."""

    pixels: UInt8[np.ndarray, "h w 3"]  # RGB
    size: tuple[int, int]  # height and width of the upright original, pixels
    notes: tuple[str, ...] = ()  # what was changed to read it, a few words each


def read_picture(
    source: Source, *, min_side: int | None = None, limits: ReadLimits = DEFAULT_LIMITS
) -> Picture:
    """Read a picture: upright, RGB, 8 bits.

    EXIF orientation is applied. A colour profile other than sRGB is converted to sRGB; a picture
    without one is taken as it is. Transparent parts are laid on white. 16-bit channels keep their
    high byte. Of an animation or a many-page file the first frame is used.

    Args:
        source: A file, its bytes, a PIL image, or an array (h, w, 3) RGB or (h, w) grey of uint8.
        min_side: A JPEG whose shorter side is at least twice this is decoded at 1/2, 1/4 or 1/8
            of its scale, which is faster; the shorter side never falls below this.
        limits: What is refused before it is decoded.

    Raises:
        PictureError: The file is missing, not a picture, damaged, or beyond the limits.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source, limits)
    if isinstance(source, Image.Image):
        return _from_image(source, "the picture", limits)
    name = "the picture" if isinstance(source, bytes) else str(source)
    data = source if isinstance(source, bytes) else _file_bytes(Path(source), limits)
    if len(data) > limits.max_bytes:
        raise PictureError(f"{name} is larger than {limits.max_bytes:,} bytes; give a smaller file")
    with _one_sentence(name):
        image = _open(data, name)
    return _from_image(image, name, limits, min_side)


def _file_bytes(path: Path, limits: ReadLimits) -> bytes:
    """Read a regular file, at most one byte more than the limit."""
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise PictureError(f"{path} is a folder; give a picture file")
        if not stat.S_ISREG(status.st_mode):
            raise PictureError(f"{path} is not a regular file; give a picture file")
        with path.open("rb") as file:
            return file.read(limits.max_bytes + 1)
    except FileNotFoundError as error:
        raise PictureError(f"there is no file {path}") from error
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        reason = getattr(error, "strerror", None) or error
        raise PictureError(f"can't read {path}: {reason}") from error


# Opened by these classes only: PIL.Image.open would also try its forty other formats and warn
# about or refuse large pictures by a limit of its own.
_OPENERS: Final[tuple[tuple[bytes, type[ImageFile.ImageFile]], ...]] = (
    (b"\xff\xd8\xff", JpegImagePlugin.JpegImageFile),
    (b"\x89PNG\r\n\x1a\n", PngImagePlugin.PngImageFile),
    (b"RIFF", WebPImagePlugin.WebPImageFile),
    (b"GIF8", GifImagePlugin.GifImageFile),
    (b"II*\0", TiffImagePlugin.TiffImageFile),
    (b"MM\0*", TiffImagePlugin.TiffImageFile),
    (b"BM", BmpImagePlugin.BmpImageFile),
)
_FORMATS: Final = "JPEG, PNG, WebP, BMP, TIFF or GIF"


def _open(data: bytes, name: str) -> ImageFile.ImageFile:
    """Read the header only."""
    if not data:
        raise PictureError(f"{name} is empty (0 bytes)")
    for start, opener in _OPENERS:
        if data.startswith(start) and (start != b"RIFF" or data[8:12] == b"WEBP"):
            with _quiet():
                return opener(io.BytesIO(data))
    if data[4:8] == b"ftyp":
        raise PictureError(f"{name} is a HEIC or AVIF picture or a video; save it as JPEG or PNG")
    if data[128:132] == b"DICM":
        raise PictureError(f"{name} is a DICOM file; export its picture as PNG or JPEG")
    raise PictureError(f"{name} is not a picture in a known format; give {_FORMATS}")


def _from_image(
    image: Image.Image, name: str, limits: ReadLimits, min_side: int | None = None
) -> Picture:
    """Check, decode, turn and convert an opened picture."""
    with _one_sentence(name):
        width, height = image.size
        _check_size((height, width), name, limits)
        tiff = isinstance(image, TiffImagePlugin.TiffImageFile)
        if tiff:
            _check_tiles(image, name, limits)
        notes = _frame_note(image) + _depth_note(image)
        if min_side is not None and isinstance(image, JpegImagePlugin.JpegImageFile):
            image.draft(None, (max(1, min_side), max(1, min_side)))
        early_note = _orientation(image)[1] if tiff else ()  # PIL turns it by itself and forgets
        if tiff or isinstance(image, GifImagePlugin.GifImageFile):
            with _quiet():
                image.load()
        else:  # these decode without warnings, so threads need not wait for each other
            image.load()
        turn, turn_note = _orientation(image)
        if tiff:
            width, height = image.size
        rgb, colour_notes = _to_rgb(image, name)
        if turn is not None:
            rgb = rgb.transpose(turn)
        size = (width, height) if turn in _SIDEWAYS else (height, width)
        notes += (early_note or turn_note) + colour_notes
        return Picture(pixels=np.array(rgb), size=size, notes=notes)


def _check_size(size: tuple[int, int], name: str, limits: ReadLimits) -> None:
    height, width = size
    if min(height, width) < limits.smallest_side:
        raise PictureError(
            f"{name} is {width} x {height} pixels; "
            f"the shorter side must have at least {limits.smallest_side}"
        )
    if height * width > limits.max_pixels:
        raise PictureError(
            f"{name} is {width} x {height} pixels, more than {limits.max_pixels:,} in all; "
            "give a smaller picture"
        )


def _check_tiles(image: Image.Image, name: str, limits: ReadLimits) -> None:
    """A TIFF's tiles are decoded whole, however little of one lies in the picture."""
    tags = getattr(image, "tag_v2", {})
    width, height = tags.get(322), tags.get(323)  # TileWidth, TileLength
    if not (isinstance(width, int) and isinstance(height, int)):
        return  # not tiled
    if max(width, 0) * height > limits.max_pixels:
        raise PictureError(
            f"{name} has tiles of {width} x {height} pixels, more than {limits.max_pixels:,}; "
            "save it without tiles"
        )


def _frame_note(image: Image.Image) -> tuple[str, ...]:
    with _quiet():
        several = getattr(image, "is_animated", False)
    return (f"only frame {image.tell() + 1} of several was used",) if several else ()


def _depth_note(image: Image.Image) -> tuple[str, ...]:
    tiles = getattr(image, "tile", None) or []
    rawmode = str(tiles[0].args) if tiles else ""  # for BMP ";16" is 16 bits for all three
    deep = ";16" in rawmode and not isinstance(image, BmpImagePlugin.BmpImageFile)
    deep = deep or image.mode.startswith("I;16")
    return ("more than 8 bits a channel, the high 8 were used",) if deep else ()


_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # EXIF orientation to what makes it upright
_SIDEWAYS: Final = (_TURNS[5], _TURNS[6], _TURNS[7], _TURNS[8])


def _orientation(image: Image.Image) -> tuple[Image.Transpose | None, tuple[str, ...]]:
    """How to turn the picture; damaged EXIF data never stops a picture that can be decoded."""
    try:
        with _quiet():
            value = image.getexif().get(0x0112)
        turn = _TURNS.get(value) if isinstance(value, int) else None
    except Exception:  # PIL raises many kinds on damaged EXIF data
        return None, ("damaged EXIF data, orientation unknown",)
    return turn, ("turned upright by its EXIF orientation",) if turn is not None else ()


def _to_rgb(image: Image.Image, name: str) -> tuple[Image.Image, tuple[str, ...]]:
    """Convert a decoded picture of any mode to RGB."""
    if image.mode.startswith("I;16"):
        image = _deep_grey(image)
    if image.mode not in _MODES:
        raise PictureError(
            f"{name} holds {_UNUSABLE.get(image.mode, f'{image.mode} values')}; "
            "save it as RGB with 8 or 16 bits a channel"
        )
    notes: tuple[str, ...] = ()
    with _quiet():
        if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
            image, notes = _on_white(image)
        image, profile_note = _to_srgb(image)
        return (image if image.mode == "RGB" else image.convert("RGB")), notes + profile_note


_MODES: Final = frozenset(
    ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV")
)
_UNUSABLE: Final = {"F": "floating-point values", "I": "32-bit integers", "LAB": "L*a*b* colours"}


def _deep_grey(image: Image.Image) -> Image.Image:
    """Grey of 9 to 16 bits to 8: the high bits, where PIL's own conversion clips at 255."""
    values = np.asarray(image).astype(np.uint16)
    tags = getattr(image, "tag_v2", {})
    bits = tags.get(258, (16,))  # BitsPerSample
    grey = (values >> (bits[0] - 8 if 8 < bits[0] <= 16 else 8)).astype(np.uint8)
    inverted = tags.get(262) == 0  # PhotometricInterpretation: white is 0, which PIL leaves so
    shallow = Image.fromarray(255 - grey if inverted else grey)
    shallow.info = {key: value for key, value in image.info.items() if key == "icc_profile"}
    return shallow


def _on_white(image: Image.Image) -> tuple[Image.Image, tuple[str, ...]]:
    rgba = image.convert("RGBA")
    if rgba.getchannel("A").getextrema()[0] == 255:  # nothing is transparent
        whole = rgba.convert("RGB")
        note: tuple[str, ...] = ()
    else:
        white = Image.new("RGBA", rgba.size, "white")
        whole = Image.alpha_composite(white, rgba).convert("RGB")
        note = ("transparent parts were laid on white",)
    whole.info = {key: value for key, value in image.info.items() if key == "icc_profile"}
    return whole, note


_SPACES: Final = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # ICC name to PIL mode


def _to_srgb(image: Image.Image) -> tuple[Image.Image, tuple[str, ...]]:
    """Apply an embedded profile that is not sRGB; leave the colours alone where it can't be."""
    embedded = image.info.get("icc_profile")
    if not embedded:
        return image, ()
    from PIL import ImageCms  # a thirtieth of a short command's time, and few pictures need it

    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(embedded))
        title = " ".join(ImageCms.getProfileDescription(profile).split())[:60]
        if "srgb" in title.lower() and "linear" not in title.lower():
            return image, ()
        mode = _SPACES.get(profile.profile.xcolor_space, "")
        if mode == "RGB" and image.mode in ("P", "1", "L", "RGBX"):
            image = image.convert("RGB")
        converted = ImageCms.profileToProfile(
            image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except Exception:  # a damaged profile, or one for other colours than the picture's
        return image, ("its colour profile could not be applied",)
    assert converted is not None  # only in-place conversion returns nothing
    return converted, (f"colours converted from {title!r} to sRGB",)


def _from_array(array: np.ndarray, limits: ReadLimits) -> Picture:
    grey = array.ndim == 2
    if array.dtype != np.uint8 or not (grey or (array.ndim == 3 and array.shape[2] == 3)):
        raise PictureError(
            f"an array must be uint8 with shape (h, w, 3) RGB or (h, w) grey, "
            f"got {array.dtype} {array.shape}"
        )
    height, width = array.shape[:2]
    _check_size((height, width), "the array", limits)
    pixels = np.repeat(array[:, :, None], 3, axis=2) if grey else np.ascontiguousarray(array)
    return Picture(pixels=pixels, size=(height, width))


_warnings_lock = threading.RLock()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep PIL's warnings in; the lock because warning filters belong to the whole process."""
    with _warnings_lock, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL(\.|$)")
        yield


@contextmanager
def _one_sentence(name: str) -> Iterator[None]:
    """Turn whatever a decoder raises into a `PictureError`."""
    try:
        yield
    except PictureError:
        raise
    except Image.DecompressionBombError as error:
        raise PictureError(f"{name} has too many pixels; give a smaller picture") from error
    except MemoryError as error:
        raise PictureError(f"{name} needs more memory than there is") from error
    except Exception as error:  # PIL raises struct.error, KeyError, IndexError and more
        raise PictureError(f"{name} {_trouble(error)}") from error


def _trouble(error: Exception) -> str:
    """What a decoder's error says about the file."""
    words = " ".join(str(error).split())
    if "MAX_TEXT" in words:  # PIL's name for its limit on a PNG's compressed text and profile
        return "holds a text or colour profile of more than 1 MB; save it without"
    worded = isinstance(error, OSError | SyntaxError)  # the kinds that PIL words itself,
    if not worded or any(isinstance(one, Exception) for one in error.args):  # or puts around others
        return "is truncated or damaged"
    if words.lower().startswith(("unknown", "unsupported", "cannot handle")):
        return f"is of a kind that can't be read ({words}); save it as RGB with 8 bits a channel"
    return f"is truncated or damaged: {words}"
