import os
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dermx.errors import DataError, PictureError
from dermx.preprocess.reading import read_picture
from dermx.train.cache import PixelCache, open_cache


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    made = []
    for i in range(9):
        path = tmp_path / f"{i}.png"
        Image.fromarray(np.full((32 + i, 50 - i, 3), i, np.uint8)).save(path)
        made.append(path)
    return made


def decode(path: Path) -> np.ndarray:
    return read_picture(path).pixels


def test_gives_back_every_picture_with_its_own_shape(paths: list[Path], tmp_path: Path) -> None:
    cache = open_cache(tmp_path / "cache", paths, decode, recipe="as is", threads=3)
    assert len(cache) == 9
    for i in range(9):
        assert cache[i].shape == (32 + i, 50 - i, 3)
        assert (cache[i] == i).all()


def test_a_second_opening_decodes_nothing(paths: list[Path], tmp_path: Path) -> None:
    open_cache(tmp_path / "cache", paths, decode, recipe="as is")

    def fail(path: Path) -> np.ndarray:
        raise AssertionError(path)

    assert (open_cache(tmp_path / "cache", paths, fail, recipe="as is")[3] == 3).all()


def test_another_recipe_or_a_changed_file_is_decoded_anew(
    paths: list[Path], tmp_path: Path
) -> None:
    folder, said = tmp_path / "cache", []
    open_cache(folder, paths, decode, recipe="as is", say=said.append)
    assert said == []
    dark = open_cache(folder, paths, lambda p: decode(p) * 0, recipe="dark", say=said.append)
    assert dark[5].max() == 0
    Image.fromarray(np.full((33, 33, 3), 99, np.uint8)).save(paths[0])
    changed = open_cache(folder, paths, decode, recipe="dark", say=said.append)
    assert (changed[0] == 99).all()
    open_cache(folder, paths, decode, recipe="dark", say=said.append)
    told = f"{folder}: of other settings, or the pictures have changed since; decoded anew"
    assert said == [told, told]


@pytest.mark.parametrize("name", ["index.npz", "pixels.bin"])
def test_a_damaged_cache_is_decoded_anew(paths: list[Path], tmp_path: Path, name: str) -> None:
    folder = tmp_path / "cache"
    open_cache(folder, paths, decode, recipe="as is")
    content = (folder / name).read_bytes()
    for damaged in (b"", content[: len(content) // 2], content[:-1]):
        (folder / name).write_bytes(damaged)
        cache = open_cache(folder, paths, decode, recipe="as is")
        assert all((cache[i] == i).all() for i in range(9))


def test_one_index_beside_the_pixels_of_another_run_is_no_cache(
    paths: list[Path], tmp_path: Path
) -> None:
    """As two runs leave it that fill one folder at once; both have pictures of the same sizes."""
    light, dark = tmp_path / "light", tmp_path / "dark"
    key = open_cache(light, paths, decode, recipe="as is").key
    open_cache(dark, paths, lambda path: decode(path) * 0, recipe="dark")
    (dark / "pixels.bin").replace(light / "pixels.bin")
    with pytest.raises(DataError, match="does not hold the decoded pictures of this run"):
        PixelCache(light, key)
    assert (open_cache(light, paths, decode, recipe="as is")[5] == 5).all()


def test_a_run_whose_cache_was_filled_by_another_meanwhile_is_told_so(
    paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, save = tmp_path / "cache", np.savez

    def late(file: object, **arrays: np.ndarray) -> None:  # the other is done before the index is
        monkeypatch.setattr(np, "savez", save)
        open_cache(folder, paths, lambda path: decode(path) * 0, recipe="dark")
        save(file, **arrays)

    monkeypatch.setattr(np, "savez", late)
    with pytest.raises(DataError, match="another run fills it, give each its own --cache"):
        open_cache(folder, paths, decode, recipe="as is")


def test_a_broken_picture_leaves_no_half_cache(paths: list[Path], tmp_path: Path) -> None:
    paths[4].write_bytes(b"not a picture")
    with pytest.raises(PictureError, match=re.escape("4.png")):
        open_cache(tmp_path / "cache", paths, decode, recipe="as is")
    assert list((tmp_path / "cache").iterdir()) == []


def test_what_a_killed_run_left_is_removed_and_what_another_writes_is_not(
    paths: list[Path], tmp_path: Path
) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    left = [
        folder / name for name in (".pixels.bin.0ab_cdef", ".dermx-0ab_cdef", ".dermx-writing_")
    ]
    for path in left:
        path.write_bytes(b"half")
    for path in left[:2]:
        os.utime(path, (0, 0))
    open_cache(folder, paths, decode, recipe="as is")
    assert [path.exists() for path in left] == [False, False, True]


def test_pictures_are_read_only(paths: list[Path], tmp_path: Path) -> None:
    cache = open_cache(tmp_path / "cache", paths, decode, recipe="as is")
    with pytest.raises(ValueError, match="read-only"):
        cache[0][:] = 1


def test_another_process_gets_the_file_not_a_copy_of_the_pixels(
    paths: list[Path], tmp_path: Path
) -> None:
    cache = open_cache(tmp_path / "cache", paths, decode, recipe="as is")
    sent = pickle.dumps(cache)
    assert len(sent) < 300 < cache.pixels.size
    assert np.array_equal(pickle.loads(sent)[7], cache[7])
