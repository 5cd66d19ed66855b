"""Every calibration that can be fitted is compared; only the temperature must be."""

import json
from pathlib import Path

import pytest

from dermx.errors import InputError
from dermx.records import Predictions
from dermx.workflow import calibrating

from .conftest import world
from .test_fitting import upside_down


def compared(
    fitted_on: Predictions, run: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[dict, list]:
    """What is written, and what is said."""
    said: list[str] = []
    monkeypatch.setattr(calibrating, "views_of", lambda *_, **__: world(300, seed=3))
    (run / "evaluation" / "test").mkdir(parents=True)
    fitted_on.save(run / "fit.npz")
    calibrating.calibrate_run(run, fit=run / "fit.npz", n_boot=10, say=said.append)
    return json.loads((run / "evaluation" / "test" / "calibration.json").read_text()), said


def test_one_that_can_t_be_fitted_is_told_and_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, said = compared(upside_down(), tmp_path, monkeypatch)
    assert list(content["methods"])[:-1] == ["none", "temperature", "bias", "classwise"]
    assert list(content["not_fitted"]) == ["vector"]
    assert said[0].startswith("vector is left out: the fit turns logits upside down (scale -")
    assert json.loads((tmp_path / "calibration_temperature.json").read_text())["temperature"] > 0


def test_logits_that_have_no_temperature_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = world(300)
    known.logits[:] *= -1
    with pytest.raises(InputError, match="check that labels and logits belong together"):
        compared(known, tmp_path, monkeypatch)
