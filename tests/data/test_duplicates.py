"""Copies are found however they were saved or turned, and look-alikes are not."""

from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import pytest

from dermx.data.duplicates import COARSE, _candidates, _coarse, find_duplicates, texture, turned


def skin(seed: int, height: int = 180, width: int = 240) -> np.ndarray:
    """A dark blob with spots of its own on skin; every seed has the same outline."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    blob = ((x - width / 2) / (width / 5)) ** 2 + ((y - height / 2) / (height / 4)) ** 2 < 1
    image = np.where(blob[..., None], (110.0, 70.0, 60.0), (215.0, 170.0, 150.0))
    for size in (3, 8):  # fine and coarse structure
        spots = cv2.GaussianBlur(rng.normal(size=(height, width)), (0, 0), size)
        image += 25 * (spots / spots.std())[..., None]
    return np.clip(image, 0, 255).astype(np.uint8)


def save(path: Path, rgb: np.ndarray, quality: int = 90) -> Path:
    assert cv2.imwrite(str(path), rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return path


def read(path: Path) -> np.ndarray:
    return cv2.imread(str(path))[..., ::-1]


CHANGES = {
    "re-encoded": lambda rgb: rgb,
    "resized": lambda rgb: cv2.resize(rgb, (150, 112), interpolation=cv2.INTER_AREA),
    "mirrored": lambda rgb: rgb[:, ::-1],
    "upside down": lambda rgb: rgb[::-1],
    "turned right": lambda rgb: np.rot90(rgb, -1),
    "turned left and mirrored": lambda rgb: np.rot90(rgb)[:, ::-1],
    "darker, another cast": lambda rgb: (rgb * (0.6, 0.7, 0.8)).astype(np.uint8),
    "edges cut off": lambda rgb: rgb[6:-4, 9:-3],
    "shifted": lambda rgb: np.roll(rgb, (2, -3), axis=(0, 1)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found_among_other_pictures(tmp_path: Path, change: str) -> None:
    others = [save(tmp_path / f"{i}.jpg", skin(i)) for i in range(1, 6)]
    original = save(tmp_path / "original.jpg", skin(0))
    copy = save(tmp_path / "copy.jpg", np.ascontiguousarray(CHANGES[change](skin(0))), quality=60)
    (found,) = find_duplicates([*others, original, copy], read)
    assert (found.first, found.second, found.exact) == (original, copy, False)
    assert 0.27 < found.score <= 1


def test_the_same_bytes_are_exact_and_score_one(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{name}.jpg", skin(0)) for name in "ab"]
    (found,) = find_duplicates(paths, read)
    assert (found.first, found.second, found.exact, found.score) == (*paths, True, 1.0)


def test_pairs_come_in_the_order_of_their_files(tmp_path: Path) -> None:
    first = [save(tmp_path / f"{i}.jpg", skin(i, 128, 160)) for i in range(8)]
    again = [save(tmp_path / f"{i}b.jpg", skin(i, 128, 160), 60) for i in reversed(range(8))]
    found = find_duplicates([*first, *again], read)
    assert [(one.first, one.second) for one in found] == list(zip(first, again[::-1], strict=True))


def test_of_three_files_with_the_same_bytes_every_pair_is_exact(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{name}.jpg", skin(0)) for name in "abc"]
    found = find_duplicates(paths, read)
    assert [(one.first, one.second) for one in found] == list(combinations(paths, 2))
    assert all(one.exact and one.score == 1.0 for one in found)


def test_thirty_blobs_of_one_outline_are_thirty_pictures(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{i}.jpg", skin(i)) for i in range(30)]
    assert find_duplicates(paths, read) == []


def test_dark_corners_of_a_dermatoscope_make_no_duplicates(tmp_path: Path) -> None:
    y, x = np.ogrid[-1:1:180j, -1:1:240j]
    inside = (x * x + y * y < 1)[..., None]
    paths = [save(tmp_path / f"{i}.jpg", skin(i) * inside.astype(np.uint8)) for i in range(20)]
    assert find_duplicates(paths, read) == []


def test_flat_pictures_have_nothing_to_compare_but_their_bytes(tmp_path: Path) -> None:
    flat = [save(tmp_path / f"{v}.jpg", np.full((64, 64, 3), v, np.uint8)) for v in (0, 90, 255)]
    assert find_duplicates(flat, read) == []
    twin = save(tmp_path / "twin.jpg", np.full((64, 64, 3), 90, np.uint8))
    (found,) = find_duplicates([*flat, twin], read)
    assert (found.first, found.exact) == (flat[1], True)


def test_each_file_is_read_once_and_progress_counts_to_the_end(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{i}.jpg", skin(i, 90, 120)) for i in range(3)]
    seen, told = [], []
    find_duplicates(paths, lambda p: (seen.append(p), read(p))[1], lambda *n: told.append(n))
    assert seen == paths
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert find_duplicates([], read) == []


def test_the_eight_ways_are_all_different_and_each_can_be_undone() -> None:
    square = np.arange(9, dtype=np.float32).reshape(3, 3)
    ways = [turned(square, way) for way in range(8)]
    assert not any(np.array_equal(a, b) for a, b in combinations(ways, 2))
    for one in ways:
        assert sum(np.array_equal(turned(one, way), square) for way in range(8)) == 1


def test_texture_ignores_brightness_and_most_of_contrast() -> None:
    grey = skin(3)[..., 0].astype(np.float32)
    changed = texture(0.5 * grey + 40)
    assert np.corrcoef(texture(grey).ravel(), changed.ravel())[0, 1] > 0.99
    assert np.abs(texture(np.full((32, 32), 77, np.float32))).max() == pytest.approx(0, abs=1e-4)


def test_candidates_agree_with_correlating_every_pair_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dermx.data.duplicates.BLOCK", 3)  # several blocks for seven pictures
    small = [cv2.resize(skin(i)[..., 0], (128, 128)) for i in range(4)]
    small += [
        small[1][:, ::-1],
        np.rot90(small[2]),
        np.clip(small[0] + 9.0, 0, 255).astype(np.uint8),
    ]
    coarse = np.stack([_coarse(np.ascontiguousarray(s)) for s in small])
    disc = np.hypot(*np.ogrid[-31:32:2, -31:32:2]) < 0.8 * 32
    assert not coarse[:, ~disc].any()
    assert coarse[:, disc].all()
    expected = {
        (i, j, way)
        for i, j in combinations(range(7), 2)
        for way in range(8)
        if np.corrcoef(turned(coarse[i], way)[disc], coarse[j][disc])[0, 1] >= COARSE
    }
    found = list(_candidates(coarse))
    assert set(found) == expected
    assert len(found) == len(expected)
    assert {(1, 4), (2, 5), (0, 6)} <= {pair[:2] for pair in expected}


@pytest.mark.data
def test_known_pairs_of_the_real_data_are_found(real_data: Path) -> None:
    folder = real_data / "dermnet" / "Acne and Rosacea Photos"
    parts = real_data / "ham10000"
    names = (
        ["ISIC_0024366", "ISIC_0029861", "ISIC_0024777", "ISIC_0029938"]  # byte for byte
        + ["ISIC_0027027", "ISIC_0029036", "ISIC_0030074", "ISIC_0025226"]  # two lesion ids each
        + [f"ISIC_{i:07d}" for i in range(24306, 24346)]  # forty others
    )
    paths = [next(parts.glob(f"HAM10000_images_part_*/{name}.jpg")) for name in names]
    copies = ("acne-closed-comedo-6", "acne-closed-comedo-61 - Copy")  # mirrored and re-encoded
    found = find_duplicates(paths + [folder / f"{name}.jpg" for name in copies], read)
    pairs = {(d.first.stem, d.second.stem): d.exact for d in found}
    assert pairs == {
        ("ISIC_0024366", "ISIC_0029861"): True,
        ("ISIC_0024777", "ISIC_0029938"): True,
        ("ISIC_0027027", "ISIC_0029036"): False,
        ("ISIC_0030074", "ISIC_0025226"): False,
        copies: False,
    }
