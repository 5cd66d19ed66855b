"""Deletion, insertion and ROAD, on a model that looks at one cell and nothing else."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dermx.errors import InputError
from dermx.explain.faithfulness import (
    area,
    blurred,
    centred_gaussian,
    faithfulness,
    linear_fill,
    random_map,
    ranked,
    removed,
    road_filled,
)

SIDE = 70  # pixels; cells of 10
SPOT = (2, 4)  # row and column of the cell that the model looks at


@pytest.fixture
def picture() -> np.ndarray:
    """Black with one white cell."""
    pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
    pixels[20:30, 40:50] = 255
    return pixels


def answer(pixels: np.ndarray) -> np.ndarray:
    """Probability that the spot's cell is white."""
    white = pixels[:, 20:30, 40:50].mean(axis=(1, 2, 3)) / 255
    return np.stack([white, 1 - white], axis=1)


def spotted(value: float) -> np.ndarray:
    cells = np.full((7, 7), 0.5)
    cells[SPOT] = value
    return cells


def test_the_map_that_marks_what_decides_is_better_than_the_one_that_misses_it(
    picture: np.ndarray,
) -> None:
    rng = np.random.default_rng(0)
    found = faithfulness(picture, {"right": spotted(1), "wrong": spotted(0)}, 0, answer, rng=rng)
    right, wrong = found["right"], found["wrong"]
    nothing = answer(blurred(picture)[None])[0, 0]
    # The right map takes the white away in the first step, the wrong one in the last.
    np.testing.assert_allclose(right.deletion, [1] + [nothing] * 10, atol=1e-6)
    np.testing.assert_allclose(wrong.deletion, [1] * 10 + [nothing], atol=1e-6)
    np.testing.assert_allclose(right.insertion, [nothing] + [1] * 10, atol=1e-6)
    assert right.deletion_area == pytest.approx(0.05 + 0.95 * nothing)
    assert wrong.deletion_area == pytest.approx(0.95 + 0.05 * nothing)
    assert right.insertion_area == pytest.approx(0.95 + 0.05 * nothing)
    # ROAD, too: the cell is there or not at all four shares, so half of 1 - 0, but for the noise.
    assert right.road == pytest.approx(0.5, abs=0.03)
    assert right.road == pytest.approx(-wrong.road, abs=0.1)


def test_deletion_and_insertion_start_where_the_other_ends(picture: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    maps = {"random": random_map((7, 7), rng), "middle": centred_gaussian((7, 7))}
    for one in faithfulness(picture, maps, 0, answer, rng=rng).values():
        assert one.deletion[0] == one.insertion[-1]
        assert one.deletion[-1] == one.insertion[0]


def test_maps_of_different_shapes_are_refused(picture: np.ndarray) -> None:
    maps = {"a": np.zeros((7, 7)), "b": np.zeros((5, 7))}
    with pytest.raises(InputError, match=r"maps of one shape, got \[\(5, 7\), \(7, 7\)\]"):
        faithfulness(picture, maps, 0, answer, rng=np.random.default_rng(0))


def test_the_area_of_a_straight_line_is_its_middle() -> None:
    assert area(np.linspace(1, 0.5, 11)) == pytest.approx(0.75)
    assert area(np.array([0.0, 1.0, 1.0])) == 0.75


def test_equal_cells_come_in_random_order_after_the_stronger() -> None:
    cells = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 0.5]])
    orders = {tuple(ranked(cells, np.random.default_rng(seed))) for seed in range(20)}
    assert {order[:2] for order in orders} == {(1, 5)}
    assert len(orders) > 10


@given(st.integers(0, 49), st.sampled_from([28, 70, 224, 99]))
def test_as_many_cells_are_removed_as_chosen(count: int, side: int) -> None:
    chosen = np.random.default_rng(count).permutation(49)[:count]
    gone = removed(chosen, (7, 7), (side, side, 3))
    assert gone.mean() == pytest.approx(count / 49, abs=0.02)


def test_the_centred_map_is_highest_in_the_middle_and_alike_on_all_sides() -> None:
    cells = centred_gaussian((7, 7))
    assert cells.argmax() == 24
    assert cells[3, 3] == 1
    np.testing.assert_array_equal(cells, cells[::-1, ::-1])
    np.testing.assert_allclose(cells, cells.T)
    order = [
        ranked(centred_gaussian((7, 7), width), np.random.default_rng(1)) for width in (0.1, 1)
    ]
    np.testing.assert_array_equal(order[0][:9], order[1][:9])  # the width doesn't change the order


def test_a_hole_in_a_slope_is_filled_with_the_slope() -> None:
    slope = np.repeat(np.add.outer(np.arange(9.0), 2 * np.arange(9.0))[..., None], 3, axis=2)
    gone = np.zeros((9, 9), bool)
    gone[3:6, 2:7] = True
    np.testing.assert_allclose(linear_fill(np.where(gone[..., None], 0, slope), gone), slope)


def test_without_anything_left_the_fill_is_the_mean() -> None:
    picture = np.random.default_rng(0).random((4, 5, 3))
    filled = linear_fill(picture, np.ones((4, 5), bool))
    np.testing.assert_allclose(filled, np.broadcast_to(picture.mean(axis=(0, 1)), (4, 5, 3)))
    np.testing.assert_array_equal(linear_fill(picture, np.zeros((4, 5), bool)), picture)


def test_the_fill_is_that_of_pytorch_grad_cam() -> None:
    torch = pytest.importorskip("torch")
    road = pytest.importorskip("pytorch_grad_cam.metrics.road")
    rng = np.random.default_rng(3)
    picture = rng.random((12, 15, 3)).astype(np.float32)
    gone = rng.random((12, 15)) < 0.5
    theirs = road.NoisyLinearImputer(noise=0)(
        torch.from_numpy(picture.transpose(2, 0, 1).copy()), torch.from_numpy(~gone).float()
    )
    np.testing.assert_allclose(
        linear_fill(picture, gone), theirs.numpy().transpose(1, 2, 0), atol=1e-5
    )


def test_road_changes_the_chosen_cells_only(picture: np.ndarray) -> None:
    chosen = np.array([SPOT[0] * 7 + SPOT[1], 0])
    filled = road_filled(picture, chosen, (7, 7), np.random.default_rng(0))
    gone = removed(chosen, (7, 7), picture.shape)
    np.testing.assert_array_equal(filled[~gone], picture[~gone])
    assert filled[20:30, 40:50].mean() < 40  # black all round, so black inside, but for noise
    grey = road_filled(np.full_like(picture, 200), chosen, (7, 7), np.random.default_rng(0))
    assert grey[gone].mean() == pytest.approx(200, abs=0.2)
    assert grey[gone].std() == pytest.approx(0.01 * 255, rel=0.05)
