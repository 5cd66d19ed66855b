"""Predictions survive a file, a selection keeps rows together, a file is whole or absent."""

import os
import zipfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dermx.diagnoses import CODES
from dermx.errors import DataError, InputError
from dermx.records import Assessment, Predictions, View, check_cases, softmax, write_whole


def made(n: int = 5, seed: int = 0) -> Predictions:
    rng = np.random.default_rng(seed)
    return Predictions(
        images=[f"ISIC_{i:07d}" for i in range(n)],
        groups=[f"HAM_{i // 2}" for i in range(n)],
        labels=rng.integers(-1, 8, n),
        logits=rng.normal(size=(n, 8)).astype(np.float32),
        features=rng.normal(size=(n, 3)).astype(np.float32),
    )


def same(one: Predictions, other: Predictions) -> bool:
    return (
        list(one.images) == list(other.images)
        and list(one.groups) == list(other.groups)
        and one.codes == other.codes
        and all(
            np.array_equal(getattr(one, name), getattr(other, name))
            for name in ("labels", "logits", "features")
        )
    )


def test_predictions_come_back_from_their_file_bit_for_bit(tmp_path: Path) -> None:
    before = made()
    before.save(tmp_path / "deep" / "test.npz")
    after = Predictions.load(tmp_path / "deep" / "test.npz")
    assert same(before, after)
    assert after.logits.dtype == np.float32
    assert all(type(name) is str for name in after.images)


def test_names_beyond_ascii_and_no_cases_at_all_survive_the_file(tmp_path: Path) -> None:
    named = made(2)
    named = Predictions(
        images=["Haut_ü", "写真"],
        groups=["ä", "b c"],
        labels=named.labels,
        logits=named.logits,
        features=named.features,
    )
    for i, case in enumerate((named, made(0))):
        case.save(tmp_path / f"{i}.npz")
        assert same(case, Predictions.load(tmp_path / f"{i}.npz"))


def test_a_selection_by_mask_and_by_index_keeps_each_row_together() -> None:
    whole = made(6)
    mask = np.array([True, False, False, True, False, True])
    part = whole.select(mask)
    assert list(part.images) == ["ISIC_0000000", "ISIC_0000003", "ISIC_0000005"]
    assert list(part.groups) == ["HAM_0", "HAM_1", "HAM_2"]
    np.testing.assert_array_equal(part.logits, whole.logits[mask])
    np.testing.assert_array_equal(part.features, whole.features[mask])
    assert same(part, whole.select(np.array([0, 3, 5])))


@given(st.permutations(range(7)))
def test_selecting_an_order_and_its_inverse_changes_nothing(order: list[int]) -> None:
    whole = made(7)
    back = whole.select(np.array(order)).select(np.argsort(order))
    assert same(back, whole)


@pytest.mark.parametrize("part", ["images", "groups", "labels", "logits", "features"])
def test_parts_of_unequal_length_are_refused(part: str) -> None:
    parts = vars(made(3)) | {part: getattr(made(4), part)}
    with pytest.raises(InputError, match=r"need one row per case, got \d images and lengths"):
        Predictions(**parts)


def test_logits_of_another_number_of_classes_are_refused() -> None:
    parts = vars(made(3)) | {"logits": np.zeros((3, 7), np.float32)}
    with pytest.raises(InputError, match=r"logits have shape \(3, 7\), need \(n, 8\)"):
        Predictions(**parts)


def test_a_file_without_a_part_is_refused_by_the_parts_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "old.npz", images=np.array(["a"]), groups=np.array(["a"]))
    with pytest.raises(DataError, match=r"old\.npz is not a predictions file: .*labels"):
        Predictions.load(tmp_path / "old.npz")


def test_pickled_objects_are_never_loaded(tmp_path: Path) -> None:
    parts = vars(made(2)) | {"images": np.array(["a", 1], dtype=object)}
    np.savez(tmp_path / "evil.npz", **parts)
    with pytest.raises(DataError, match="Object arrays cannot be loaded"):
        Predictions.load(tmp_path / "evil.npz")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.npz is not a predictions file: .*No such file"):
        Predictions.load(tmp_path / "none.npz")


@pytest.mark.parametrize("bit", [0, 3])
def test_one_flipped_bit_is_refused_or_changes_no_number(tmp_path: Path, bit: int) -> None:
    path, whole = tmp_path / "bad.npz", made(2)
    whole.save(path)
    content = path.read_bytes()
    for place in range(len(content)):
        flipped = bytearray(content)
        flipped[place] ^= 1 << bit
        path.write_bytes(flipped)
        with suppress(DataError):
            read = Predictions.load(path)
            assert list(read.images) == list(whole.images), place
            np.testing.assert_array_equal(read.labels, whole.labels)
            np.testing.assert_array_equal(read.logits, whole.logits)
            np.testing.assert_array_equal(read.features, whole.features)


@pytest.mark.parametrize("damage", ["empty", "cut", "changed", "another format"])
def test_a_damaged_file_is_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "bad.npz"
    made().save(path)
    content = path.read_bytes()
    if damage == "empty":
        path.write_bytes(b"")
    elif damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "changed":
        start = content.find(b"logits.npy") + 150
        path.write_bytes(content[:start] + b"\x07" * 20 + content[start + 20 :])
    else:
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    with pytest.raises(DataError, match=r"bad\.npz is not a predictions file"):
        Predictions.load(path)


def test_softmax_of_log_odds_gives_the_odds_back() -> None:
    np.testing.assert_allclose(softmax(np.log([[1.0, 3.0]])), [[0.25, 0.75]])


@given(arrays(np.float32, (3, 8), elements=st.floats(-1e4, 1e4, width=32)), st.floats(-1e4, 1e4))
def test_softmax_sums_to_one_keeps_order_and_ignores_a_shift(
    logits: np.ndarray, shift: float
) -> None:
    probs = softmax(logits)
    np.testing.assert_allclose(probs.sum(axis=1), 1)
    assert (probs >= 0).all()
    top = np.take_along_axis(probs, logits.argmax(axis=1)[:, None], axis=1)[:, 0]
    np.testing.assert_array_equal(top, probs.max(axis=1))
    np.testing.assert_allclose(softmax(logits.astype(float) + shift), probs, atol=1e-9)


def test_probabilities_are_not_calibrated_on_the_way() -> None:
    predictions = made()
    np.testing.assert_array_equal(predictions.probs, softmax(predictions.logits))


def test_a_file_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "numbers.txt"
    with write_whole(path) as file:
        file.write(b"1 2 3")
        assert not path.exists()
    assert path.read_bytes() == b"1 2 3"
    assert [p.name for p in tmp_path.iterdir()] == ["numbers.txt"]


def stop_halfway(path: Path) -> None:
    with write_whole(path) as file:
        file.write(b"half of the n")
        raise KeyboardInterrupt


def test_after_an_error_the_old_file_stays_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "numbers.txt"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        stop_halfway(path)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["numbers.txt"]


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")
def test_a_file_has_the_mode_that_open_would_give(tmp_path: Path) -> None:
    with write_whole(tmp_path / "ours") as file:
        file.write(b"")
    (tmp_path / "theirs").write_bytes(b"")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "theirs").stat().st_mode


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")
def test_a_file_that_nobody_else_may_read_stays_so(tmp_path: Path) -> None:
    path = tmp_path / "private.csv"
    path.write_bytes(b"old")
    path.chmod(0o600)
    with write_whole(path) as file:
        file.write(b"new")
        assert {entry.stat().st_mode & 0o777 for entry in tmp_path.iterdir()} == {0o600}
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_mode_for_new_files_is_left_alone_as_other_threads_may_be_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(os, "umask", lambda mask: asked.append(mask) or 0o22)
    with write_whole(tmp_path / "numbers.txt") as file:
        file.write(b"1 2 3")
    assert asked == []


def test_a_link_that_leads_to_itself_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with write_whole(tmp_path / "loop") as file:
        file.write(b"1 2 3")
    assert (tmp_path / "loop").read_bytes() == b"1 2 3"


def test_a_link_stays_and_what_it_points_to_is_written(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "link.txt"
    link.symlink_to(tmp_path / "real" / "numbers.txt")
    for text in (b"first", b"second"):  # without and with an old file
        with write_whole(link) as file:
            file.write(text)
        assert link.is_symlink()
        assert (tmp_path / "real" / "numbers.txt").read_bytes() == text


@pytest.mark.skipif(os.name != "posix", reason="named pipes are POSIX's")
def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with write_whole(pipe) as file:
        file.write(b"1 2 3")
    assert os.read(reader, 9) == b"1 2 3"
    os.close(reader)
    assert pipe.is_fifo()


def test_a_name_may_be_as_long_as_the_file_system_lets_it(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 251 + ".txt")
    with write_whole(path) as file:
        file.write(b"1")
    assert path.read_bytes() == b"1"


def test_a_predictions_file_is_an_ordinary_zip_of_arrays(tmp_path: Path) -> None:
    made().save(tmp_path / "test.npz")
    names = zipfile.ZipFile(tmp_path / "test.npz").namelist()
    assert sorted(names) == sorted(
        f"{part}.npy" for part in ("images", "groups", "labels", "logits", "features", "codes")
    )


def test_a_map_is_pasted_where_the_model_looked() -> None:
    view = View(left=0.25, top=0.0, width=0.5, height=1.0)
    whole = view.paste(np.full((2, 2), 0.5), (4, 8))
    np.testing.assert_array_equal(whole[:, 2:6], 0.5)
    np.testing.assert_array_equal(whole[:, [0, 1, 6, 7]], 0)


def test_the_answer_is_the_most_probable_class_and_its_map_is_shown() -> None:
    probabilities = dict.fromkeys(CODES, 0.1) | {"mel": 0.3}
    maps = np.zeros((8, 2, 2), np.float32)
    maps[CODES.index("mel")] = 1
    answer = Assessment(
        image="a.jpg", size=(4, 6), probabilities=probabilities, view=View(), maps=maps
    )
    assert (answer.prediction, answer.confidence) == ("mel", 0.3)
    np.testing.assert_array_equal(answer.heatmap(), np.ones((4, 6)))
    np.testing.assert_array_equal(answer.heatmap("nv"), np.zeros((4, 6)))
    assert answer.to_dict() == {
        "image": "a.jpg",
        "prediction": "mel",
        "confidence": 0.3,
        "probabilities": probabilities,
    }


def test_a_map_of_an_unknown_class_is_refused() -> None:
    answer = Assessment(
        image="a.jpg",
        size=(4, 6),
        probabilities={"nv": 1.0},
        view=View(),
        maps=np.zeros((1, 2, 2), np.float32),
    )
    with pytest.raises(InputError, match="no class 'rosacea'; the classes are nv"):
        answer.heatmap("rosacea")


def test_a_view_beyond_the_picture_is_cut_where_the_picture_ends() -> None:
    """A 40 x 80 picture, padded to 80 x 80: the map's middle rows are the picture's."""
    padded = View(top=-0.5, height=2.0)
    cells = np.zeros((80, 80), np.float32)
    cells[20:60] = np.random.default_rng(0).random((40, 80))
    np.testing.assert_array_equal(padded.paste(cells, (40, 80)), cells[20:60])
    assert not View(left=1.2).paste(np.ones((2, 2), np.float32), (40, 80)).any()


@given(
    st.floats(0, 0.9), st.floats(0, 0.9), st.floats(0.05, 1), st.integers(8, 60), st.integers(8, 60)
)
def test_a_peak_lands_where_it_was_whatever_the_shape(
    left: float, top: float, share: float, height: int, width: int
) -> None:
    view = View(left=left, top=top, width=share * (1 - left), height=share * (1 - top))
    cells = np.zeros((3, 3), np.float32)
    cells[0, 2] = 1  # the upper right third of what was seen
    heat = view.paste(cells, (height, width))
    if heat.any():
        row, column = np.unravel_index(int(heat.argmax()), heat.shape)
        assert (
            view.top - 1 / height <= (row + 0.5) / height <= view.top + view.height / 3 + 1 / height
        )
        right = view.left + view.width
        assert right - view.width / 3 - 1 / width <= (column + 0.5) / width <= right + 1 / width


def test_logits_of_views_come_back_are_selected_and_must_fit(tmp_path: Path) -> None:
    plain = made()
    views = np.arange(len(plain.images) * 8 * len(plain.codes), dtype=np.float32)
    views = views.reshape(len(plain.images), 8, len(plain.codes))
    several = replace(plain, views=views)
    several.save(tmp_path / "p.npz")
    again = Predictions.load(tmp_path / "p.npz")
    assert again.views is not None
    np.testing.assert_array_equal(again.views, views)
    chosen = several.select(np.array([1]))
    assert chosen.views is not None
    np.testing.assert_array_equal(chosen.views, views[1:2])
    with pytest.raises(InputError, match="views have shape"):
        replace(plain, views=views[1:])


def test_cases_that_no_figure_can_be_made_of_are_refused() -> None:
    with pytest.raises(InputError, match=r"need one label per case, got \(0, 2\) and 0 labels"):
        check_cases(np.zeros((0, 2)), np.zeros(0, int))
