"""The shift table has a row per change and severity, and its figures are those of the parts."""

import numpy as np
import pytest

from dermx.errors import InputError
from dermx.records import Predictions
from dermx.trust.shifting import shift_csv, shift_rows
from dermx.trust.verdict import Trust, judge

from .conftest import layer, world


def test_changed_pictures_are_measured_by_the_same_arithmetic(trust: Trust) -> None:
    asked: list[tuple[str, int]] = []

    def predict(change) -> Predictions:  # type: ignore[no-untyped-def]
        if not hasattr(change, "keywords"):
            return world(300, seed=40)
        asked.append((change.keywords["name"], change.keywords["severity"]))
        spoiled = world(300, seed=40)
        noise = np.random.default_rng(0).standard_normal(spoiled.features.shape)
        features = spoiled.features + np.float32(change.keywords["severity"] * 0.5 * noise)
        return Predictions(
            images=spoiled.images, groups=spoiled.groups, labels=spoiled.labels,
            logits=features[:, :8], features=features,
        )  # fmt: skip

    rows = list(shift_rows(trust, *layer(), predict, ["blur", "noise"], [1, 5]))
    assert asked == [("blur", 1), ("blur", 5), ("noise", 1), ("noise", 5)]
    assert [row[:3] for row in rows[:2]] == [("none", 0, 300), ("blur", 1, 300)]
    judged = judge(trust, world(300, seed=40).features, *layer())
    assert rows[0].answered == pytest.approx(1 - judged.abstain.mean())
    assert rows[0].set_size == pytest.approx(judged.inside.sum(axis=1).mean())
    assert rows[2].accuracy < rows[0].accuracy  # the noise is there
    lines = shift_csv(rows).splitlines()
    assert lines[0].startswith("change,severity,cases,accuracy,confidence,ece,classwise_ece")
    assert lines[2].startswith("blur,1,300,")
    assert len(lines) == 6


def test_nothing_to_change_is_refused(trust: Trust) -> None:
    with pytest.raises(InputError, match=r"nothing to change, got \[\] at \[1\]"):
        next(shift_rows(trust, *layer(), lambda _: world(3), [], [1]))
