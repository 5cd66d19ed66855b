"""Figures show the numbers they are given."""

import io

import numpy as np
import pytest
from PIL import Image

from dermx.diagnoses import CODES
from dermx.errors import InputError
from dermx.evaluate.figures import confusion_figure, history_figure, png


def texts(axes: object) -> list[str]:
    return [text.get_text() for text in axes.texts]  # type: ignore[attr-defined]


def test_each_cell_holds_its_count_and_its_share_of_the_row() -> None:
    axes = confusion_figure(np.array([[3, 1, 0], [0, 0, 0], [1, 199, 0]]), ["nv", "mel", "bkl"])
    shown = texts(axes.axes[0])
    assert shown == ["3", "75 %", "1", "25 %", "0", *["0"] * 3, "1", "<1 %", "199", "100 %", "0"]


def test_colour_is_the_share_of_the_row_not_the_count() -> None:
    figure = confusion_figure(np.array([[900, 100], [1, 9]]), ["nv", "df"])
    np.testing.assert_allclose(figure.axes[0].images[0].get_array(), [[0.9, 0.1], [0.1, 0.9]])


def test_rows_and_columns_carry_names_and_row_totals() -> None:
    axes = confusion_figure(np.array([[2, 1], [0, 4]]), ["mel", "sk"]).axes[0]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["melanoma\nn = 3", "sk\nn = 4"]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["melanoma", "sk"]
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("truth", "answer")


def test_history_draws_what_was_logged_and_rings_the_first_best_epoch() -> None:
    history = [
        {"epoch": 1, "train_loss": 2.0, "val_loss": 1.5, "val_balanced_accuracy": 0.4},
        {"epoch": 2, "train_loss": 1.0, "val_loss": None, "val_balanced_accuracy": 0.7},
        {"epoch": 3, "train_loss": 0.5, "val_loss": 1.2, "val_balanced_accuracy": 0.7},
    ]
    loss, accuracy, rate = history_figure(history).axes
    train, validation = loss.get_lines()
    assert list(train.get_ydata()) == [2.0, 1.0, 0.5]
    assert list(validation.get_xdata()) == [1, 3]
    balanced, ring = accuracy.get_lines()
    assert list(balanced.get_ydata()) == [0.4, 0.7, 0.7]
    assert (list(ring.get_xdata()), list(ring.get_ydata())) == ([2], [0.7])
    assert accuracy.get_title(loc="right") == "best: epoch 2, 0.700"
    assert not rate.get_lines()


def test_an_undefined_accuracy_is_never_the_best() -> None:
    nan = float("nan")
    rows = [{"val_balanced_accuracy": value} for value in (nan, 0.2, nan)]
    assert "epoch 2" in history_figure(rows).axes[1].get_title(loc="right")


def test_a_history_without_an_epoch_is_refused() -> None:
    with pytest.raises(InputError, match="no epoch in the training history"):
        history_figure([])


def test_a_png_is_readable_and_the_same_each_time() -> None:
    counts = np.arange(64).reshape(8, 8)
    one, other = (png(confusion_figure(counts, CODES), dpi=60) for _ in range(2))
    assert one == other
    picture = np.asarray(Image.open(io.BytesIO(one)).convert("RGB"))
    assert (picture[0, 0] == 255).all()
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 50
