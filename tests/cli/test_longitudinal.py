"""`dermx longitudinal` as a person types it."""

import json
import sys
from pathlib import Path

import pytest

from dermx.cli.main import main
from dermx.longitudinal.effects import ModelConfig
from dermx.longitudinal.reading import SHIPPED
from dermx.longitudinal.visits import TableConfig
from dermx.workflow.longitudinal import treatment_study


def test_without_a_table_the_shipped_study_is_analysed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["longitudinal", "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert said.startswith("Antibiotics against Baseline: better, −4.7 GAGS points on average")
    assert "note: Every patient had the same order" in said
    assert f"report: {tmp_path / 'out' / 'report.html'}" in said
    written = json.loads((tmp_path / "out" / "study.json").read_text())
    assert written == treatment_study().to_dict()  # what the page would show


def test_bytes_path_and_frame_give_the_same_study() -> None:
    import pandas as pd

    config = TableConfig(unit="GAGS points")
    studies = [
        treatment_study(table, columns=config).to_dict()
        for table in (SHIPPED, SHIPPED.read_bytes(), pd.read_csv(SHIPPED))
    ]
    assert studies[0] == studies[1] == studies[2]


def test_one_s_own_columns_units_and_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = SHIPPED.read_text().replace("patient,day,treatment,severity", "who,when,what,score")
    table = tmp_path / "mine.csv"
    table.write_text(text.replace("Baseline", "none"))
    words = ["--patient", "who", "--day", "when", "--treatment", "what", "--severity", "score"]
    words += ["--baseline", "None", "--treatments", "Cream,Antibiotics", "--unit", "IGA"]
    words += ["--highest", "44", "--errors", "bootstrap", "--skip-days", "3", "--trend"]
    assert main(["longitudinal", str(table), "--out", str(tmp_path), *words]) == 0
    assert capsys.readouterr().out.startswith("Cream against none: ")
    written = json.loads((tmp_path / "study.json").read_text())
    assert written["unit"] == "IGA"
    assert written["model"]["errors"] == "bootstrap"
    assert written["trend_per_week"] is not None


def test_a_small_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--plan", "9", "--plan-patients", "4", "--plan-days", "7,14", "--plan-studies", "20"]
    assert main(["longitudinal", "--out", str(tmp_path), *words]) == 0
    captured = capsys.readouterr()
    assert "To see an effect of 9 GAGS points in 80 % of studies:" in captured.out
    assert "plan 2/2: 4 patients, 14 days a phase" in captured.err
    assert len((tmp_path / "power.csv").read_text().splitlines()) == 3


def test_a_plan_is_analysed_with_the_options_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []
    monkeypatch.setattr("dermx.longitudinal.power.plan", lambda *args: given.append(args) or [])
    words = ["--plan", "2", "--trend", "--errors", "plain", "--random", "day", "--skip-days", "3"]
    assert main(["longitudinal", "--out", str(tmp_path), *words]) == 0
    assert given[0][2] == ModelConfig(trend=True, errors="plain", random="day", skip_days=3)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["missing.csv"], "missing.csv: No such file or directory"),
        (["--min-days", "40"], "patient P01 has 28 days of Baseline"),
        (["--plan-days", "7"], "need --plan EFFECT"),
        (["--plan", "2", "--plan-days", "week"], "--plan-days takes whole numbers as 5,10,20"),
        (["--skip-days", "27"], "leaving out 27 days leaves patient P01 with"),
        (["--severity", "score"], "no column score; the table has patient, day, treatment"),
    ],
)
def test_what_can_t_be_done_is_one_line(
    words: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["longitudinal", "--out", str(tmp_path / "out"), *words]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_table_is_shown_as_what_may_be_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["longitudinal", "--help"]) == 0
    assert capsys.readouterr().out.splitlines()[0].endswith(" [OPTIONS] [CSV]")


def test_a_missing_extra_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "statsmodels", None)
    assert main(["longitudinal", "--out", str(tmp_path)]) == 2
    assert 'pip install "dermx[stats]"' in capsys.readouterr().err
