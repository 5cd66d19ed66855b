"""A change has a name and a severity, is always the same, and grows with its severity."""

import numpy as np
import pytest

from dermx.data.phantom import draw_phantom
from dermx.errors import InputError
from dermx.preprocess.pipeline import square
from dermx.preprocess.shift import SEVERITIES, SHIFTS, shifted

PICTURES = [draw_phantom(seed, diagnosis="nv", size=(225, 300)).picture for seed in range(6)]


def grey(size: tuple[int, int] = (60, 80), seed: int = 0) -> np.ndarray:
    """Mid grey with a mark of its own, which decides the direction of its changes."""
    picture = np.full((*size, 3), 128, np.uint8)
    picture[0, 0] = seed
    return picture


def distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(square(one, 112)[0].astype(int) - square(other, 112)[0]).mean())


def test_the_names_are_those_promised() -> None:
    assert list(SHIFTS) == [
        "blur", "noise", "jpeg", "brightness", "contrast",
        "colour_cast", "rotation", "zoom", "vignette", "crop",
    ]  # fmt: skip


@pytest.mark.parametrize("name", SHIFTS)
def test_a_change_is_repeatable_and_leaves_the_original_alone(name: str) -> None:
    picture = PICTURES[0].copy()
    one, same = shifted(picture, name, 3), shifted(picture.copy(), name, 3)
    assert one.dtype == np.uint8
    assert np.array_equal(one, same)
    assert np.array_equal(picture, PICTURES[0])


@pytest.mark.parametrize("name", SHIFTS)
def test_every_severity_changes_more_than_the_one_before(name: str) -> None:
    sizes = np.array([[distance(shifted(p, name, s), p) for s in SEVERITIES] for p in PICTURES])
    assert (sizes[:, 0] > 0).all()
    assert (np.diff(sizes.mean(axis=0)) > 0).all()


@pytest.mark.parametrize("name", SHIFTS)
def test_only_the_crop_changes_the_size_and_every_change_takes_any_shape(name: str) -> None:
    for height, width in ((40, 90), (90, 40), (33, 33)):
        changed = shifted(grey((height, width)), name, 5)
        wanted = (round(0.7 * height), round(0.7 * width)) if name == "crop" else (height, width)
        assert changed.shape == (*wanted, 3)


@pytest.mark.parametrize("name", ["brightness", "contrast", "zoom", "rotation"])
def test_a_set_of_pictures_sees_both_directions(name: str) -> None:
    """Half of many pictures go each way, and one picture goes the same way at all severities."""
    probe = {
        "brightness": lambda p: p.mean() > 128,
        "contrast": lambda p: p.std() > STRIPES.std(),
        "zoom": lambda p: np.abs(np.diff(p[30, :, 0].astype(int))).sum() < EDGES,
        "rotation": lambda p: p[30, 20, 0] > p[30, 60, 0],
    }[name]
    ways = []
    for seed in range(60):
        picture = (FALLING if name == "rotation" else STRIPES).copy()
        picture[0, 0] = seed
        way = {bool(probe(shifted(picture, name, s))) for s in (3, 4, 5)}
        assert len(way) == 1
        ways += way
    assert 15 < sum(ways) < 45


STRIPES = np.full((60, 80, 3), 128, np.uint8)
STRIPES[:, 8:16] = STRIPES[:, 40:44] = STRIPES[:, 64:72] = 60
STRIPES[:, 24:32] = STRIPES[:, 50:56] = STRIPES[:, 74:78] = 196
FALLING = np.repeat(np.arange(60, dtype=np.uint8)[:, None] * 3, 80, axis=1)[:, :, None].repeat(3, 2)
EDGES = np.abs(np.diff(STRIPES[30, :, 0].astype(int))).sum()


def test_brightness_is_one_gain_for_all_channels() -> None:
    seen = set()
    for seed in range(20):
        changed = shifted(grey(seed=seed), "brightness", 3)[30, 40]
        assert np.ptp(changed) == 0
        seen.add(int(changed[0]))
    # 128 * e ** 0.17 = 151.7, 128 * e ** (-1.6 * 0.17) = 97.5
    assert seen == {152, 98} or seen == {152, 97}


def test_a_cast_keeps_the_brightness_and_takes_any_hue() -> None:
    casts = [shifted(grey(seed=s), "colour_cast", 5)[30, 40].astype(float) / 128 for s in range(80)]
    np.testing.assert_allclose(np.prod(casts, axis=1), 1, atol=0.03)
    strongest = {int(np.argmax(cast)) for cast in casts}
    assert strongest == {0, 1, 2}
    assert max(np.max(casts), 0) == pytest.approx(np.exp(0.22), abs=0.02)


def test_a_crop_reaches_into_each_of_the_four_corners() -> None:
    corners = set()
    for seed in range(40):
        picture = grey((100, 100), seed)
        marks = {(1, 1): 10, (1, 98): 20, (98, 1): 30, (98, 98): 40}
        for place, value in marks.items():
            picture[place] = value
        kept = shifted(picture, "crop", 5)
        assert kept.shape == (70, 70, 3)
        found = [value for value in marks.values() if (kept[:, :, 0] == value).any()]
        corners.update(value for value in found if value != seed)
        assert 1 <= len(set(found) - {seed}) <= 2
    assert corners == {10, 20, 30, 40}


def test_a_nearer_zoom_is_the_enlarged_middle() -> None:
    for seed in range(20):
        picture = np.full((100, 100, 3), 50, np.uint8)
        picture[30:70, 30:70] = 200
        picture[0, 0] = seed
        share = (shifted(picture, "zoom", 3)[:, :, 0] > 125).mean()
        # 40 of 100 pixels, 1.35 times as large, or the root of that smaller
        assert share == pytest.approx(0.16 * 1.35**2, abs=0.01) or share == pytest.approx(
            0.16 / 1.35, abs=0.01
        )


def test_a_vignette_darkens_the_corners_and_never_the_middle() -> None:
    for severity in SEVERITIES:
        changed = shifted(grey((200, 200)), "vignette", severity)
        assert changed[100, 100, 0] == 128
        assert changed[199, 199, 0] < 8
    inner = shifted(grey((200, 200)), "vignette", 5)[100, :, 0]
    assert (inner > 64).sum() == pytest.approx(160, abs=2)  # a field of 0.8 of the side


@pytest.mark.parametrize("severity", [0, 6, -1])
def test_a_severity_out_of_range_is_refused(severity: int) -> None:
    with pytest.raises(InputError, match=f"severity must be 1 to 5, got {severity}"):
        shifted(grey(), "blur", severity)


def test_an_unknown_change_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match="no change 'fog'; known are blur, noise, jpeg"):
        shifted(grey(), "fog", 1)
