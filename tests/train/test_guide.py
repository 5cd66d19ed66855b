import re
from pathlib import Path

import numpy as np
import pytest

from dermx.config import TrainConfig
from dermx.diagnoses import CODES
from dermx.errors import DataError
from dermx.records import Predictions, softmax
from dermx.train.guide import Guide, read_guide, read_scores, read_teacher

IMAGES = ["c", "a"]


def table(folder: Path, text: str) -> Path:
    path = folder / "scores.csv"
    path.write_text(text, encoding="utf-8")
    return path


def predictions(folder: Path, images: list[str], codes: tuple[str, ...] = CODES) -> Path:
    rng = np.random.default_rng(0)
    said = Predictions(
        images=images,
        groups=images,
        labels=np.zeros(len(images), np.int64),
        logits=rng.normal(size=(len(images), len(codes))).astype(np.float32),
        features=np.zeros((len(images), 1), np.float32),
        codes=codes,
    )
    said.save(folder / "predictions.npz")
    return folder / "predictions.npz"


def test_scores_come_in_the_order_of_the_pictures(tmp_path: Path) -> None:
    path = table(tmp_path, "\ufeffimage,score\na,1\nb,2\nc,-3.5\n")
    assert read_scores(path, IMAGES).tolist() == [-3.5, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,score\na,1\n", r"lacks 1 of the training pictures, e\.g\. c"),
        ("image,score\na,1\na,2\n", "has two scores of a"),
        ("image,score\na,1\nc,inf\n", "has a score that is no number, of c"),
        ("image,score\na,much\n", "is not a table of image and score: .*much"),
        ("image,score\na\n", "is not a table of image and score"),
        ("name,score\na,1\n", "is not a table of image and score: 'image'"),
    ],
)
def test_a_wrong_table_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=rf"scores\.csv {message}"):
        read_scores(table(tmp_path, text), IMAGES)


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"can't read .*none\.csv: No such file"):
        read_scores(tmp_path / "none.csv", IMAGES)


def test_a_teachers_probabilities_come_in_the_order_of_the_pictures(tmp_path: Path) -> None:
    path = predictions(tmp_path, ["a", "b", "c"])
    probs = read_teacher([path], IMAGES)
    np.testing.assert_allclose(probs, softmax(Predictions.load(path).logits)[[2, 0]], rtol=1e-6)


@pytest.mark.parametrize(
    ("images", "codes", "message"),
    [
        (["a", "b"], CODES, r"lacks 1 of the training pictures, e\.g\. c"),
        (["a", "c", "a"], CODES, "has 1 pictures twice"),
        (["a", "c"], CODES[::-1], "is of the classes .*, not of this model's"),
    ],
)
def test_a_teacher_that_does_not_fit_is_named(
    tmp_path: Path, images: list[str], codes: tuple[str, ...], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read_teacher([predictions(tmp_path, images, codes)], IMAGES)


def test_several_teachers_are_one(tmp_path: Path) -> None:
    """Their logits' mean, whatever order each has the pictures in."""
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    paths = [predictions(tmp_path / "one", ["a", "c"]), predictions(tmp_path / "other", ["c", "a"])]
    one, other = (Predictions.load(path).logits for path in paths)
    expected = softmax((one[::-1] + other) / 2)
    np.testing.assert_allclose(read_teacher(paths, IMAGES), expected, rtol=1e-6)


def test_only_the_files_that_the_settings_name_are_read(tmp_path: Path) -> None:
    nothing = read_guide(TrainConfig(), IMAGES)
    assert nothing.difficulty is None
    assert nothing.teacher is None
    scores = table(tmp_path, "image,score\na,1\nc,2\n")
    guide = read_guide(TrainConfig(curriculum=str(scores)), IMAGES)
    assert guide.difficulty is not None
    assert guide.teacher is None
    with pytest.raises(DataError, match=re.escape("nowhere.npz is not a predictions file")):
        read_guide(TrainConfig(teacher=(str(tmp_path / "nowhere.npz"),)), IMAGES)


def test_a_run_depends_on_what_guides_it() -> None:
    one, other = np.array([1.0, 2.0]), np.array([1.0, 3.0])
    digests = [
        Guide(difficulty=one).digest("run"),
        Guide(difficulty=other).digest("run"),
        Guide(teacher=one[:, None].astype(np.float32)).digest("run"),
        Guide(difficulty=one).digest("another"),
        Guide().digest("run"),
    ]
    assert len(set(digests)) == 5
    assert Guide().digest("run") == "run"
    assert Guide(difficulty=one.copy()).digest("run") == digests[0]
