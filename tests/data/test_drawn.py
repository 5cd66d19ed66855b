import numpy as np
import pytest

from dermx.data.drawn import KINDS, draw_outliers
from dermx.errors import InputError


def test_no_kind_is_in_both_parts_and_kinds_take_turns() -> None:
    assert not set(KINDS["fit"]) & set(KINDS["report"])
    kinds = [kind for kind, _ in draw_outliers("report", 12)]
    assert kinds == [*KINDS["report"], *KINDS["report"]]


def test_the_same_seed_draws_the_same_and_more_pictures_change_none() -> None:
    few, many = draw_outliers("fit", 4, seed=3), draw_outliers("fit", 8, seed=3)
    for (_, one), (_, other) in zip(few, many, strict=False):
        np.testing.assert_array_equal(one, other)
    assert (draw_outliers("fit", 1, seed=4)[0][1] != few[0][1]).any()


@pytest.mark.parametrize("part", ["fit", "report"])
def test_every_drawing_differs_from_the_next_of_its_kind(part: str) -> None:
    drawn = draw_outliers(part, 2 * len(KINDS[part]))
    for i, (kind, picture) in enumerate(drawn[: len(KINDS[part])]):
        assert picture.shape == (256, 256, 3)
        assert (picture != drawn[i + len(KINDS[part])][1]).any(), kind
        assert (picture.std() < 80 and len(np.unique(picture)) <= 3) == (kind == "blank")


def test_an_unknown_part_is_refused() -> None:
    with pytest.raises(InputError, match="part of fit, report and a count >= 0, got 'test' and 3"):
        draw_outliers("test", 3)
