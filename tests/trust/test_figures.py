"""Figures show what is there, and no point for what is not."""

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="drawing needs dermx[train]")

from dermx.trust.figures import risk_figure


@pytest.mark.parametrize(("answered", "point"), [([1, 1, 0], [(2 / 3, 0.5)]), ([0, 0, 0], [])])
def test_a_rule_that_answers_nothing_has_no_point(
    answered: list[int], point: list[tuple[float, float]]
) -> None:
    doubt, wrong = np.array([0.1, 0.2, 0.3]), np.array([False, True, True])
    figure = risk_figure({"one": doubt}, wrong, {"one": 0.1}, answered=np.array(answered, bool))
    lines = {line.get_label(): line for line in figure.axes[0].get_lines()}
    rule = lines.get("the rule as set")
    shown = [] if rule is None else list(zip(*rule.get_data(), strict=True))
    assert shown == [pytest.approx(at) for at in point]
