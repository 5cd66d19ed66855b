"""Strangers' files: a picture comes out upright and right, or one sentence that says why not."""

import io
import os
import re
import struct
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps

from dermx.data.phantom import draw_phantom
from dermx.errors import PictureError
from dermx.preprocess.reading import DEFAULT_LIMITS, Picture, ReadLimits, read_picture

LOSSLESS = ("PNG", "BMP", "TIFF", "WEBP")


def blocks(height: int = 40, width: int = 60) -> np.ndarray:
    """Flat blocks of 20 pixels in colours that no turn or mirror image repeats."""
    colours = np.array(
        [
            [[200, 40, 30], [30, 190, 60], [40, 60, 210]],
            [[230, 220, 50], [120, 110, 100], [10, 15, 20]],
        ]
    )
    tile = np.kron(colours, np.ones((20, 20, 1))).astype(np.uint8)
    return np.tile(tile, (height // 40 + 1, width // 60 + 1, 1))[:height, :width]


def saved(image: Image.Image | np.ndarray, format: str, **options: object) -> bytes:
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    file = io.BytesIO()
    if format == "WEBP":
        options = {"lossless": True, "exact": True, **options}
    image.save(file, format, **options)
    return file.getvalue()


def oriented(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


# --- files made by hand, where PIL can't write them ---------------------------------------------


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png16(values: np.ndarray) -> bytes:
    height, width = values.shape[:2]
    rows = values.astype(">u2")
    raw = b"".join(b"\0" + row.tobytes() for row in rows)  # filter 0 on each row
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def tiff(
    *, packed: bytes, bits: int, photometric: int, more: dict[int, tuple[int, int]] | None = None
) -> bytes:
    """A 32 x 32 grey TIFF, one uncompressed strip unless more tags say otherwise."""
    tags = {
        256: (4, 32), 257: (4, 32), 258: (3, bits), 259: (3, 1), 262: (3, photometric),
        273: (4, 8), 277: (3, 1), 278: (4, 32), 279: (4, len(packed)), **(more or {}),
    }  # fmt: skip
    entries = b"".join(
        struct.pack("<HHII", tag, kind, 1, value) for tag, (kind, value) in sorted(tags.items())
    )
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    return b"II*\0" + struct.pack("<I", 8 + len(packed)) + packed + directory


def wide_profile() -> bytes:
    """An sRGB profile with red and green exchanged, under another name."""
    data, table = srgb_profile()
    changed = bytearray(data)
    red, green = table[b"rXYZ"], table[b"gXYZ"]
    changed[red + 4 : red + 12], changed[green + 4 : green + 12] = (
        data[green + 4 : green + 12],
        data[red + 4 : red + 12],
    )
    return renamed(changed, "drawn wide")


def linear_profile() -> bytes:
    """The primaries of sRGB with values that are proportional to light, as GIMP has it."""
    data, table = srgb_profile()
    changed = bytearray(data)
    for curve in (b"rTRC", b"gTRC", b"bTRC"):
        start = struct.unpack(">I", data[table[curve] + 4 : table[curve] + 8])[0]
        changed[start : start + 12] = b"curv" + bytes(8)  # no points: the identity
    return renamed(changed, "Linear sRGB")


def srgb_profile() -> tuple[bytes, dict[bytes, int]]:
    """LittleCMS's sRGB, and where the entry of each of its tags begins."""
    data = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    count = struct.unpack(">I", data[128:132])[0]
    table = {data[132 + 12 * i : 136 + 12 * i]: 132 + 12 * i for i in range(count)}
    return data, table


def renamed(changed: bytearray, title: str) -> bytes:
    entry = srgb_profile()[1][b"desc"]
    start, size = struct.unpack(">II", changed[entry + 4 : entry + 12])
    text = title.encode("utf-16-be")
    body = b"mluc" + bytes(4) + struct.pack(">II2s2sII", 1, 12, b"en", b"US", len(text), 28) + text
    assert len(body) <= size
    changed[start : start + size] = body.ljust(size, b"\0")
    return bytes(changed)


# --- pixels --------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", LOSSLESS)
def test_a_lossless_file_gives_back_its_pixels(format: str) -> None:
    picture = read_picture(saved(blocks(), format))
    np.testing.assert_array_equal(picture.pixels, blocks())
    assert (picture.size, picture.notes) == ((40, 60), ())


def test_a_jpeg_gives_what_a_plain_decode_gives() -> None:
    data = saved(blocks(123, 77), "JPEG", quality=80)
    np.testing.assert_array_equal(read_picture(data).pixels, np.array(Image.open(io.BytesIO(data))))


@pytest.mark.data
def test_real_pictures_read_as_pil_reads_them(real_data: Path) -> None:
    paths = sorted((real_data / "ham10000").glob("HAM10000_images_part_*/*.jpg"))[::500]
    paths += sorted((real_data / "dermnet").rglob("*.jpg"))[::50]
    assert len(paths) > 20
    for path in paths:
        picture = read_picture(path)
        np.testing.assert_array_equal(picture.pixels, np.array(Image.open(path).convert("RGB")))
        assert (picture.size, picture.notes) == (picture.pixels.shape[:2], ())


def test_path_text_bytes_image_and_array_are_the_same_picture(tmp_path: Path) -> None:
    path = tmp_path / "lesion.png"
    path.write_bytes(saved(blocks(), "PNG"))
    for source in (path, str(path), path.read_bytes(), Image.open(path), blocks()):
        np.testing.assert_array_equal(read_picture(source).pixels, blocks())


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("value", range(1, 9))
def test_every_exif_orientation_is_undone(format: str, value: int) -> None:
    data = saved(
        blocks(), format, exif=oriented(value), **({"quality": 95} if format == "JPEG" else {})
    )
    upright = np.array(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    picture = read_picture(data)
    np.testing.assert_array_equal(picture.pixels, upright)
    assert picture.size == ((60, 40) if value >= 5 else (40, 60))


def test_orientation_6_by_hand() -> None:
    # the camera was held upright but stored the scene lying on its left side: turn it clockwise
    picture = read_picture(saved(blocks(), "PNG", exif=oriented(6)))
    np.testing.assert_array_equal(picture.pixels, np.rot90(blocks(), -1))
    assert picture.notes == ("turned upright by its EXIF orientation",)


def test_an_opened_image_is_turned_too_and_not_changed() -> None:
    image = Image.open(io.BytesIO(saved(blocks(), "PNG", exif=oriented(8))))
    np.testing.assert_array_equal(read_picture(image).pixels, np.rot90(blocks(), 1))
    assert image.size == (60, 40)
    assert image.getexif()[0x0112] == 8


@pytest.mark.parametrize("format", ["PNG", "TIFF", "BMP"])
def test_one_bit_is_black_and_white(format: str) -> None:
    bits = blocks()[:, :, 0] > 100
    pixels = read_picture(saved(Image.fromarray(bits), format)).pixels
    np.testing.assert_array_equal(pixels, np.repeat(np.uint8(255) * bits[:, :, None], 3, axis=2))


def test_grey_is_the_same_in_all_channels() -> None:
    grey = blocks()[:, :, 1]
    for source in (saved(grey, "PNG"), saved(grey, "TIFF"), grey):
        pixels = read_picture(source).pixels
        np.testing.assert_array_equal(pixels, np.stack([grey] * 3, axis=2))


def test_a_palette_gives_its_colours() -> None:
    data = saved(Image.fromarray(blocks()).quantize(16, dither=Image.Dither.NONE), "PNG")
    assert np.abs(read_picture(data).pixels.astype(int) - blocks()).max() <= 2


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
@pytest.mark.parametrize("order", ["<u2", ">u2"])
def test_16_bit_grey_keeps_its_high_byte_instead_of_clipping(format: str, order: str) -> None:
    deep = (np.arange(40 * 60).reshape(40, 60) * 27).astype(order)  # 0 to 64,773
    if format == "TIFF":
        data = saved(
            Image.frombytes("I;16B" if order == ">u2" else "I;16", (60, 40), deep.tobytes()), "TIFF"
        )
    else:
        data = saved(Image.fromarray(deep.astype("<u2")), "PNG")
    picture = read_picture(data)
    np.testing.assert_array_equal(picture.pixels[:, :, 0], deep // 256)
    assert picture.notes == ("more than 8 bits a channel, the high 8 were used",)


def test_16_bit_rgb_keeps_its_high_byte_and_says_so() -> None:
    deep = np.random.default_rng(0).integers(0, 65536, (33, 34, 3))
    picture = read_picture(png16(deep))
    np.testing.assert_array_equal(picture.pixels, deep // 256)
    assert picture.notes == ("more than 8 bits a channel, the high 8 were used",)


def test_a_12_bit_tiff_is_scaled_by_its_own_range() -> None:
    values = np.full((32, 32), 0x0ABC)  # two 12-bit values in three bytes: AB CA BC
    data = tiff(packed=b"\xab\xca\xbc" * (values.size // 2), bits=12, photometric=1)
    assert np.unique(read_picture(data).pixels).tolist() == [0xAB]


def test_a_16_bit_tiff_where_white_is_zero_is_not_a_negative() -> None:
    data = tiff(packed=struct.pack("<1024H", *[0x1000] * 1024), bits=16, photometric=0)
    assert np.unique(read_picture(data).pixels).tolist() == [255 - 0x10]


@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP"])
def test_transparent_parts_are_laid_on_white(format: str) -> None:
    rgba = np.dstack([blocks(), np.full((40, 60), 255, np.uint8)])
    assert read_picture(saved(rgba, format)).notes == ()  # an alpha channel that hides nothing
    rgba[:, 20:, 3] = 0
    picture = read_picture(saved(rgba, format))
    np.testing.assert_array_equal(picture.pixels[:, :20], blocks()[:, :20])
    assert (picture.pixels[:, 20:] == 255).all()
    assert picture.notes == ("transparent parts were laid on white",)


def test_half_transparent_black_on_white_is_middle_grey() -> None:
    veil = Image.merge("LA", [Image.new("L", (32, 32), 0), Image.new("L", (32, 32), 128)])
    assert np.unique(read_picture(saved(veil, "PNG")).pixels).tolist() == [127]


def test_a_transparent_palette_entry_is_white() -> None:
    image = Image.new("P", (32, 32), 1)
    image.putpalette([0, 0, 0, 90, 80, 70])
    image.paste(0, (0, 0, 16, 32))
    pixels = read_picture(saved(image, "PNG", transparency=0)).pixels
    assert (pixels[:, :16] == 255).all()
    assert (pixels[:, 16:] == [90, 80, 70]).all()


def test_cmyk_is_not_a_negative() -> None:
    # Adobe stores CMYK inverted in JPEG; no ink must stay white, full cyan must take the red
    for ink, rgb in (((0, 0, 0, 0), (255, 255, 255)), ((255, 0, 0, 0), (0, 255, 255))):
        image = Image.new("CMYK", (32, 32), ink)
        for data in (saved(image, "JPEG", quality=100), saved(image, "TIFF")):
            np.testing.assert_allclose(read_picture(data).pixels[16, 16], rgb, atol=2)


def test_a_profile_other_than_srgb_is_converted() -> None:
    profile = ImageCms.ImageCmsProfile(io.BytesIO(wide_profile()))
    data = saved(blocks(), "PNG", icc_profile=wide_profile())
    expected = ImageCms.profileToProfile(
        Image.fromarray(blocks()), profile, ImageCms.createProfile("sRGB"), outputMode="RGB"
    )
    picture = read_picture(data)
    np.testing.assert_array_equal(picture.pixels, np.array(expected))
    assert np.abs(picture.pixels.astype(int) - blocks()).max() > 10
    assert picture.notes == ("colours converted from 'drawn wide' to sRGB",)


def test_linear_srgb_is_not_taken_for_srgb() -> None:
    # a fifth of white's light is half of sRGB's scale: 255 * (1.055 * 0.2159 ** (1 / 2.4) - 0.055)
    data = saved(np.full((40, 60, 3), 55, np.uint8), "PNG", icc_profile=linear_profile())
    picture = read_picture(data)
    assert np.abs(picture.pixels.astype(int) - 128).max() <= 1
    assert picture.notes == ("colours converted from 'Linear sRGB' to sRGB",)


def test_an_srgb_profile_changes_nothing_and_a_broken_one_is_said() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile, notes in ((srgb, ()), (b"x" * 200, ("its colour profile could not be applied",))):
        picture = read_picture(saved(blocks(), "PNG", icc_profile=profile))
        np.testing.assert_array_equal(picture.pixels, blocks())
        assert picture.notes == notes


def test_the_profile_of_16_bit_grey_is_applied_or_said_not_to_be() -> None:
    deep = Image.fromarray((np.arange(40 * 60).reshape(40, 60) * 27).astype("<u2"))
    told = {b"x" * 200: "its colour profile could not be applied"}
    told[wide_profile()] = "colours converted from 'drawn wide' to sRGB"
    for profile, note in told.items():
        picture = read_picture(saved(deep, "PNG", icc_profile=profile))
        assert picture.notes == ("more than 8 bits a channel, the high 8 were used", note)


@pytest.mark.parametrize("format", ["GIF", "WEBP", "TIFF", "PNG"])
def test_of_several_frames_the_first_is_used_and_said(format: str) -> None:
    first, second = (
        Image.new("RGB", (40, 32), (200, 10, 20)),
        Image.new("RGB", (40, 32), (0, 0, 255)),
    )
    picture = read_picture(saved(first, format, save_all=True, append_images=[second, first]))
    assert np.abs(picture.pixels.astype(int) - [200, 10, 20]).max() <= 2
    assert picture.notes == ("only frame 1 of several was used",)


# --- reduced scale -------------------------------------------------------------------------------


@given(st.integers(40, 420), st.integers(40, 420), st.integers(16, 500))
@settings(max_examples=40, deadline=None)
def test_reduced_decoding_never_falls_below_the_side_asked_for(h: int, w: int, side: int) -> None:
    picture = read_picture(saved(np.zeros((h, w, 3), np.uint8), "JPEG"), min_side=side)
    shorter = min(picture.pixels.shape[:2])
    assert shorter >= min(side, h, w)
    assert shorter < 4 * side or shorter == -(-min(h, w) // 8)  # and does not stay much above it
    assert picture.size == (h, w)


def test_reduced_decoding_looks_like_the_full_picture_made_small() -> None:
    drawn = draw_phantom(33, diagnosis="nv", hair=5, size=(800, 1200)).picture
    data = saved(drawn, "JPEG", quality=95, exif=oriented(6))
    reduced = read_picture(data, min_side=200)
    assert reduced.pixels.shape == (300, 200, 3)
    assert reduced.size == (1200, 800)
    small = Image.fromarray(read_picture(data).pixels).resize((200, 300), Image.Resampling.BOX)
    difference = np.abs(reduced.pixels.astype(int) - np.asarray(small))
    assert difference.mean() < 1


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"not a picture, just text", "not a picture in a known format; give JPEG, PNG"),
        (b"\0" * 5000, "not a picture in a known format"),
        (b"\0\0\0\x18ftypheic" + b"\0" * 100, "HEIC or AVIF picture or a video; save it as JPEG"),
        (b"\0" * 128 + b"DICM" + b"\0" * 100, "DICOM file; export its picture"),
        (b"RIFF\x10\0\0\0WAVEfmt ", "not a picture in a known format"),
        (b"P6 64 64 255 " + bytes(64 * 64 * 3), "not a picture in a known format"),
        (b"%PDF-1.7", "not a picture in a known format"),
    ],
)
def test_what_is_not_a_picture_is_said_to_be_none(data: bytes, words: str) -> None:
    with pytest.raises(PictureError, match=words):
        read_picture(data)


@pytest.mark.parametrize("format", [*LOSSLESS, "JPEG", "GIF"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_truncated_file_is_refused(format: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = saved(noise, format)
    with pytest.raises(PictureError, match=r"^the picture is truncated or damaged"):
        read_picture(data[: int(len(data) * share)])


@pytest.mark.parametrize(
    ("width", "height", "words"),
    [
        (100_000, 100_000, "100000 x 100000 pixels, more than 100,000,000 in all"),
        (10_001, 10_000, "10001 x 10000 pixels, more than"),
        (2**31 - 1, 2**31 - 1, "more than 100,000,000 in all"),
        (31, 500, "31 x 500 pixels; the shorter side must have at least 32"),
    ],
)
def test_absurd_dimensions_are_refused_from_the_header(width: int, height: int, words: str) -> None:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"")
    with pytest.raises(PictureError, match=words):
        read_picture(data)


def test_a_tiff_of_absurd_tiles_is_refused_however_small_its_picture_is() -> None:
    tiles = {259: (3, 5), 322: (4, 40_000), 323: (4, 40_000), 324: (4, 8), 325: (4, 100)}
    data = tiff(packed=b"\x80\0" * 50, bits=8, photometric=1, more=tiles)  # 1.6 GB if decoded
    with pytest.raises(PictureError, match="has tiles of 40000 x 40000 pixels, more than 100,000,"):
        read_picture(data)


def test_a_tiff_of_small_tiles_is_read() -> None:
    tiles = {322: (4, 32), 323: (4, 32), 324: (4, 8), 325: (4, 1024)}
    data = tiff(packed=b"\x40" * 1024, bits=8, photometric=1, more=tiles)
    assert np.unique(read_picture(data).pixels).tolist() == [0x40]


def test_a_jpeg_header_that_claims_4_gigapixels_is_refused() -> None:
    data = bytearray(saved(blocks(), "JPEG"))
    start = data.index(b"\xff\xc0")  # start of frame: length, precision, height, width
    data[start + 5 : start + 9] = b"\xff\xff\xff\xff"
    with pytest.raises(PictureError, match="65535 x 65535 pixels, more than"):
        read_picture(bytes(data))


def test_pils_own_limit_neither_warns_nor_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with warnings.catch_warnings(record=True) as leaked:
        warnings.simplefilter("always")
        for format in ("JPEG", "PNG", "BMP"):
            assert read_picture(saved(blocks(), format)).size == (40, 60)
    assert leaked == []


def test_limits_can_be_changed() -> None:
    data = saved(blocks(), "PNG")
    with pytest.raises(PictureError, match="more than 2,000 in all"):
        read_picture(data, limits=ReadLimits(max_pixels=2000))
    with pytest.raises(PictureError, match="larger than 50 bytes"):
        read_picture(data, limits=ReadLimits(max_bytes=50))
    with pytest.raises(PictureError, match="at least 41"):
        read_picture(blocks(), limits=ReadLimits(smallest_side=41))
    assert ReadLimits() == DEFAULT_LIMITS


def test_a_huge_file_is_not_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "huge.jpg"
    with path.open("wb") as file:
        file.truncate(2**40)  # a terabyte of nothing, on no disk
    with pytest.raises(PictureError, match=r"huge\.jpg is larger than 67,108,864 bytes"):
        read_picture(path)


def test_what_is_no_readable_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match=r"there is no file .*absent\.jpg"):
        read_picture(tmp_path / "absent.jpg")
    with pytest.raises(PictureError, match="is a folder; give a picture file"):
        read_picture(tmp_path)
    with pytest.raises(PictureError, match="can't read"):
        read_picture("a\0b")
    with pytest.raises(PictureError, match=r"can't read .*: File name too long"):
        read_picture("a" * 5000)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(PictureError, match="is not a regular file"):
        read_picture(tmp_path / "pipe.jpg")


def test_an_unreadable_file_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret.png"
    path.write_bytes(saved(blocks(), "PNG"))

    def refuse(*_: object, **__: object) -> None:  # root may read everything, so pretend
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(PictureError, match=r"can't read .*secret\.png: Permission denied"):
        read_picture(path)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((50, 50, 3)), r"must be uint8 .* got float64 \(50, 50, 3\)"),
        (np.zeros((50, 50, 4), np.uint8), r"got uint8 \(50, 50, 4\)"),
        (np.zeros(50, np.uint8), r"got uint8 \(50,\)"),
        (np.zeros((0, 50, 3), np.uint8), "50 x 0 pixels; the shorter side"),
    ],
)
def test_other_arrays_are_refused_with_their_shape(array: np.ndarray, words: str) -> None:
    with pytest.raises(PictureError, match=words):
        read_picture(array)


def test_number_formats_without_a_known_range_are_refused() -> None:
    real = Image.fromarray(np.ones((40, 40), np.float32))
    for source in (real, saved(real, "TIFF")):
        with pytest.raises(PictureError, match="holds floating-point values; save it as RGB"):
            read_picture(source)
    with pytest.raises(PictureError, match="holds 32-bit integers"):
        read_picture(Image.fromarray(np.ones((40, 40), np.int32)))


def test_what_the_decoder_does_not_know_is_not_called_damaged() -> None:
    colours = {277: (3, 3), 339: (3, 3), 262: (3, 2)}  # 32-bit floats in RGB
    real = tiff(packed=bytes(32 * 32 * 12), bits=32, photometric=2, more=colours)
    twelve = bytearray(saved(blocks(), "JPEG"))
    twelve[twelve.index(b"\xff\xc0") + 4] = 12  # bits a channel
    for data, words in ((real, "unknown pixel mode"), (bytes(twelve), "cannot handle 12-bit")):
        match = rf"is of a kind that can't be read \({words}.*\); save it as RGB with 8 bits"
        with pytest.raises(PictureError, match=match):
            read_picture(data)


@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP"])
def test_a_png_with_a_megabyte_of_text_is_not_called_damaged(kind: bytes) -> None:
    header, rest = (whole := saved(blocks(), "PNG"))[:33], whole[33:]
    long = chunk(kind, b"x\0\0" + zlib.compress(bytes(2 * 2**20)))
    with pytest.raises(PictureError, match="a text or colour profile of more than 1 MB; save it"):
        read_picture(header + long + rest)


def test_a_reason_that_is_only_a_number_is_left_out() -> None:
    data = tiff(packed=bytes(1024), bits=8, photometric=1, more={259: (3, 33003)})
    with pytest.raises(PictureError, match=r"^the picture is truncated or damaged$"):
        read_picture(data)


# --- damage --------------------------------------------------------------------------------------


@given(st.binary(max_size=120))
@settings(max_examples=150, deadline=None)
def test_damaged_exif_never_stops_a_picture(exif: bytes) -> None:
    for format in ("JPEG", "PNG", "WEBP"):
        picture = read_picture(saved(blocks(), format, exif=b"Exif\0\0" + exif))
        assert sorted(picture.pixels.shape) == [3, 40, 60]


def sources() -> dict[str, bytes]:
    image, twice = (
        Image.fromarray(blocks()),
        {"save_all": True, "append_images": [Image.new("RGB", (60, 40))]},
    )
    return {
        "jpeg": saved(image, "JPEG", exif=oriented(6), icc_profile=wide_profile()),
        "cmyk": saved(image.convert("CMYK"), "JPEG", progressive=True),
        "png": saved(image.quantize(9), "PNG", transparency=1),
        "apng": saved(image, "PNG", **twice),
        "webp": saved(image, "WEBP", exif=oriented(5)),
        "animated webp": saved(image, "WEBP", **twice),
        "gif": saved(image, "GIF", **twice),
        "bmp": saved(image, "BMP"),
        "tiff": saved(image, "TIFF", compression="tiff_lzw"),
        "deep tiff": saved(Image.fromarray(blocks()[:, :, 0].astype(np.uint16) * 200), "TIFF"),
        "pages": saved(image, "TIFF", compression="tiff_adobe_deflate", **twice),
    }


@pytest.mark.parametrize("kind", sorted(sources()))
def test_any_damage_ends_in_a_picture_or_one_sentence(kind: str) -> None:
    data, rng = sources()[kind], np.random.default_rng(0)
    outcomes = set()
    # every length near the header and a spread beyond, then flips everywhere
    cuts = {*range(min(len(data), 80)), *np.linspace(0, len(data), 80).astype(int).tolist()}
    damaged = [data[:cut] for cut in sorted(cuts)]
    for place in [*range(min(len(data), 160)), *rng.integers(len(data), size=160)]:
        wrong = bytearray(data)
        wrong[place] ^= int(rng.integers(1, 256))
        damaged.append(bytes(wrong))
    with warnings.catch_warnings(record=True) as leaked:
        warnings.simplefilter("always")
        for attempt in damaged:
            outcomes.add(outcome(attempt))
    assert outcomes == {"picture", "sentence"}
    assert leaked == []


def outcome(data: bytes) -> str:
    try:
        picture = read_picture(data, min_side=32, limits=ReadLimits(max_pixels=10**6))
    except PictureError as error:
        sentence = str(error)
        return "sentence" if re.fullmatch(r"the picture [^\n]+", sentence) else sentence
    assert isinstance(picture, Picture)
    assert picture.pixels.dtype == np.uint8
    assert picture.pixels.shape == (*picture.pixels.shape[:2], 3)
    return "picture"


def test_threads_that_read_together_leave_the_warning_filters_as_they_were() -> None:
    files, before = list(sources().values()), list(warnings.filters)
    wrong: list[BaseException] = []

    def read_all() -> None:
        try:
            for data in files * 3:
                read_picture(data)
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=read_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert warnings.filters == before
