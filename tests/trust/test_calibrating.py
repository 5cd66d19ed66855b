"""Every calibration that can be fitted is compared; only the temperature must be."""

import json
from pathlib import Path

import pytest

from dermx.errors import DataError, InputError
from dermx.records import Case, Predictions
from dermx.workflow import calibrating

from .conftest import world
from .test_fitting import upside_down


def compared(
    fitted_on: Predictions,
    run: Path,
    monkeypatch: pytest.MonkeyPatch,
    tested: tuple[Case, ...] = (),
) -> tuple[dict, list]:
    """What is written, and what is said."""
    said: list[str] = []
    monkeypatch.setattr(calibrating, "read_parts", lambda _: {"test": tested})
    monkeypatch.setattr(calibrating, "views_of", lambda *_, **__: world(300, seed=3))
    (run / "evaluation" / "test").mkdir(parents=True)
    fitted_on.save(run / "fit.npz")
    calibrating.calibrate_run(run, fit=run / "fit.npz", n_boot=10, say=said.append)
    return json.loads((run / "evaluation" / "test" / "calibration.json").read_text()), said


def test_one_that_can_t_be_fitted_is_told_and_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, said = compared(upside_down(), tmp_path, monkeypatch)
    assert list(content["methods"])[:-1] == ["none", "temperature", "bias"]
    assert list(content["not_fitted"]) == ["vector", "classwise"]
    assert said[0].startswith("vector is left out: the fit turns logits upside down (scale -")
    assert json.loads((tmp_path / "calibration_temperature.json").read_text())["temperature"] > 0


def test_logits_that_have_no_temperature_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = world(300)
    known.logits[:] *= -1
    with pytest.raises(InputError, match="check that labels and logits belong together"):
        compared(known, tmp_path, monkeypatch)


def test_names_are_set_apart_from_their_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, said = compared(world(150), tmp_path, monkeypatch)
    assert {line.split("  ")[0] for line in said} >= {"none", "temperature", "classwise"}
    assert said[-1].partition(" ece ")[0].rstrip().endswith(", consistent")


@pytest.mark.parametrize(("image", "group"), [("0-7", "elsewhere"), ("another", "0-2")])
def test_cases_of_the_test_part_or_of_its_lesions_are_not_fitted_on(
    image: str, group: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tested = Case(
        image=image, path=Path(), diagnosis="nv", lesion=group, group=group, source="folder"
    )
    count = 1 if group == "elsewhere" else 3  # pictures 6 to 8 are of lesion 2
    with pytest.raises(DataError, match=rf"^{count} of the 150 cases in .*fit.npz are of the test"):
        compared(world(150), tmp_path, monkeypatch, (tested,))
    assert not (tmp_path / "calibration_temperature.json").exists()
