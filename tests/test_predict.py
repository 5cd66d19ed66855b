"""Many pictures give what each gives alone, in order, without ever being in memory together."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import dermx.predict as module
from dermx.config import PreprocessConfig
from dermx.diagnoses import CODES
from dermx.errors import BundleError, InputError, PictureError
from dermx.explain.gradcam import evidence, odds_maps
from dermx.model.bundle import Bundle
from dermx.model.runtime import Session
from dermx.predict import (
    Failure,
    Prepared,
    forward,
    passed,
    predict_cases,
    read_changed,
    read_prepared,
    reading_side,
    run_views,
)
from dermx.preprocess.pipeline import prepare
from dermx.preprocess.views import align, eight_views
from dermx.records import Case

N = 11


def case(path: Path, diagnosis: str | None = None) -> Case:
    return Case(
        image=path.stem,
        path=path,
        diagnosis=diagnosis,
        lesion=f"lesion of {path.stem}",
        group=f"group of {path.stem}",
        source="folder",
    )


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Eleven pictures of one colour each and of different shapes."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    paths = [folder / f"drawn{i:02d}.png" for i in range(N)]
    for path in paths:
        size = tuple(rng.integers(40, 90, 2))
        colour = tuple(int(value) for value in rng.integers(0, 256, 3))
        Image.new("RGB", size, colour).save(path)
    return paths


@pytest.fixture(scope="module")
def session(tiny_bundle: Bundle) -> Session:
    return Session(tiny_bundle, threads=1)


def test_a_red_green_and_blue_picture_worked_by_hand(session: Session, tmp_path: Path) -> None:
    cases = []
    for name, colour in {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}.items():
        Image.new("RGB", (50, 40), colour).save(tmp_path / f"{name}.png")
        cases.append(case(tmp_path / f"{name}.png"))
    predictions, failures = predict_cases(session, cases)
    assert failures == []
    assert [CODES[i] for i in predictions.logits.argmax(axis=1)] == ["vasc", "nv", "mel"]
    np.testing.assert_allclose(predictions.features, 2 * np.eye(3) - 1, atol=1e-6)
    others = np.isin(CODES, ["vasc", "nv", "mel"], invert=True)
    assert not predictions.logits[:, others].any()
    np.testing.assert_allclose(np.sort(predictions.logits[:, ~others]), [[-2, -2, 2]] * 3)


def test_rows_are_in_the_order_of_the_cases_with_their_names_and_labels(
    session: Session, pictures: list[Path]
) -> None:
    diagnoses = [None, *CODES, "mel", None]
    cases = [case(path, dx) for path, dx in zip(pictures, diagnoses, strict=True)][::-1]
    predictions, failures = predict_cases(session, cases, batch_size=4, threads=3)
    assert failures == []
    assert list(predictions.images) == [path.stem for path in pictures][::-1]
    assert list(predictions.groups) == [f"group of {path.stem}" for path in pictures][::-1]
    assert predictions.labels.tolist() == [-1, 1, 7, 6, 5, 4, 3, 2, 1, 0, -1]
    for i, one in enumerate(cases):
        prepared = read_prepared(one.path, session.bundle.preprocess)
        _, alone = session.run(prepared.pixels[None])
        np.testing.assert_allclose(predictions.features[i], alone[0], atol=1e-6)


@pytest.mark.parametrize(("batch_size", "threads"), [(1, 1), (2, 4), (N, 2), (100, 1)])
def test_batches_and_threads_do_not_change_the_result(
    session: Session, pictures: list[Path], batch_size: int, threads: int
) -> None:
    cases = [case(path) for path in pictures]
    expected, _ = predict_cases(session, cases)
    got, _ = predict_cases(session, cases, batch_size=batch_size, threads=threads)
    assert got.images == expected.images
    np.testing.assert_allclose(got.logits, expected.logits, atol=1e-5)


def test_a_bundle_is_as_good_as_its_session(
    tiny_bundle: Bundle, session: Session, pictures: list[Path]
) -> None:
    cases = [case(path) for path in pictures]
    by_bundle, by_session = predict_cases(tiny_bundle, cases)[0], predict_cases(session, cases)[0]
    np.testing.assert_allclose(by_bundle.logits, by_session.logits, atol=1e-6)


def test_unreadable_pictures_are_reported_and_the_others_go_on(
    session: Session, pictures: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "text.jpg").write_text("not a picture")
    cases = [case(path) for path in [tmp_path / "text.jpg", *pictures, tmp_path / "gone.jpg"]]
    predictions, failures = predict_cases(session, cases, batch_size=3)
    assert list(predictions.images) == [path.stem for path in pictures]
    assert [name for name, _ in failures] == ["text", "gone"]
    assert "not a picture in a known format" in failures[0].message
    assert failures[1] == Failure("gone", f"there is no file {tmp_path / 'gone.jpg'}")


def test_nothing_readable_gives_no_rows_of_the_right_width(
    session: Session, tmp_path: Path
) -> None:
    predictions, failures = predict_cases(session, [case(tmp_path / "gone.jpg")])
    assert len(failures) == 1
    assert predictions.logits.shape == (0, 8)
    assert predictions.features.shape == (0, 3)
    assert predict_cases(session, [])[0].images == []


def test_progress_counts_every_picture_once(
    session: Session, pictures: list[Path], tmp_path: Path
) -> None:
    counts: list[int] = []
    cases = [case(path) for path in [*pictures, tmp_path / "gone.jpg"]]
    predict_cases(session, cases, batch_size=4, progress=counts.append)
    assert sum(counts) == N + 1


def test_a_diagnosis_that_the_model_lacks_is_refused_before_any_work(session: Session) -> None:
    cases = [case(Path("a.jpg"), "nv"), case(Path("b.jpg"), "rosacea")]
    with pytest.raises(InputError, match="b has the diagnosis 'rosacea', which the model doesn't"):
        predict_cases(session, cases)


@pytest.mark.parametrize(("batch_size", "threads"), [(0, 1), (1, 0), (-3, 2)])
def test_no_batch_and_no_thread_are_refused(
    session: Session, pictures: list[Path], batch_size: int, threads: int
) -> None:
    with pytest.raises(InputError, match=f"at least 1, got {batch_size} and {threads}"):
        list(forward(session, pictures, batch_size=batch_size, threads=threads))
    with pytest.raises(InputError, match=f"at least 1, got {batch_size} and {threads}"):
        predict_cases(
            session, [case(path) for path in pictures], batch_size=batch_size, threads=threads
        )


def test_never_more_than_three_batches_are_read_ahead(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[object] = []

    def read(source: object, spec: PreprocessConfig) -> Prepared:
        started.append(source)
        return read_prepared(source, spec)

    monkeypatch.setattr(module, "_read", read)
    sources = [np.full((40, 40, 3), i, np.uint8) for i in range(30)]
    answers = forward(session, sources, batch_size=4, threads=2)
    for done, _ in enumerate(answers, 1):
        assert len(started) <= done + 3 * 4 - 1
    assert len(started) == 30


def test_work_that_is_left_early_stops(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[object] = []

    def read(source: object, spec: PreprocessConfig) -> PictureError:
        started.append(source)
        return PictureError("unreadable")

    monkeypatch.setattr(module, "_read", read)
    answers = forward(session, [b""] * 1000, batch_size=2, threads=1)
    next(answers)
    answers.close()
    assert len(started) <= 6


def test_an_error_that_is_not_the_pictures_is_raised(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(source: object, spec: PreprocessConfig) -> Prepared:
        raise BundleError("a bug must not look like a bad picture")

    monkeypatch.setattr(module, "read_prepared", read)
    with pytest.raises(BundleError, match="must not look like"):
        list(forward(session, [b"any"]))


def test_reading_keeps_the_pixels_that_the_model_needs() -> None:
    assert reading_side(PreprocessConfig(image_size=224)) == 224
    assert reading_side(PreprocessConfig(image_size=224, crop_fraction=0.7)) == 320
    assert reading_side(PreprocessConfig(image_size=224, hair_removal=True)) == 450
    assert reading_side(PreprocessConfig(image_size=500, lesion_crop=True)) == 500


def test_a_large_jpeg_decoded_small_gives_nearly_the_same_input(tmp_path: Path) -> None:
    y, x = np.mgrid[:960, :1280] / 120
    waves = np.stack([np.sin(x + c) * np.cos(y - c) for c in range(3)], axis=2)
    pixels = (127 + 120 * waves).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "large.jpg", quality=95)
    spec = PreprocessConfig(image_size=96)
    read = read_prepared(tmp_path / "large.jpg", spec)
    whole, view = prepare(pixels, spec)
    assert read.size == (960, 1280)
    assert read.view == view
    assert np.abs(read.pixels.astype(int) - whole).mean() < 2


# --- changed pictures ----------------------------------------------------------------------------


def test_a_change_is_applied_to_every_picture_before_it_is_prepared(
    session: Session, tmp_path: Path
) -> None:
    cases = []
    for name, colour in {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}.items():
        Image.new("RGB", (50, 40), colour).save(tmp_path / f"{name}.png")
        cases.append(case(tmp_path / f"{name}.png"))
    predictions, failures = predict_cases(session, cases, change=lambda pixels: pixels[:, :, ::-1])
    assert failures == []
    assert [CODES[i] for i in predictions.logits.argmax(axis=1)] == ["mel", "nv", "vasc"]


def test_a_change_that_changes_nothing_gives_the_same_answers(
    session: Session, pictures: list[Path]
) -> None:
    cases = [case(path) for path in pictures]
    plain, same = (predict_cases(session, cases, change=c)[0] for c in (None, lambda p: p))
    np.testing.assert_array_equal(plain.logits, same.logits)


def test_a_change_sees_the_upright_picture_at_full_height_and_sets_the_size(tmp_path: Path) -> None:
    Image.new("RGB", (1600, 1200)).save(tmp_path / "large.jpg")
    seen = []

    def half(pixels: np.ndarray) -> np.ndarray:
        seen.append(pixels.shape)
        return pixels[: pixels.shape[0] // 2]

    prepared = read_changed(tmp_path / "large.jpg", PreprocessConfig(image_size=64), half)
    ((height, width, _),) = seen
    assert 450 <= height <= 1200
    assert prepared.size == (height // 2, width)
    assert prepared.pixels.shape == (64, 64, 3)


def test_an_unreadable_picture_is_reported_before_it_is_changed(
    session: Session, tmp_path: Path
) -> None:
    _, failures = predict_cases(session, [case(tmp_path / "gone.jpg")], change=lambda p: p)
    assert failures == [Failure("gone", f"there is no file {tmp_path / 'gone.jpg'}")]


def test_eight_views_give_the_mean_of_the_views_alone(tiny_bundle: Bundle, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "noise.png")
    session = Session(tiny_bundle, 1)
    cells, features = run_views(session, [pixels], views=8)
    views = np.moveaxis(eight_views(np.moveaxis(pixels, -1, 0)), 1, -1)
    alone = [session.run(view[None]) for view in views]
    np.testing.assert_allclose(features[0], [f[0] for _, f in alone], atol=1e-5)
    added = [evidence(m[0], tiny_bundle.weight) for m, _ in alone]
    np.testing.assert_allclose(cells[0], added, atol=1e-5)
    cases = [case(tmp_path / "noise.png", "nv")]
    found, _ = predict_cases(session, cases, views=8)
    np.testing.assert_allclose(found.features[0], features[0].mean(axis=0), atol=1e-5)
    # The layer is linear: logits of the mean features are the mean of the views' logits.
    assert found.views is not None
    assert found.views.shape == (1, 8, len(CODES))
    np.testing.assert_allclose(found.logits[0], found.views[0].mean(axis=0), atol=1e-5)
    assert predict_cases(session, cases)[0].views is None
    with pytest.raises(InputError, match="views must be 1 or 8, got 4"):
        predict_cases(session, cases, views=4)


def test_the_map_of_eight_views_lies_on_the_picture_as_it_was_taken(tiny_bundle: Bundle) -> None:
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:8, 8:16, 0] = 255  # red in one cell, off every axis of symmetry
    session, spec = Session(tiny_bundle, 1), tiny_bundle.preprocess
    prepared = read_prepared(pixels, spec)
    one, many = (
        passed(prepared, *(part[0] for part in run_views(session, [prepared.pixels], views)))
        for views in (1, 8)
    )
    alone, mean = (
        odds_maps(each.evidence, session.logits(each.features[None])[0]) for each in (one, many)
    )
    np.testing.assert_allclose(mean, alone, atol=1e-5)
    np.testing.assert_allclose(align(many.evidence).mean(axis=0), one.evidence[0], atol=1e-5)
    maps, _ = session.run(pixels[None], 8)
    assert np.argmax(align(maps).mean(axis=0)[0]) == 1
