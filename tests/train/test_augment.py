import math
from dataclasses import fields, replace

import numpy as np
import pytest

from dermx.config import AugmentConfig
from dermx.preprocess.artefacts import Field, Lettering, Strand, grey_gains, lettered
from dermx.preprocess.pipeline import square
from dermx.train.augment import Change, apply_change, draw_change

OFF = AugmentConfig(
    rotation=False, flip=False, min_area=1, max_aspect=1, shift=0,
    brightness=0, contrast=0, saturation=0, colour_cast=0,
)  # fmt: skip


def noise(height: int = 64, width: int = 64) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_no_change_is_the_centre_square_of_inference() -> None:
    picture = noise(64, 96)
    assert np.array_equal(apply_change(picture, Change(), 64), square(picture, 64)[0])


def test_everything_switched_off_draws_no_change() -> None:
    assert draw_change(OFF, np.random.default_rng(5)) == Change()


def test_a_quarter_turn_is_numpys_quarter_turn() -> None:
    picture = noise()
    turned = apply_change(picture, Change(angle=math.pi / 2), 64)
    assert np.array_equal(turned, np.rot90(picture))


def test_quarter_turns_are_the_four_upright_ones_and_resample_nothing() -> None:
    config, rng = replace(OFF, quarter_turns=True), np.random.default_rng(0)
    picture = noise()
    turns = {np.rot90(picture, k).tobytes() for k in range(4)}
    drawn = {apply_change(picture, draw_change(config, rng), 64).tobytes() for _ in range(40)}
    assert drawn == turns


def test_mirroring_turns_left_to_right() -> None:
    picture = noise()
    assert np.array_equal(apply_change(picture, Change(mirrored=True), 64), picture[:, ::-1])


def test_half_the_width_and_height_is_the_inner_square_enlarged() -> None:
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[16:48, 16:48] = 200
    zoomed = apply_change(picture, Change(width=0.5, height=0.5), 64)
    assert (zoomed[2:-2, 2:-2] == 200).all()


def test_a_shift_moves_the_window_to_the_right_and_down() -> None:
    picture = noise()
    shifted = apply_change(picture, Change(right=8 / 64, down=4 / 64), 64)
    assert np.array_equal(shifted[:60, :56], picture[4:, 8:])


def test_outside_the_picture_lies_its_mirror_image_not_black() -> None:
    picture = np.full((64, 64, 3), 180, np.uint8)
    turned = apply_change(picture, Change(angle=0.7, right=0.3), 64)
    assert (turned == 180).all()


def test_gains_multiply_each_channel_and_clip() -> None:
    picture = np.full((8, 8, 3), (100, 100, 200), np.uint8)
    changed = apply_change(picture, Change(gains=(0.5, 1.2, 2.0)), 8)
    assert changed[4, 4].tolist() == [50, 120, 255]


def test_no_saturation_is_grey() -> None:
    changed = apply_change(noise(), Change(saturation=0.0), 64)
    assert (np.ptp(changed.astype(int), axis=-1) <= 1).all()


def test_contrast_keeps_the_mean_grey() -> None:
    picture = np.full((8, 8, 3), 80, np.uint8)
    picture[:4] = 120
    changed = apply_change(picture, Change(contrast=0.5), 8)
    assert sorted(np.unique(changed)) == [90, 110]


def test_changes_stay_within_the_configured_ranges() -> None:
    config = AugmentConfig(min_area=0.5, max_aspect=1.5, shift=0.1, contrast=0.3)
    changes = [draw_change(config, np.random.default_rng([1, i])) for i in range(500)]
    areas = np.array([c.width * c.height for c in changes])
    aspects = np.array([c.width / c.height for c in changes])
    assert 0.5 <= areas.min() < 0.52
    assert 0.98 < areas.max() <= 1
    assert 1 / 1.5 <= aspects.min() < 0.7
    assert 1.45 < aspects.max() <= 1.5
    assert max(abs(c.right) for c in changes) <= 0.1
    assert all(0.7 <= c.contrast <= 1.3 for c in changes)
    assert sum(c.mirrored for c in changes) == pytest.approx(250, abs=50)


def test_the_same_seed_draws_the_same_change() -> None:
    one, same, other = (draw_change(AugmentConfig(), np.random.default_rng(s)) for s in (1, 1, 2))
    assert one == same != other


# --- light, lens, hair and border ----------------------------------------------------------------

OLD = [
    "angle", "mirrored", "width", "height", "right", "down", "gains", "contrast", "saturation",
]  # fmt: skip
NEW: dict[str, tuple[float, str]] = {  # setting: a value of it, and what it draws
    "colour_constancy": (0.8, "constancy"),
    "gamma": (0.3, "gamma"),
    "light_slope": (0.3, "slope"),
    "hair": (1.0, "strands"),
    "vignette": (1.0, "field"),
    "blur": (1.0, "blur"),
    "noise": (1.0, "noise"),
    "jpeg": (1.0, "jpeg"),
    "erasing": (1.0, "erased"),
    "lettering": (1.0, "lettering"),
    "grey": (1.0, "colourless"),
}


def draws(config: AugmentConfig, n: int) -> list[Change]:
    return [draw_change(config, np.random.default_rng([4, i])) for i in range(n)]


def test_default_settings_draw_the_numbers_they_always_drew() -> None:
    """Values that the first release drew: a change here would change every trained model."""
    drawn = draw_change(AugmentConfig(), np.random.default_rng([0, 1, 2, 3]))
    assert drawn.angle == 2.2112191927407423
    assert not drawn.mirrored
    sides = (0.8818080091727033, 0.8628757109733562)
    assert (drawn.width, drawn.height) == pytest.approx(sides, rel=1e-14)  # exp may differ
    assert (drawn.right, drawn.down) == (-0.02194201288152238, 0.0037570872398398738)
    assert drawn.gains == (1.1176320056259552, 1.2139514929863090, 1.1294975300305221)
    assert (drawn.contrast, drawn.saturation) == (1.1647709477931614, 0.8110836175670977)
    assert replace(Change(), **{key: getattr(drawn, key) for key in OLD}) == drawn


def test_new_settings_leave_the_older_draws_as_they_are() -> None:
    every = AugmentConfig(**{name: value for name, (value, _) in NEW.items()})
    for one, other in zip(draws(AugmentConfig(), 50), draws(every, 50), strict=True):
        assert [getattr(one, key) for key in OLD] == [getattr(other, key) for key in OLD]


@pytest.mark.parametrize("name", NEW)
def test_each_new_setting_draws_its_own_part_and_changes_the_picture(name: str) -> None:
    value, drawn = NEW[name]
    config = replace(OFF, **{name: value})
    changes = draws(config, 20)
    beside = {"noise": {"noise_seed"}, "strands": {"hair_colour"}}.get(drawn, set())
    for change in changes:
        different = {f.name for f in fields(Change) if getattr(change, f.name) != f.default}
        assert different == {drawn} | beside
    picture = tinted_noise(160, 200)
    plain = apply_change(picture, Change(), 160)
    changed = [apply_change(picture, change, 160) for change in changes]
    assert sum(not np.array_equal(one, plain) for one in changed) >= 19
    assert all(one.dtype == np.uint8 and one.shape == (160, 160, 3) for one in changed)
    again = [apply_change(picture, change, 160) for change in draws(config, 20)]
    assert all(np.array_equal(one, same) for one, same in zip(changed, again, strict=True))


def tinted_noise(height: int = 80, width: int = 100) -> np.ndarray:
    return (noise(height, width) * np.array([0.9, 0.7, 0.6])).astype(np.uint8)


@pytest.mark.parametrize("name", [*list(NEW)[3:]])
def test_a_share_is_the_share_of_pictures(name: str) -> None:
    drawn = NEW[name][1]
    changes = draws(AugmentConfig(**{name: 0.3}), 600)
    default = getattr(Change(), drawn)
    assert sum(getattr(c, drawn) != default for c in changes) == pytest.approx(180, abs=45)


def test_new_changes_stay_within_their_ranges() -> None:
    every = AugmentConfig(**{name: value for name, (value, _) in NEW.items()}, max_area=1.5)
    changes = draws(every, 400)
    areas = [c.width * c.height for c in changes]
    assert 1.45 < max(areas) <= 1.5
    assert min(areas) < 0.45
    assert -0.8 <= min(c.constancy for c in changes) < -0.7
    assert 0.7 < max(c.constancy for c in changes) <= 0.8
    assert math.exp(-0.3) <= min(c.gamma for c in changes) < max(c.gamma for c in changes)
    assert max(c.gamma for c in changes) <= math.exp(0.3)
    assert 0.25 < max(math.hypot(*c.slope) for c in changes) <= 0.3
    assert {len(c.strands) for c in changes} == set(range(1, 19))
    assert all(25 <= (c.jpeg or 0) < 90 for c in changes)
    areas = [(b - t) * (r - left) for t, left, b, r in (c.erased for c in changes if c.erased)]
    assert 0.02 <= min(areas) < max(areas) <= 0.15


def test_full_constancy_makes_the_light_grey_and_its_opposite_doubles_the_cast() -> None:
    picture = tinted_noise() // 2 + 20
    before = grey_gains(apply_change(picture, Change(), 64))
    corrected = grey_gains(apply_change(picture, Change(constancy=1.0), 64))
    pushed = grey_gains(apply_change(picture, Change(constancy=-1.0), 64))
    assert np.abs(corrected - 1).max() < 0.02 < np.abs(before - 1).max()
    ratio = before / before[1]
    np.testing.assert_allclose(pushed / pushed[1], ratio**2, rtol=0.03)


def test_the_order_is_hair_then_colour_then_field_then_eraser() -> None:
    picture = np.full((64, 64, 3), 200, np.uint8)
    across = Strand(root=(0.5, -0.1), bend=(0.5, 0.5), tip=(0.5, 1.1), width=0.1, cover=1.0)
    change = Change(
        strands=(across,),
        hair_colour=(60, 60, 60),
        gains=(0.5, 1.0, 1.0),
        field=Field(radius=0.6, rest=0.0),
        erased=(0.0, 0.9, 0.1, 1.0),
    )
    changed = apply_change(picture, change, 64)
    assert changed[32, 32].tolist() == [30, 60, 60]  # hair is lit as the skin is
    assert changed[32, 24].tolist() == [100, 200, 200]
    assert changed[63, 32].tolist() == [0, 0, 0]  # and is as dark outside the field
    assert changed[0, 63].min() > 0  # what is wiped out is not


def test_light_that_grows_to_the_right_brightens_the_right() -> None:
    picture = np.full((64, 64, 3), 100, np.uint8)
    row = apply_change(picture, Change(slope=(0.5, 0.0)), 64)[32, :, 0]
    assert (np.diff(row.astype(int)) >= 0).all()
    assert (row[0], row[-1]) == (51, 149)


def test_letters_lie_over_the_light_and_are_as_blurred_as_the_picture() -> None:
    picture = np.full((64, 64, 3), 100, np.uint8)
    line = Lettering(text="HHH", font=0, right=0.5, down=0.5, width=0.8, shade=255, cover=1.0)
    dark = Field(radius=0.1, rest=0.0)
    sharp = apply_change(picture, Change(lettering=line, field=dark), 64)
    assert (sharp.max(), sharp[0].max()) == (255, 0)
    assert sharp.max() > apply_change(picture, Change(lettering=line, blur=0.03), 64).max() > 100


def test_a_line_of_letters_lies_where_it_was_put_and_turns_about_the_middle() -> None:
    black = np.zeros((200, 200, 3), np.uint8)
    line = Lettering(text="HIH", font=0, right=0.3, down=0.2, width=0.4, shade=200, cover=0.5)
    written = lettered(black, line)
    rows, columns = np.nonzero(written[..., 0] > 50)
    assert written.max() == 100
    assert (rows.min() + rows.max()) / 2 == pytest.approx(40, abs=8)
    assert (columns.min() + columns.max()) / 2 == pytest.approx(60, abs=8)
    assert np.ptp(columns) == pytest.approx(80, abs=8)
    turned = lettered(black, replace(line, turns=1, mirrored=True))
    np.testing.assert_array_equal(turned, np.rot90(written[:, ::-1]))


def test_drawn_letters_are_of_all_kinds() -> None:
    lines = [c.lettering for c in draws(AugmentConfig(lettering=1.0), 400) if c.lettering]
    assert {len(line.text) for line in lines} == set(range(3, 21))
    assert {(line.turns, line.mirrored) for line in lines} == {
        (turns, mirrored) for turns in range(4) for mirrored in (False, True)
    }
    assert {line.font for line in lines} == set(range(8))
    assert all(
        0 <= line.right - line.width / 2 < line.right + line.width / 2 <= 1 for line in lines
    )


def test_without_colour_all_channels_are_the_grey() -> None:
    changed = apply_change(tinted_noise(), Change(colourless=True, gains=(1.0, 1.0, 1.0)), 64)
    assert (changed == changed[..., :1]).all()


def test_where_the_network_sees_the_middle_alone_that_is_what_is_varied() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (96, 120, 3), np.uint8)
    middle = square(picture, 64, 2 / 3)[0]
    assert np.array_equal(apply_change(picture, Change(), 64, 2 / 3), middle)
    shifted = apply_change(picture, Change(right=8 / 64, down=4 / 64), 64, 2 / 3)
    np.testing.assert_array_equal(shifted[:60, :56], middle[4:, 8:])
