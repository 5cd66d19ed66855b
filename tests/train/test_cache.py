import os
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dermx.errors import PictureError
from dermx.preprocess.reading import read_picture
from dermx.train.cache import open_cache


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
    open_cache(tmp_path / "cache", paths, decode, recipe="as is")
    dark = open_cache(tmp_path / "cache", paths, lambda p: decode(p) * 0, recipe="dark")
    assert dark[5].max() == 0
    Image.fromarray(np.full((33, 33, 3), 99, np.uint8)).save(paths[0])
    changed = open_cache(tmp_path / "cache", paths, decode, recipe="dark")
    assert (changed[0] == 99).all()


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
