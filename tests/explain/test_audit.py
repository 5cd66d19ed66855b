"""What an audit says where something can't be measured, or a class has no picture."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="the page has figures")

from dermx.diagnoses import CODES
from dermx.explain.audit import MIDDLE, OURS, Audit, Curves, Sanity, findings
from dermx.explain.faithfulness import Faithful
from dermx.explain.shortcuts import AS_TAKEN, compare
from dermx.records import Predictions
from dermx.report_audit import write_audit

LESIONS = ["a", "b", "c", "d"]


def made(stage: float) -> Audit:
    """Of two naevi and two melanomas, all called naevus once the lesion is painted out."""
    truth = np.array([CODES.index(code) for code in ("nv", "nv", "mel", "mel")])

    def answered(answers: np.ndarray) -> Predictions:
        return Predictions(
            images=LESIONS,
            groups=LESIONS,
            labels=truth,
            logits=np.eye(len(CODES), dtype=np.float32)[answers],
            features=np.zeros((4, 2), np.float32),
        )

    right, naevi = answered(truth), answered(np.full(4, CODES.index("nv")))
    curve = Faithful(deletion=np.array([1.0, 0.5, 0]), insertion=np.array([0, 0.5, 1.0]), road=0)
    every = np.full(4, stage)
    return Audit(
        title="Audit",
        facts={},
        seed=0,
        curves=Curves(maps={OURS: [curve] * 4, MIDDLE: [curve] * 4}, groups=LESIONS),
        located={},
        sanity=Sanity(
            groups=LESIONS,
            draws=1,
            stages=[(0.0, every), (1.0, every)],
            absolute=every,
            other_picture=every,
        ),
        shortcuts=[
            compare(AS_TAKEN, right, right),
            compare("lesion painted out", right, naevi),
        ],
        acne=[],
        subgroups=[],
    )


def test_guessing_is_one_in_the_classes_that_there_are() -> None:
    """Naevus for all is right in half of two classes: that is guessing, not one in seven."""
    said = next(line for line in findings(made(0.0)) if "lesion painted out" in line)
    assert "is 0.500 (" in said
    assert "not above that of guessing, 0.500" in said


def test_without_outlines_the_spot_is_still_explained() -> None:
    deletion, insertion = (line for line in findings(made(0.0)) if line.startswith("By "))
    assert "level with a spot in the middle, which knows nothing of the picture, on" in deletion
    assert "level with that spot on" in insertion


@pytest.mark.parametrize(
    ("stage", "passes", "said", "tile"),
    [
        (0.1, True, "The sanity check passes: with all", "Sanity check passes"),
        (0.9, False, "The sanity check FAILS: with all", "Sanity check fails"),
        (np.nan, None, "The sanity check can't be made: the maps", "Sanity check can&#x27;t be"),
    ],
)
def test_a_sanity_check_that_can_not_be_made_does_not_pass(
    stage: float, passes: bool | None, said: str, tile: str, tmp_path: Path
) -> None:
    audit = made(stage)
    assert any(line.startswith(said) for line in findings(audit))
    page = write_audit(tmp_path, audit).read_text(encoding="utf-8")
    assert tile in page
    assert ">nan<" not in page
    assert "balanced accuracy of 1/2 = 0.500" in page
    content = json.loads((tmp_path / "audit.json").read_text(encoding="utf-8"))
    assert content["sanity"]["passes"] is passes


def test_intervals_that_lie_apart_are_said_to_whichever_map_is_better() -> None:
    def faithful(value: float) -> list[Faithful]:
        flat = np.full(3, value)
        return [Faithful(deletion=flat, insertion=flat, road=value)] * 4

    low_and_high = Curves(maps={OURS: faithful(0.1), MIDDLE: faithful(0.8)}, groups=LESIONS)
    deletion, insertion = (
        line for line in findings(replace(made(0.0), curves=low_and_high)) if line.startswith("By ")
    )
    assert "better than" in deletion
    assert "do not overlap" in deletion
    assert "worse than" in insertion
    assert "do not overlap" in insertion
