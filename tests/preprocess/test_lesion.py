"""The lesion's outline and box: laws, drawn lesions of known outline, real masks."""

import csv
import random
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dermx.data.phantom import Phantom, draw_phantom
from dermx.errors import InputError
from dermx.preprocess.lesion import lesion_box, segment_lesion

PIGMENTED = ("nv", "mel", "bkl", "vasc")  # the drawn bcc, akiec and df are pale and softly bounded


def jaccard(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / max((one | other).sum(), 1))


def ellipse(
    size: tuple[int, int], centre: tuple[int, int], axes: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Brown ellipse on skin, and its mask."""
    picture = np.full((*size, 3), (205, 160, 140), np.uint8)
    mask = cv2.ellipse(np.zeros(size, np.uint8), centre, axes, 0, 0, 360, 1, cv2.FILLED) > 0
    picture[mask] = (120, 75, 55)
    return picture, mask


def drawn(seed: int, code: str, **options: int | bool | tuple[int, int]) -> Phantom:
    return draw_phantom(seed, diagnosis=code, size=(300, 400), **options)  # type: ignore[arg-type]


# --- outline -----------------------------------------------------------------------------------


def test_ellipse_on_plain_skin_is_outlined_with_the_soft_edge_an_expert_adds() -> None:
    picture, truth = ellipse((300, 400), (210, 140), (80, 55))
    found = segment_lesion(picture)
    assert (found & truth).sum() > 0.995 * truth.sum()
    assert found.sum() < 1.2 * truth.sum()


def test_drawn_lesions_are_outlined() -> None:
    scores = [
        jaccard(segment_lesion(phantom.picture), phantom.lesion)
        for seed in range(5)
        for phantom in [drawn(seed, code) for code in PIGMENTED]
    ]
    assert np.mean(scores) > 0.8
    assert min(scores) > 0.6


def test_hair_and_dark_corners_change_the_outline_little() -> None:
    for seed, code in enumerate(PIGMENTED):
        plain, busy = drawn(seed, code), drawn(seed, code, hair=15, vignette=True)
        assert jaccard(segment_lesion(plain.picture), segment_lesion(busy.picture)) > 0.85


def test_dark_corners_are_no_lesion() -> None:
    picture, truth = ellipse((300, 400), (200, 150), (40, 40))
    field = cv2.circle(np.zeros((300, 400), np.uint8), (200, 150), 190, 1, cv2.FILLED) > 0
    picture[~field] = 8
    assert jaccard(segment_lesion(picture), truth) > 0.8


def test_uneven_light_is_no_lesion() -> None:
    picture, truth = ellipse((300, 400), (200, 150), (60, 45))
    fall = np.linspace(1.0, 0.65, 400)[None, :, None]
    assert jaccard(segment_lesion((picture * fall).astype(np.uint8)), truth) > 0.8


def test_central_lesion_is_chosen_over_a_larger_one_at_the_rim() -> None:
    picture, truth = ellipse((300, 400), (200, 150), (45, 40))
    rim, other = ellipse((300, 400), (20, 280), (70, 60))
    picture[other] = rim[other]
    found = segment_lesion(picture)
    assert jaccard(found, truth) > 0.75
    assert not found[other].any()


@pytest.mark.parametrize("factor", [0.5, 0.75, 2.0])
def test_outline_does_not_depend_on_the_resolution(factor: float) -> None:
    phantom = drawn(1, "nv")
    size = (round(400 * factor), round(300 * factor))
    scaled = cv2.resize(phantom.picture, size, interpolation=cv2.INTER_AREA)
    back = cv2.resize(segment_lesion(scaled).astype(np.uint8), (400, 300)) > 0
    assert jaccard(back, segment_lesion(phantom.picture)) > 0.93


@pytest.mark.parametrize("axis", [0, 1])
def test_mirrored_picture_has_the_mirrored_outline(axis: int) -> None:
    picture = drawn(2, "mel").picture
    mirrored = np.ascontiguousarray(np.flip(picture, axis))
    assert jaccard(np.flip(segment_lesion(mirrored), axis), segment_lesion(picture)) > 0.95


def test_outline_is_one_piece_without_holes() -> None:
    for seed, code in enumerate(PIGMENTED):
        found = segment_lesion(drawn(seed, code, hair=10).picture).astype(np.uint8)
        assert cv2.connectedComponents(found)[0] == 2
        around = cv2.copyMakeBorder(1 - found, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=1)
        assert cv2.connectedComponents(around, connectivity=4)[0] == 2


# --- box ---------------------------------------------------------------------------------------


def test_box_without_margin_is_the_bounding_box_of_the_outline_to_two_pixels() -> None:
    for seed, code in enumerate(PIGMENTED):
        picture = drawn(seed, code).picture
        rows, columns = np.nonzero(segment_lesion(picture))
        expected = (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1)
        assert lesion_box(picture, margin=0) == pytest.approx(expected, abs=2)


def test_default_box_holds_the_drawn_lesion() -> None:
    for seed in range(4):
        for code in PIGMENTED:
            phantom = drawn(seed, code, hair=8)
            top, left, bottom, right = lesion_box(phantom.picture)
            inside = phantom.lesion[top:bottom, left:right].sum()
            assert inside > 0.99 * phantom.lesion.sum()


@pytest.mark.parametrize("margin", [0.1, 0.25, 0.5])
def test_margin_adds_its_share_of_each_side_at_each_end(margin: float) -> None:
    picture, _ = ellipse((600, 600), (300, 300), (60, 40))
    top, left, bottom, right = lesion_box(picture, margin=0)
    height, width = bottom - top, right - left
    expected = (
        top - margin * height,
        left - margin * width,
        bottom + margin * height,
        right + margin * width,
    )
    assert lesion_box(picture, margin=margin) == pytest.approx(expected, abs=2)


def test_margin_stops_at_the_picture() -> None:
    picture, _ = ellipse((300, 400), (200, 150), (80, 60))
    assert lesion_box(picture, margin=5) == (0, 0, 300, 400)


@pytest.mark.parametrize("noise", [0, 5, 20])
def test_plain_skin_has_no_lesion_and_the_box_is_the_whole_picture(noise: int) -> None:
    rng = np.random.default_rng(noise)
    skin = np.array([205, 160, 140]) + noise * rng.standard_normal((300, 400, 3))
    picture = np.clip(skin, 0, 255).astype(np.uint8)
    assert not segment_lesion(picture).any()
    assert lesion_box(picture) == (0, 0, 300, 400)


@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    seed=st.integers(0, 2**16),
    margin=st.floats(0, 3),
)
@settings(max_examples=30, deadline=None)
def test_box_is_never_empty_and_inside_the_picture(
    height: int, width: int, seed: int, margin: float
) -> None:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (4, 4, 3), np.uint8)
    picture = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    top, left, bottom, right = lesion_box(picture, margin=margin)
    assert 0 <= top < bottom <= height
    assert 0 <= left < right <= width
    assert all(type(bound) is int for bound in (top, left, bottom, right))
    assert segment_lesion(picture).shape == (height, width)


@pytest.mark.parametrize("size", [(2, 3000), (3000, 2), (30, 900), (1, 1)])
@pytest.mark.parametrize("level", [0, 128, 255])
def test_extreme_shapes_and_levels_give_the_whole_picture(
    size: tuple[int, int], level: int
) -> None:
    assert lesion_box(np.full((*size, 3), level, np.uint8)) == (0, 0, *size)


def test_lesion_in_a_panorama_is_found() -> None:
    picture, truth = ellipse((120, 1200), (600, 60), (40, 35))
    assert jaccard(segment_lesion(picture), truth) > 0.6


@pytest.mark.parametrize("margin", [-0.1, float("nan"), float("inf")])
def test_margin_that_is_no_share_is_refused(margin: float) -> None:
    with pytest.raises(InputError, match=f"0 or more, got {margin}"):
        lesion_box(np.zeros((10, 10, 3), np.uint8), margin=margin)


def test_what_is_no_rgb_picture_is_refused() -> None:
    for function in (segment_lesion, lesion_box):
        with pytest.raises(InputError, match=r"got shape \(10, 10\) and type uint8"):
            function(np.zeros((10, 10), np.uint8))


# --- real pictures -----------------------------------------------------------------------------


@pytest.mark.data
def test_real_masks_are_met(real_data: Path) -> None:
    """Sixty random pictures; the mean over all 10,015 is in docs/PREPROCESSING.md."""
    folder = real_data / "ham10000"
    with (folder / "HAM10000_metadata.csv").open(newline="") as file:
        images = sorted(row["image_id"] for row in csv.DictReader(file))
    scores = []
    for image in random.Random(3).sample(images, 60):
        (path,) = folder.glob(f"HAM10000_images_part_[12]/{image}.jpg")
        mask = folder / "HAM10000_segmentations_lesion_tschandl" / f"{image}_segmentation.png"
        truth = cv2.imread(str(mask), cv2.IMREAD_GRAYSCALE) > 0
        picture = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        scores.append(jaccard(segment_lesion(picture), truth))
    assert np.mean(scores) > 0.78
    assert np.mean(np.array(scores) < 0.5) < 0.15
