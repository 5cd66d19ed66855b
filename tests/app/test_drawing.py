"""Pictures of the page: the map in its place, no metadata, switches that do what they say."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image
from tests.app.conftest import red

from dermx.app import drawing
from dermx.data.phantom import draw_phantom
from dermx.records import Assessment

Make = Callable[..., Assessment]


def test_at_opacity_0_the_map_is_grey_and_at_1_it_shows_nothing_of_the_picture(
    assessed: Make,
) -> None:
    clear = drawing.mapped(red(), assessed(), "mel", 0.0)  # an empty map: no line either
    assert (clear.max(axis=2) == clear.min(axis=2)).all()
    full = drawing.mapped(red(), assessed(), "mel", 1.0)
    other = drawing.mapped(red() // 2, assessed(), "mel", 1.0)
    inside = slice(10, 70)  # the view leaves an eighth at each side
    np.testing.assert_array_equal(full[:, inside], other[:, inside])


def test_the_map_of_another_class_is_another_picture(assessed: Make) -> None:
    one, two = (drawing.mapped(red(), assessed(), code, 0.5) for code in ("nv", "mel"))
    assert (one != two).any()


def test_it_is_known_whether_the_model_saw_the_whole_picture(assessed: Make) -> None:
    assert drawing.cut_off(red(), assessed())


def test_what_is_handed_out_holds_pixels_and_nothing_else() -> None:
    image = Image.open(io.BytesIO(drawing.jpeg(red())))
    assert not image.getexif()
    assert set(image.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}


def test_the_frame_is_around_the_lesion_and_absent_on_plain_skin() -> None:
    phantom = draw_phantom(33, size=(150, 200), diagnosis="nv")
    box = drawing.find_box(phantom.picture)
    assert box is not None
    top, left, bottom, right = box
    assert phantom.lesion[top:bottom, left:right].sum() > 0.9 * phantom.lesion.sum()
    assert drawing.find_box(red()) is None
    drawn = drawing.framed(phantom.picture, box)
    assert (drawn[top, left:right].mean(axis=1) > 200).mean() > 0.5  # white on its upper edge


@pytest.mark.parametrize("hair", [0, 12])
def test_hair_is_removed_where_there_is_hair(hair: int) -> None:
    phantom = draw_phantom(24, diagnosis="mel", hair=hair)
    clean, found = drawing.without_hair(phantom.picture)
    assert found == (hair > 0)
    before = np.abs(phantom.picture.astype(int) - phantom.clean)[phantom.hair].sum()
    after = np.abs(clean.astype(int) - phantom.clean)[phantom.hair].sum()
    assert after < 0.5 * before if hair else after == before


def test_a_thumbnail_is_the_centre_square() -> None:
    wide = red(60, 120)
    wide[:, :30] = wide[:, 90:] = 0
    assert drawing.thumbnail(wide, 20).shape == (20, 20, 3)
    assert (drawing.thumbnail(wide, 20)[..., 0] == 255).all()
