"""A drawn heat map shows the map's values and nothing else, only where the model looked."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dermx.diagnoses import CODES
from dermx.errors import InputError
from dermx.explain.overlay import (
    Tile,
    colours,
    contact_sheet,
    overlay,
    panel,
    percent,
    save_overlay,
    seen,
    strongest,
)
from dermx.records import Assessment, View

EVERYWHERE = np.ones((40, 60), bool)


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)


@pytest.fixture
def assessment() -> Assessment:
    """Of a 400 x 300 picture whose centre square was seen; the map is 1 at the top left."""
    maps = np.zeros((8, 3, 3), np.float32)
    maps[CODES.index("mel"), 0, 0] = 1
    return Assessment(
        image="folder/lesion.jpg",
        size=(300, 400),
        probabilities={code: 0.65 if code == "mel" else 0.05 for code in CODES},
        view=View(left=0.125, width=0.75),
        maps=maps,
    )


def ramp(height: int = 40, width: int = 60) -> np.ndarray:
    return np.linspace(0, 1, height * width, dtype=np.float32).reshape(height, width)


def test_the_scale_runs_through_viridis() -> None:
    low, high = colours(np.float32([[0, 1]]))[0]
    np.testing.assert_allclose(low, (68, 1, 84), atol=2)  # matplotlib's viridis ends
    np.testing.assert_allclose(high, (253, 231, 37), atol=2)


def test_more_is_brighter_so_the_scale_survives_a_grey_print() -> None:
    shades = colours(np.linspace(0, 1, 256, dtype=np.float32)[None])[0]
    brightness = shades @ np.array([0.299, 0.587, 0.114])
    assert (np.diff(brightness) > -1).all()
    assert brightness[-1] - brightness[0] > 150


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5])
def test_the_strongest_share_is_that_share_and_the_strongest(share: float) -> None:
    marked = strongest(ramp(), EVERYWHERE, share)
    assert marked.mean() == pytest.approx(share, abs=0.001)
    assert ramp()[marked].min() > ramp()[~marked].max()


def test_the_share_is_of_what_was_seen() -> None:
    inside = seen(View(left=0.5, width=0.5), (40, 60))
    assert inside.mean() == 0.5
    marked = strongest(ramp(), inside)
    assert marked.sum() == pytest.approx(0.2 * inside.sum(), abs=1)
    assert not marked[~inside].any()


def test_where_little_is_above_zero_only_that_is_marked() -> None:
    heat = np.zeros((40, 60), np.float32)
    assert not strongest(heat, EVERYWHERE).any()
    heat[3, 4] = 0.1
    assert np.argwhere(strongest(heat, EVERYWHERE)).tolist() == [[3, 4]]
    assert not strongest(heat, ~EVERYWHERE).any()


def test_what_was_not_seen_has_no_colour(picture: np.ndarray) -> None:
    inside = seen(View(left=0.125, width=0.75), (300, 400))
    drawn = overlay(picture, ramp(300, 400), inside)
    outside = drawn[~inside]
    assert (outside == outside[:, :1]).all()  # grey: R = G = B
    assert (drawn[inside].max(axis=1) > drawn[inside].min(axis=1)).mean() > 0.9


def test_without_opacity_the_grey_picture_stays(picture: np.ndarray) -> None:
    nothing = np.zeros((300, 400), np.float32)  # no contour either
    drawn = overlay(picture, nothing, np.ones((300, 400), bool), opacity=0)
    grey = picture @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(drawn[..., 0], grey, atol=1)


def test_at_full_opacity_only_the_scale_is_seen(picture: np.ndarray) -> None:
    nothing = np.zeros((300, 400), np.float32)
    drawn = overlay(picture, nothing, np.ones((300, 400), bool), opacity=1)
    assert (drawn == colours(nothing)).all()


def test_the_contour_lies_on_the_edge_of_the_strongest_part() -> None:
    heat = np.zeros((100, 100), np.float32)
    heat[40:60, 40:60] = 1
    drawn = overlay(np.full((100, 100, 3), 128, np.uint8), heat, np.ones((100, 100), bool))
    white = (drawn > 240).all(axis=2)
    rows, columns = np.nonzero(white)
    assert white.any()
    assert 37 <= rows.min() <= 41
    assert 58 <= columns.max() <= 62
    assert not white[45:55, 45:55].any()


def test_sizes_and_opacity_are_checked(picture: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"picture \(300, 400, 3\), map \(40, 60\)"):
        overlay(picture, ramp(), EVERYWHERE)
    with pytest.raises(InputError, match=r"opacity must be in \[0, 1\], got 1\.5"):
        overlay(picture, ramp(300, 400), np.ones((300, 400), bool), opacity=1.5)
    with pytest.raises(InputError, match="share must be between 0 and 1, got 0"):
        strongest(ramp(), EVERYWHERE, 0)


def test_the_panel_shows_the_original_untouched(
    picture: np.ndarray, assessment: Assessment
) -> None:
    drawn = panel(picture, assessment)
    found = [
        (top, left)
        for top in range(drawn.shape[0] - 299)
        for left in range(0, 60)
        if (drawn[top, left] == picture[0, 0]).all()
        and (drawn[top : top + 300, left : left + 400] == picture).all()
    ]
    assert len(found) == 1


def test_the_panel_differs_by_class(picture: np.ndarray, assessment: Assessment) -> None:
    predicted, named = panel(picture, assessment), panel(picture, assessment, "mel")
    assert (predicted == named).all()
    assert (panel(picture, assessment, "nv") != named).any()
    with pytest.raises(InputError, match="no class 'flu'; the classes are nv, mel"):
        panel(picture, assessment, "flu")


@pytest.mark.parametrize("size", [(32, 32), (40, 2000), (3000, 60), (700, 900)])
def test_any_shape_of_picture_makes_a_picture_one_can_look_at(
    assessment: Assessment, size: tuple[int, int]
) -> None:
    pixels = np.zeros((*size, 3), np.uint8)
    drawn = panel(pixels, replace(assessment, size=size, view=View()))
    assert 560 <= drawn.shape[1] <= 2 * 640 + 300
    assert drawn.shape[0] <= 640 + 200


def test_a_saved_overlay_is_the_panel(
    picture: np.ndarray, assessment: Assessment, tmp_path: Path
) -> None:
    save_overlay(tmp_path / "deep" / "lesion.png", picture, assessment, "mel")
    with Image.open(tmp_path / "deep" / "lesion.png") as image:
        assert (np.asarray(image) == panel(picture, assessment, "mel")).all()


def test_a_panel_shows_the_map_it_is_handed(picture: np.ndarray, assessment: Assessment) -> None:
    other = np.zeros((3, 3), np.float32)
    other[2, 2] = 1
    drawn = panel(picture, assessment, "mel", cells=other, against="nv")
    assert (drawn != panel(picture, assessment, "mel")).any()
    maps = assessment.maps.copy()
    maps[CODES.index("mel")] = other
    same_map = panel(picture, replace(assessment, maps=maps), "mel")
    assert (drawn[64:364] == same_map[64:364]).all()  # pictures alike, captions above differ
    assert (drawn[:64] != same_map[:64]).any()
    with pytest.raises(InputError, match="no class 'flu'; the classes are nv, mel"):
        panel(picture, assessment, "mel", cells=other, against="flu")


def test_a_contrast_s_title_names_both_classes_whole(assessment: Assessment) -> None:
    small = np.zeros((300, 40, 3), np.uint8)
    other = np.ones((3, 3), np.float32)
    plain = panel(small, assessment, "akiec", cells=other)
    contrast = panel(small, assessment, "akiec", cells=other, against="nv")
    assert contrast.shape[1] > plain.shape[1]  # made as wide as the title
    title = contrast[:38]
    assert (title[:, -20:] == 255).all()  # with a margin behind it
    assert (title[:, -60:-24] != 255).any()


def test_a_contact_sheet_shows_what_a_model_saw_that_cuts_to_the_lesion() -> None:
    pixels = np.full((300, 600, 3), 230, np.uint8)
    pixels[90:210, 10:130] = 60  # a lesion at the left, all that was seen
    seen_part = View(left=10 / 600, top=0.3, width=0.2, height=0.4)
    tile = Tile(pixels, np.ones((2, 2), np.float32), seen_part, "lesion")
    sheet = contact_sheet("one", [("all", [tile])])
    assert (sheet == 60).all(axis=2).sum() == pytest.approx(150 * 150, rel=0.02)
    assert (sheet == 230).all(axis=2).sum() < 20  # of the letters' edges; no skin


def test_a_contact_sheet_shows_the_whole_of_what_was_seen_where_that_is_no_square() -> None:
    pixels = np.full((300, 600, 3), 230, np.uint8)
    pixels[100:200, 200:400] = 60  # all that was seen: twice as wide as high
    part = View(left=1 / 3, top=1 / 3, width=1 / 3, height=1 / 3)
    sheet = contact_sheet("one", [("all", [Tile(pixels, np.ones((2, 2), np.float32), part, "")])])
    assert (sheet == 60).all(axis=2).sum() == pytest.approx(150 * 75, rel=0.03)


def test_a_contact_sheet_shows_every_picture_beside_its_map() -> None:
    def tile(shade: int) -> Tile:
        pixels = np.full((150, 200, 3), shade, np.uint8)
        return Tile(pixels, np.zeros((2, 2), np.float32), View(), f"shade {shade}")

    sheet = contact_sheet(
        "all", [("first", [tile(10), tile(60)]), ("none", []), ("last", [tile(90)])]
    )
    purple = (colours(np.zeros((1, 1), np.float32))[0, 0] * 0.55).round()
    for shade in (10, 60, 90):
        there = (sheet == shade).all(axis=2)
        assert there.sum() == pytest.approx(150 * 150, rel=0.02)
        rows, columns = np.nonzero(there)
        beside = sheet[rows.min() + 75, columns.max() + 75]
        np.testing.assert_allclose(beside, purple + 0.45 * shade, atol=2)
    assert contact_sheet("nothing", []).shape[1] >= 560


def test_a_hole_in_the_strongest_part_is_outlined_too() -> None:
    """Else the line would hold what is not strong."""
    heat = np.zeros((100, 100), np.float32)
    heat[30:70, 30:70] = 1
    heat[40:60, 40:60] = 0
    drawn = overlay(np.full((100, 100, 3), 128, np.uint8), heat, np.ones((100, 100), bool))
    white = (drawn > 240).all(axis=2)
    assert white[50, 28:33].any()  # outside
    assert white[50, 38:43].any()  # inside
    assert not white[45:55, 45:55].any()


def test_no_probability_is_rounded_to_certainty(
    picture: np.ndarray, assessment: Assessment
) -> None:
    def titled(probability: float) -> np.ndarray:
        changed = {**assessment.probabilities, "nv": probability}
        return panel(picture, replace(assessment, probabilities=changed), "nv")[:38]

    assert [percent(p) for p in (0.0, 0.0099, 0.01)] == ["<1%", "<1%", "1%"]
    assert [percent(p) for p in (0.99, 0.9901, 1.0)] == ["99%", ">99%", ">99%"]
    assert (titled(0.0) == titled(0.009)).all()
    assert (titled(1.0) == titled(0.991)).all()
    assert titled(0.5).shape != titled(0.51).shape or (titled(0.5) != titled(0.51)).any()


def test_names_and_the_bar_s_ends_have_room_beside_any_picture(assessment: Assessment) -> None:
    tall = panel(np.zeros((3000, 60, 3), np.uint8), replace(assessment, view=View()))
    named = (tall[40:60] != 255).any(axis=(0, 2))  # columns with letters
    assert named[24:216].nonzero()[0].max() > 50  # the name, uncut over a picture of 13 pixels
    assert named[240:432].nonzero()[0].max() > 100  # what speaks for melanoma
    wide = panel(np.zeros((40, 2000, 3), np.uint8), replace(assessment, view=View()))
    beside = (wide[:, 3 * 24 + 2 * 640 + 20 :] != 255).any(axis=(1, 2))  # rows with letters
    rows = np.flatnonzero(beside)
    assert (np.diff(rows) > 5).any()  # "most" and "none" don't meet


def test_without_a_line_none_is_explained(picture: np.ndarray, assessment: Assessment) -> None:
    whole = replace(assessment, view=View())
    foots = [
        (panel(picture, whole, "mel", cells=np.float32(cells))[-48:] != 255).any(axis=(0, 2)).sum()
        for cells in ([[0, 1]], [[1]], [[0]])
    ]
    assert foots[0] > 2 * foots[1] == 2 * foots[2]


def test_a_name_of_two_lines_is_shown_in_one(picture: np.ndarray, assessment: Assessment) -> None:
    one, two = (replace(assessment, image=f"a{gap}b.jpg") for gap in (" ", "\n"))
    np.testing.assert_array_equal(panel(picture, two), panel(picture, one))
