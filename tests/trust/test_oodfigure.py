"""What the gate's figure says in words is what the gate does."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="figures need matplotlib")

from dermx.diagnoses import CODES
from dermx.records import Predictions
from dermx.trust.gate import Gate
from dermx.trust.oodfigure import gate_figure

GATE = Gate(
    codes=CODES,
    groups=("dermoscopy", "clinical photograph", "clinical"),
    acceptance=0.95,
    weight=np.zeros((2, 3), np.float32),
    bias=np.zeros(3, np.float32),
    offsets=np.zeros(2, np.float32),
    cautions=np.zeros(2, np.float32),
)

ROW = {"on": "report", "detector": "gate", "auroc_clinical": 0.9}


def said(images: list[str]) -> Predictions:
    return Predictions(
        images=images,
        groups=images,
        labels=np.arange(len(images)),
        logits=np.eye(len(images), len(CODES), dtype=np.float32),
        features=np.zeros((len(images), 2), np.float32),
    )


@pytest.mark.parametrize(
    ("cautions", "band"),
    [((-1, -2), ["unsure, if acne"]), ((-2, -1), ["unsure, if of dermoscopy"]), ((0, 0), [])],
)
def test_the_band_is_named_after_the_answers_that_it_reaches_lowest_for(
    cautions: tuple[float, float], band: list[str]
) -> None:
    gate = replace(GATE, cautions=np.array(cautions, np.float32))
    figure = gate_figure(gate, said(["a", "b"]), said(["c"]), ["clinical"], [ROW])
    texts = [text.get_text().strip() for text in figure.axes[0].texts]
    assert [text for text in texts if text.startswith("unsure")] == band
