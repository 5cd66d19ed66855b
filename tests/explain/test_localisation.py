"""Pointing game and energy, worked by hand on pictures of a few pixels."""

import numpy as np
import pytest

from dermx.errors import InputError
from dermx.explain.faithfulness import centred_gaussian
from dermx.explain.localisation import Localised, localise, summarise
from dermx.records import View

LEFT_HALF = np.zeros((4, 8), bool)
LEFT_HALF[:, :4] = True


def test_energy_and_hit_by_hand() -> None:
    # 1 x 4 cells over 8 pixels, linear between the cells' centres: 3, 3, 3, 2.5 | 1.5, 1, 1, 1
    cells = np.float32([[3, 3, 1, 1]])
    found = localise(cells, View(), LEFT_HALF)
    assert found.hit == 1
    assert found.area == 0.5
    assert found.energy == pytest.approx(11.5 / 16)
    assert localise(cells[:, ::-1].copy(), View(), LEFT_HALF).hit == 0


def test_an_even_map_has_the_lesions_share() -> None:
    lesion = np.random.default_rng(0).random((30, 40)) < 0.3
    found = localise(np.ones((7, 7), np.float32), View(left=0.125, width=0.75), lesion)
    assert found.energy == pytest.approx(found.area)
    assert found.area == pytest.approx(lesion[:, 5:35].mean())


@pytest.mark.parametrize("cells", [7, 8, 9, 10])
def test_the_highest_point_of_a_spot_in_the_middle_is_the_middle(cells: int) -> None:
    """Also where four cells share it, as in maps of an even side."""
    lesion = np.zeros((450, 450), bool)
    lesion[223:228, 223:228] = True
    assert localise(centred_gaussian((cells, cells)), View(), lesion).hit == 1


def test_the_highest_point_of_a_plateau_off_the_diagonal_is_its_middle() -> None:
    cells = np.zeros((1, 4), np.float32)
    cells[0, 3] = 1  # as high all along the right edge of a picture of 40 x 160 pixels
    lesion = np.zeros((40, 160), bool)
    lesion[18:22, 148:] = True
    assert localise(cells, View(), lesion).hit == 1
    assert localise(cells, View(), np.roll(lesion, -15, axis=0)).hit == 0


def test_only_what_was_seen_counts() -> None:
    right_half = View(left=0.5, width=0.5)
    found = localise(np.ones((2, 2), np.float32), right_half, LEFT_HALF)
    assert found == Localised(hit=0, energy=0, area=0)
    with pytest.raises(InputError, match="the model saw nothing"):
        localise(np.ones((2, 2), np.float32), View(left=1.5), LEFT_HALF)


def test_a_map_of_nothing_hits_nothing() -> None:
    found = localise(np.zeros((2, 2), np.float32), View(), LEFT_HALF)
    assert found.hit == 0
    assert np.isnan(found.energy)
    with pytest.raises(InputError, match=r"0 or more, the least is -1"):
        localise(np.float32([[-1, 1]]), View(), LEFT_HALF)


def test_a_summary_by_hand() -> None:
    found = [Localised(1, 0.6, 0.2), Localised(0, 0.3, 0.4), Localised(0, float("nan"), 0.4)]
    one = summarise(found, ["a", "b", "c"], n_boot=200)
    assert one.pictures == 3
    assert one.hit[0] == pytest.approx(1 / 3)
    assert (one.energy[0], one.area[0]) == (pytest.approx(0.45), pytest.approx(0.3))
    assert one.ratio[0] == pytest.approx(0.9 / 0.6)  # the map of nothing is in neither sum
    assert one.ratio_each[0] == pytest.approx((3 + 0.75) / 2)
    assert one.ratio[1] <= one.ratio[0] <= one.ratio[2]
    with pytest.raises(InputError, match="no picture to summarise"):
        summarise([], [])


def test_pictures_of_one_lesion_are_drawn_together() -> None:
    found = [Localised(1, 0.6, 0.3)] * 4 + [Localised(0, 0.1, 0.3)] * 4
    apart = summarise(found, list("abcdefgh"), n_boot=500)
    together = summarise(found, list("aaaabbbb"), n_boot=500)
    assert together.hit[2] - together.hit[1] > apart.hit[2] - apart.hit[1]
    rng = np.random.default_rng(0)
    drawn = [Localised(1, *rng.uniform(0.2, 0.8, 2)) for _ in range(12)]
    one, again, other = (summarise(drawn, list("abcdefghijkl"), seed=s) for s in (1, 1, 2))
    assert one == again
    for name in ("energy", "area", "ratio", "ratio_each"):
        assert getattr(one, name)[1:] != getattr(other, name)[1:], name
