"""`dermx evaluate RUN --stress`, on a run made by hand: drawn pictures, a model of colours."""

import csv
import shutil
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="a run's environment names torch")

from dermx.cli.main import main
from dermx.config import Config
from dermx.data.phantom import write_dataset
from dermx.diagnoses import DERMOSCOPIC
from dermx.model.bundle import Bundle
from dermx.records import Predictions
from dermx.runs import read_parts, start_run
from dermx.workflow.training import load_cases


def silent(_: str) -> None:
    pass


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Bundle) -> Path:
    folder = tmp_path_factory.mktemp("stress")
    ham10000, dermnet = write_dataset(folder, 8, size=(60, 80))
    start_run(folder / "run", load_cases(ham10000, dermnet, say=silent), Config(), None)
    shutil.copytree(tiny_bundle.folder, folder / "run" / "bundle")
    return folder / "run"


def test_the_table_has_every_change_and_severity_and_the_mean_is_theirs(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(run), "--on", "val", "--stress"]) == 0
    folder = run / "evaluation" / "val"
    assert f"{folder / 'stress.csv'}: balanced accuracy" in capsys.readouterr().out
    with (folder / "stress.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert (rows[0]["change"], rows[-1]["change"]) == ("none", "mean")
    pairs = [(row["change"], int(row["severity"])) for row in rows[1:-1]]
    changes = ["colour_cast", "brightness", "blur", "zoom", "vignette", "crop"]
    assert pairs == [(change, severity) for change in changes for severity in range(1, 6)]
    figures = [float(row["balanced_accuracy_dermoscopic"]) for row in rows]
    assert figures[-1] == pytest.approx(sum(figures[1:-1]) / 30, abs=1e-4)
    dermoscopic = [case for case in read_parts(run)["val"] if case.diagnosis in DERMOSCOPIC]
    assert {int(row["cases"]) for row in rows} == {len(dermoscopic)}
    assert len(dermoscopic) < len(Predictions.load(folder / "predictions.npz").images)


def test_without_the_option_nothing_is_changed(run: Path) -> None:
    assert main(["evaluate", str(run), "--on", "test"]) == 0
    assert not (run / "evaluation" / "test" / "stress.csv").exists()


def test_eight_views_are_a_report_of_their_own(run: Path) -> None:
    assert main(["evaluate", str(run), "--on", "val"]) == 0
    assert main(["evaluate", str(run), "--on", "val", "--views", "8"]) == 0
    one, eight = (run / "evaluation" / name for name in ("val", "val_8_views"))
    assert "mean of 8 views" in (eight / "report.html").read_text()
    single, mean = (
        Predictions.load(one / name).logits for name in ("predictions.npz", "views.npz")
    )
    assert single.shape == mean.shape
    assert (eight / "metrics.json").is_file()


def test_views_and_stress_do_not_go_together(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(run), "--stress", "--views", "8"]) == 2
    assert "--stress and --decide are about single views" in capsys.readouterr().err
