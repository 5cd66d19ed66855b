"""Calibrate, fit, measure and predict with trust from the command line, on a run made by hand."""

import csv
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch", reason="a run's environment names torch")

import dermx
from dermx.app import about
from dermx.assess import Model, load_model
from dermx.cli import uncertainty
from dermx.cli.main import main
from dermx.config import Config
from dermx.diagnoses import CODES
from dermx.errors import DataError, InputError
from dermx.model import bundle as bundles
from dermx.model.bundle import Bundle, head_digest, load_bundle
from dermx.predict import Passed
from dermx.records import Case
from dermx.runs import read_parts, start_run
from dermx.trust.verdict import Trust
from dermx.workflow.training import trust_parts_of
from dermx.workflow.trusting import evenly, shift_figures

Output = pytest.CaptureFixture[str]
KEYS = {
    "predictive_entropy", "mutual_information", "ood_score", "is_ood", "prediction_set",
    "malignancy", "abstain", "message",
}  # fmt: skip
COLOURS = {"vasc": (220, 40, 40), "nv": (40, 220, 40), "mel": (40, 40, 220)}


def drawn_cases(folder: Path, part: str, each: int) -> list[Case]:
    """Flat pictures in the colour of their class, noisy enough to be mistaken now and then."""
    rng, cases = np.random.default_rng(len(part)), []
    for code in CODES:
        for i in range(each):
            colour = np.array(COLOURS.get(code, (120, 120, 120))) + rng.normal(0, 45, 3)
            pixels = np.clip(colour + rng.normal(0, 12, (40, 40, 3)), 0, 255).astype(np.uint8)
            path = folder / f"{part}-{code}-{i}.png"
            Image.fromarray(pixels).save(path)
            group = f"{part}-{code}-{i // 2}"
            cases.append(
                Case(image=path.stem, path=path, diagnosis=code, lesion=group, group=group,
                     source="folder")
            )  # fmt: skip
    return cases


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Bundle) -> Path:
    folder = tmp_path_factory.mktemp("trust")
    parts = {
        "train": [],
        "val": drawn_cases(folder, "val", 12),
        "test": drawn_cases(folder, "t", 6),
    }
    start_run(folder / "run", parts, Config(), None)
    shutil.copytree(tiny_bundle.folder, folder / "run" / "bundle")
    shutil.copytree(tiny_bundle.folder, folder / "exported")
    return folder / "run"


@pytest.fixture(scope="module")
def trusted(run: Path) -> Path:
    """The run, whose bundle and whose exported copy have trust parts, measured on its test part."""
    words = ["--bundle", str(run.parent / "exported"), "--measure", "test"]
    assert main(["trust", str(run), *words]) == 0
    return run


def test_a_part_without_a_case_is_refused_before_anything_is_fitted(
    run: Path, tmp_path: Path, capsys: Output
) -> None:
    start_run(tmp_path / "run", read_parts(run) | {"test": []}, Config(), None)
    shutil.copytree(run.parent / "exported", tmp_path / "run" / "bundle")
    before = sorted((tmp_path / "run").rglob("*"))
    assert main(["trust", str(tmp_path / "run"), "--measure", "test"]) == 2
    assert "has no test part" in capsys.readouterr().err
    assert sorted((tmp_path / "run").rglob("*")) == before


def test_calibration_writes_the_temperature_and_the_diagram(run: Path, capsys: Output) -> None:
    assert main(["calibrate", str(run)]) == 0
    folder = run / "evaluation" / "test"
    assert f"reliability diagram: {folder / 'reliability.png'}" in capsys.readouterr().out
    fitted = json.loads((run / "calibration_temperature.json").read_text())
    assert fitted["temperature"] > 0
    assert (fitted["views"], fitted["fitted_on"]["cases"]) == (8, 96)
    table = json.loads((folder / "calibration.json").read_text())
    assert (table["part"], table["cases"]) == ("test", 42)  # without acne
    figures = table["methods"]
    *plain, used = figures
    assert plain == ["none", "temperature", "bias", "vector", "classwise"]
    assert used.endswith(", consistent")  # what `dermx trust` makes of the best of them
    assert (
        table["methods"][used]["accuracy"]
        == table["methods"][used.removesuffix(", consistent")]["accuracy"]
    )
    same = [table["methods"][name]["accuracy"] for name in ("none", "temperature")]
    assert same[0] == same[1]
    with Image.open(folder / "reliability.png") as diagram:
        assert diagram.width > diagram.height


def test_the_parts_go_into_both_copies_of_the_model_and_change_no_answer(
    trusted: Path, tiny_bundle: Bundle
) -> None:
    for folder in (trusted / "bundle", trusted.parent / "exported"):
        bundle = load_bundle(folder)
        assert Trust.of(bundle) is not None
        assert head_digest(bundle.weight, bundle.bias) == head_digest(
            tiny_bundle.weight, tiny_bundle.bias
        )
        assert bundle.figures["accuracy"] == 0.5
        assert "calibrated" in (folder / "card.md").read_text()
    plain, judged = Model(tiny_bundle), load_model(trusted / "bundle")
    for path in sorted(trusted.parent.glob("t-*.png"))[:20]:
        assert judged.assess(path).prediction == plain.assess(path).prediction


def test_the_figures_are_written_with_intervals(trusted: Path) -> None:
    folder = trusted / "evaluation" / "test"
    found = json.loads((folder / "trust.json").read_text())
    assert found["cases"] == 48
    for name in ("ece", "classwise_ece", "smooth_ece"):
        assert set(found["calibration_dermoscopic"][name]) == {"value", "low", "high"}
    assert found["sets"]["of_class"]["df"]["cases"] == 6
    assert found["doubts"]["confidence"]["augrc_gain"]["value"] == 0
    assert {"rule", "set size", "views information"} <= set(found["doubts"])
    assert (folder / "risk_coverage.png").is_file()
    assert (folder / "decision.png").is_file()


def test_the_page_draws_the_reliability_that_was_measured(trusted: Path, tmp_path: Path) -> None:
    measured = json.loads((trusted / "evaluation" / "test" / "trust.json").read_text())
    assert main(["export", str(trusted), "--out", str(tmp_path / "again")]) == 0
    for folder in (trusted / "bundle", trusted.parent / "exported", tmp_path / "again"):
        figures = load_bundle(folder).figures
        assert figures["reliability"] == measured["reliability"]
        assert sum(figures["reliability"]["counts"]) == 48
        assert "48 pictures of the test part" in about.reliability(figures)


def test_a_reliability_table_lasts_as_long_as_the_calibration_it_is_about(
    trusted: Path, tmp_path: Path
) -> None:
    shutil.copytree(trusted, tmp_path / "run")
    for words, kept in (([], True), (["--measure", "val"], True), (["--views", "1"], False)):
        assert main(["trust", str(tmp_path / "run"), *words]) == 0
        figures = load_bundle(tmp_path / "run" / "bundle").figures
        assert ("reliability" in figures) == kept
        assert figures["accuracy"] == 0.5


def test_predictions_are_not_made_again_because_trust_parts_were_added(trusted: Path) -> None:
    made = (trusted / "evaluation" / "val" / "views.npz").stat().st_mtime_ns
    assert main(["trust", str(trusted)]) == 0
    assert (trusted / "evaluation" / "val" / "views.npz").stat().st_mtime_ns == made


def test_predict_has_the_trust_keys_and_no_trust_has_not(trusted: Path, capsys: Output) -> None:
    words = ["predict", str(next(trusted.parent.glob("t-nv-*.png"))), "--json", "--model"]
    assert main([*words, str(trusted / "bundle")]) == 0
    out, err = capsys.readouterr()
    (answer,) = json.loads(out)
    assert set(answer) == KEYS | {"image", "prediction", "confidence", "probabilities"}
    assert answer["confidence"] == answer["probabilities"][answer["prediction"]]
    assert answer["prediction"] in answer["prediction_set"]
    assert err == ""
    assert main([*words, str(trusted / "bundle"), "--no-trust"]) == 0
    (plain,) = json.loads(capsys.readouterr().out)
    assert set(plain) == {"image", "prediction", "confidence", "probabilities"}


def test_a_model_without_parts_says_which_command_makes_them(
    run: Path, tiny_bundle: Bundle, capsys: Output
) -> None:
    picture = str(next(run.parent.glob("t-nv-*.png")))
    assert main(["predict", picture, "--json", "--model", str(tiny_bundle.folder)]) == 0
    out, err = capsys.readouterr()
    assert not KEYS & set(json.loads(out)[0])
    assert err.endswith("so confidence is not calibrated; dermx trust RUN makes them\n")


def test_the_table_gives_advice_and_a_message(trusted: Path, capsys: Output) -> None:
    pictures = [str(path) for path in sorted(trusted.parent.glob("t-mel-*.png"))[:2]]
    assert main(["predict", *pictures, "--model", str(trusted / "bundle")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[-1] == "advice"
    assert "have it seen" in lines[1]
    assert lines[3].startswith(f"{pictures[0]}: ")
    assert "dermatologist" in lines[3]
    many = [str(path) for path in trusted.parent.glob("t-*.png")]
    assert main(["predict", *many, "--model", str(trusted / "bundle")]) == 0
    assert "48 pictures: 0 of nothing the model knows" in capsys.readouterr().out


def test_the_csv_has_trust_columns_and_isic_s_has_plain_probabilities(
    trusted: Path, tmp_path: Path
) -> None:
    picture = str(next(trusted.parent.glob("t-nv-*.png")))
    model = ["--model", str(trusted / "bundle")]
    assert main(["predict", picture, *model, "--csv", str(tmp_path / "a.csv")]) == 0
    with (tmp_path / "a.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert set(row) >= (KEYS - {"malignancy"}) | {"malignancy", "refer"}
    assert row["abstain"] in {"0", "1"}
    assert row["prediction"] in row["prediction_set"].split()
    isic = ["--format", "isic", "--csv"]
    assert main(["predict", picture, *model, *isic, str(tmp_path / "b.csv")]) == 0
    assert main(["predict", picture, *model, "--no-trust", *isic, str(tmp_path / "c.csv")]) == 0
    assert (tmp_path / "b.csv").read_bytes() == (tmp_path / "c.csv").read_bytes()


def test_predict_with_trust_asks_the_shipped_model(
    trusted: Path, tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = next(trusted.parent.glob("t-nv-*.png"))
    try:
        monkeypatch.setattr(bundles, "SHIPPED", trusted / "bundle")
        dermx._shipped.cache_clear()
        answer = dermx.predict_with_trust(picture)
        assert set(answer) == KEYS | {"prediction", "confidence", "probabilities"}
        monkeypatch.setattr(bundles, "SHIPPED", tiny_bundle.folder)
        dermx._shipped.cache_clear()
        with pytest.raises(dermx.errors.BundleError, match="no trust parts: dermx trust RUN"):
            dermx.predict_with_trust(picture)
    finally:
        dermx._shipped.cache_clear()


def test_uncertainty_prints_a_row_per_picture(trusted: Path, capsys: Output) -> None:
    pictures = [str(path) for path in sorted(trusted.parent.glob("t-vasc-*.png"))]
    words = ["uncertainty", *pictures, "--model", str(trusted / "bundle")]
    assert main([*words, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["image"] for row in rows] == pictures
    for row in rows:
        total, within = row["predictive_entropy"], row["expected_entropy"]
        assert row["mutual_information"] == pytest.approx(total - within)
        # Turned flat pictures are the same picture: views don't disagree.
        assert row["views_mutual_information"] == pytest.approx(0, abs=1e-3)
    assert main([*words, "--rate", "0", str(trusted / "gone.png")]) == 1
    out, err = capsys.readouterr()
    assert out.splitlines()[1].split()[-2] == "0.0000"
    assert "unreadable: " in err


def test_uncertainty_is_about_the_views_that_predict_answers_by(
    run: Path, tmp_path: Path, tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    """The first view is green, so nv; turned, it would be red, as if its features told that."""
    shutil.copytree(run, tmp_path / "run")
    assert main(["trust", str(tmp_path / "run"), "--views", "1"]) == 0
    plain = uncertainty.forward

    def turned(*arguments: object, **options: object) -> Iterator[Passed]:
        for answer in plain(*arguments, **options):  # type: ignore[arg-type]
            views = answer.views.copy()
            views[1:] = [3, -3, -3]
            yield replace(answer, views=views, features=views.mean(axis=0))

    monkeypatch.setattr(uncertainty, "forward", turned)
    picture = str(next(run.parent.glob("t-nv-*.png")))
    for folder in (tmp_path / "run" / "bundle", tiny_bundle.folder):
        words = [picture, "--json", "--model", str(folder)]
        capsys.readouterr()
        assert main(["uncertainty", *words]) == 0
        (scattered,) = json.loads(capsys.readouterr().out)
        assert main(["predict", *words]) == 0
        (answer,) = json.loads(capsys.readouterr().out)
        assert scattered["prediction"] == answer["prediction"] == "nv"
        for key in {"predictive_entropy", "mutual_information"} & set(answer):
            assert scattered[key] == pytest.approx(answer[key])


def test_figures_under_shift_have_a_row_per_change(trusted: Path) -> None:
    path = shift_figures(trusted, sample=16, changes=["blur", "crop"], severities=[1, 5])
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["change"], row["severity"]) for row in rows] == [
        ("none", "0"), ("blur", "1"), ("blur", "5"), ("crop", "1"), ("crop", "5"),
    ]  # fmt: skip
    assert {row["cases"] for row in rows} == {"16"}
    with pytest.raises(InputError, match="3 pictures are too few to take some of any class"):
        shift_figures(trusted, sample=3)
    picture = next(trusted.parent.glob("t-nv-*.png"))
    whole = picture.read_bytes()
    picture.write_bytes(whole[:40])
    try:  # figures of the others would be about other pictures
        with pytest.raises(DataError, match="1 of 48 pictures can't be read, first t-nv-"):
            shift_figures(trusted, sample=48, changes=["blur"], severities=[1])
    finally:
        picture.write_bytes(whole)


def test_a_sample_has_the_same_share_of_every_class(run: Path) -> None:
    cases = drawn_cases(run.parent, "t", 6)
    kept = evenly(cases, 16)
    assert {sum(case.diagnosis == code for case in kept) for code in CODES} == {2}
    assert evenly(cases, 1000) == cases


def test_an_export_of_the_same_model_takes_the_parts_along_and_another_does_not(
    trusted: Path, tmp_path: Path, tiny_bundle: Bundle
) -> None:
    carried = trust_parts_of(trusted / "bundle", tiny_bundle)
    assert carried is not None
    assert carried == load_bundle(trusted / "bundle").trust
    other = bundles.write_bundle(
        tmp_path / "other", name="x", architecture="x", preprocess=tiny_bundle.preprocess,
        network_bytes=tiny_bundle.network.read_bytes(), weight=tiny_bundle.weight + 1,
        bias=tiny_bundle.bias, figures={}, card="",
    )  # fmt: skip
    assert trust_parts_of(trusted / "bundle", other) is None
    assert trust_parts_of(tmp_path / "nothing", tiny_bundle) is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--coverage", "90"], "coverage must be between 0 and 1, got 90"),
        (["--answered", "0"], "answered must be in (0, 1], got 0"),
        (["--shift", "120"], "--shift needs --measure PART, whose pictures are changed"),
    ],
)
def test_a_wrong_option_is_refused_before_the_run_is_read(
    words: list[str], message: str, tmp_path: Path, capsys: Output
) -> None:
    assert main(["trust", str(tmp_path / "no-run"), *words]) == 2
    assert capsys.readouterr().err == f"error: {message}\n"


def test_a_part_without_pictures_is_said_to_be_missing(
    run: Path, tmp_path: Path, capsys: Output
) -> None:
    assert main(["evaluate", str(run), "--on", "train"]) == 2
    assert capsys.readouterr().err == f"error: {run} has no train part\n"
    only = {"train": [], "val": drawn_cases(run.parent, "val", 12), "test": []}
    start_run(tmp_path / "run", only, Config(), None)
    shutil.copytree(run / "bundle", tmp_path / "run" / "bundle")
    assert main(["metadata", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path / 'run'} has no test part\n"
    assert not (tmp_path / "run" / "metadata.json").exists()


def test_what_can_not_be_done_is_one_line(run: Path, tmp_path: Path, capsys: Output) -> None:
    other = tmp_path / "other"
    shutil.copytree(run / "bundle", other)
    head = np.load(other / "head.npz")
    bundle = load_bundle(run / "bundle")
    bundles.write_bundle(
        other, name="x", architecture="x", preprocess=bundle.preprocess,
        network_bytes=bundle.network.read_bytes(), weight=head["weight"] + 1, bias=head["bias"],
        figures={}, card="",
    )  # fmt: skip
    assert main(["trust", str(run), "--bundle", str(other)]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"error: {other} is not the model of {run}; dermx export {run} --out")
    assert main(["trust", str(run), "--coverage", "0.99"]) == 2
    assert "need 99 of each class" in capsys.readouterr().err
