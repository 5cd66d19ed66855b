"""One picture gets one answer, whichever way it is handed over; its map lies where it should."""

import io
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import dermx
from dermx.assess import Model, load_model
from dermx.diagnoses import CODES
from dermx.errors import BundleError, InputError, PictureError
from dermx.model import bundle as bundles
from dermx.model.bundle import Bundle
from dermx.predict import Failure
from dermx.records import Assessment, softmax
from dermx.trust.calibration import uncalibrated
from dermx.trust.conformal import Sets
from dermx.trust.referral import Rule
from dermx.trust.verdict import Dropout, Screening, Trust


@pytest.fixture(scope="module")
def model(tiny_bundle: Bundle) -> Model:
    return Model(tiny_bundle, threads=1)


@pytest.fixture
def picture() -> np.ndarray:
    """Black, 60 high and 100 wide, red in the upper left quarter of its centre square."""
    pixels = np.zeros((60, 100, 3), np.uint8)
    pixels[:30, 20:50, 0] = 255
    return pixels


def test_a_red_picture_worked_by_hand(model: Model) -> None:
    answer = model.assess(np.full((40, 40, 3), (255, 0, 0), np.uint8))
    # logits: vasc 2, nv and mel -2, the five others 0
    total = np.exp(2) + 2 * np.exp(-2) + 5
    assert answer.prediction == "vasc"
    assert answer.confidence == pytest.approx(np.exp(2) / total)
    assert answer.probabilities["nv"] == pytest.approx(np.exp(-2) / total)
    assert answer.probabilities["df"] == pytest.approx(1 / total)
    assert list(answer.probabilities) == list(model.bundle.codes)
    assert sum(answer.probabilities.values()) == pytest.approx(1)


def test_every_way_to_hand_a_picture_over_gives_the_same_answer(
    model: Model, picture: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "lesion.png"
    Image.fromarray(picture).save(path)
    expected = model.assess(picture)
    ways = [path, str(path), path.read_bytes(), Image.open(io.BytesIO(path.read_bytes()))]
    for way, name in zip(ways, [str(path), str(path), "picture", "picture"], strict=True):
        answer = model.assess(way)
        assert answer.image == name
        assert answer.probabilities == pytest.approx(dict(expected.probabilities))
        np.testing.assert_allclose(answer.maps, expected.maps, atol=1e-6)


def test_the_map_lies_on_what_speaks_for_the_class(model: Model, picture: np.ndarray) -> None:
    heat = model.assess(picture).heatmap("vasc")
    assert heat.shape == (60, 100)
    assert heat[:, :20].max() == heat[:, 80:].max() == 0  # outside the centre square: not seen
    assert heat[:20, 22:40].min() > 0.99
    assert heat[40:, 60:80].max() == 0


def test_a_class_that_nothing_speaks_for_has_an_empty_map(
    model: Model, picture: np.ndarray
) -> None:
    answer = model.assess(picture)
    assert not answer.heatmap("mel").any()
    assert (answer.heatmap() == answer.heatmap(answer.prediction)).all()
    with pytest.raises(InputError, match="no class 'flu'"):
        answer.heatmap("flu")


def test_the_answer_has_the_keys_of_the_command_line_and_invents_no_trust(
    model: Model, picture: np.ndarray
) -> None:
    answer = model.assess(picture).to_dict()
    assert set(answer) == {"image", "prediction", "confidence", "probabilities"}


def test_what_was_done_to_read_the_picture_is_said(model: Model) -> None:
    frames, file = [Image.new("RGB", (40, 40), c) for c in ("red", "blue")], io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    answer = model.assess(file.getvalue())
    assert answer.prediction == "vasc"  # the first frame is red
    assert answer.notes == ("only frame 1 of several was used",)


def test_a_turned_photograph_is_answered_and_mapped_upright(
    model: Model, picture: np.ndarray
) -> None:
    lying, file = Image.fromarray(np.rot90(picture).copy()), io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by a quarter clockwise
    lying.save(file, "PNG", exif=exif)
    answer = model.assess(file.getvalue())
    assert answer.size == (60, 100)
    np.testing.assert_allclose(answer.maps, model.assess(picture).maps, atol=1e-6)


def test_what_is_no_picture_is_refused(model: Model, tmp_path: Path) -> None:
    with pytest.raises(PictureError, match="there is no file"):
        model.assess(tmp_path / "gone.jpg")
    with pytest.raises(PictureError, match=r"empty \(0 bytes\)"):
        model.assess(b"")


def test_many_are_answered_in_order_and_one_bad_one_does_not_stop_them(
    model: Model, picture: np.ndarray
) -> None:
    mirrored = picture[:, ::-1].copy()
    first, second, third = model.assess_many([picture, b"text", mirrored], batch_size=2)
    assert isinstance(second, Failure)
    assert second.image == "picture"
    assert "not a picture" in second.message
    for answer, pixels in ((first, picture), (third, mirrored)):
        assert isinstance(answer, Assessment)
        alone = model.assess(pixels)
        assert answer.probabilities == pytest.approx(dict(alone.probabilities), abs=1e-6)
        np.testing.assert_allclose(answer.maps, alone.maps, atol=1e-5)


def test_a_model_is_opened_by_its_folder(tiny_bundle: Bundle) -> None:
    assert load_model(str(tiny_bundle.folder)).bundle.name == "tiny"
    assert dermx.load_model(tiny_bundle.folder).bundle.codes == tiny_bundle.codes
    with pytest.raises(BundleError, match="is not a model's folder"):
        dermx.load_model(tiny_bundle.folder.parent)


@pytest.fixture
def trusted(tiny_bundle: Bundle, tmp_path: Path) -> Path:
    """The tiny model with trust parts made by hand: half as sure, acne in every set, no gate."""
    trust = Trust(
        codes=CODES,
        views=8,
        calibration=uncalibrated(8).tempered(2.0),
        gate=None,
        dropout=Dropout(rate=0.0, samples=1),
        sets=Sets(
            score="lac",
            per="class",
            coverage=0.9,
            thresholds=np.where([code == "acne" for code in CODES], 1.0, 0.0),
            cases=np.full(8, 20),
        ),
        rule=Rule(min_confidence=0.0),
        screening=Screening(threshold=0.9, sensitivity=0.9),
        facts={},
    )
    folder = shutil.copytree(tiny_bundle.folder, tmp_path / "trusted")
    return bundles.write_trust(bundles.load_bundle(folder), trust.to_parts()).folder


def test_trust_parts_are_used_unless_they_are_not_wanted(
    trusted: Path, model: Model, picture: np.ndarray
) -> None:
    for half in (load_model(trusted), Model(bundles.load_bundle(trusted))):
        assert half.views == 8
        answer = half.assess(picture)
        logits = np.log([*model.assess(picture).probabilities.values()])
        expected = dict(zip(CODES, softmax(logits[None] / 2)[0], strict=True))
        assert answer.probabilities == pytest.approx(expected, abs=1e-5)
        assert answer.trust["prediction_set"] == [answer.prediction, "acne"]
        assert not answer.trust["abstain"]
        (among_many,) = half.assess_many([picture])
        assert isinstance(among_many, Assessment)
        assert among_many.trust == answer.trust
    plain = load_model(trusted, with_trust=False)
    assert (plain.trust, plain.views) == (None, 1)
    assert dict(plain.assess(picture).trust) == {}
    assert plain.assess(picture).probabilities == model.assess(picture).probabilities


def test_trust_parts_for_other_classes_are_refused(trusted: Path) -> None:
    bundle = bundles.load_bundle(trusted)
    with pytest.raises(
        BundleError, match=r"the trust parts are for nv, .*, the model answers acne"
    ):
        Model(replace(bundle, codes=CODES[::-1]))


def test_no_batch_is_refused(model: Model, picture: np.ndarray) -> None:
    for batch_size, threads in ((0, 1), (1, 0)):
        with pytest.raises(InputError, match=f"at least 1, got {batch_size} and {threads}"):
            list(model.assess_many([picture], batch_size=batch_size, threads=threads))


def test_predict_asks_the_shipped_model_and_opens_it_once(
    tiny_bundle: Bundle, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundles, "SHIPPED", tiny_bundle.folder)
    dermx._shipped.cache_clear()
    try:
        answer = dermx.predict(picture)
        assert set(answer) == {"prediction", "confidence", "probabilities"}
        assert answer["confidence"] == max(answer["probabilities"].values())
        assert dermx._shipped() is dermx._shipped()
    finally:
        dermx._shipped.cache_clear()  # other tests see the real one
