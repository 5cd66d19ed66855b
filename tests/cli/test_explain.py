"""`dermx explain` and `dermx audit`, on a run made by hand: drawn pictures, a model of colours."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch", reason="a run's environment names torch")

from dermx.cli.main import main
from dermx.config import Config
from dermx.data.phantom import draw_phantom, write_dataset
from dermx.model.bundle import Bundle
from dermx.runs import read_parts, start_run
from dermx.workflow.audit import one_per_lesion
from dermx.workflow.training import load_cases

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Bundle) -> Path:
    folder = tmp_path_factory.mktemp("audit")
    ham10000, dermnet = write_dataset(folder, 6, size=(60, 80))
    start_run(folder / "run", load_cases(ham10000, dermnet, say=lambda _: None), Config(), None)
    shutil.copytree(tiny_bundle.folder, folder / "run" / "bundle")
    others = folder / "outside" / "red_things"
    others.mkdir(parents=True)
    for i in range(3):
        Image.new("RGB", (50, 40), (200, 10 * i, 0)).save(others / f"{i}.png")
    return folder / "run"


@pytest.fixture(scope="module")
def audited(run: Path) -> dict:
    words = ["audit", str(run), "--on", "test", "--sample", "2"]
    assert main([*words, "--outside", str(run.parent / "outside")]) == 0
    return json.loads((run / "audit" / "test" / "audit.json").read_text())


def test_the_page_says_what_the_json_says(run: Path, audited: dict) -> None:
    page = (run / "audit" / "test" / "audit.html").read_text()
    for line in audited["findings"]:
        assert line.replace("'", "&#x27;") in page
    assert page.count("data:image/png;base64,") == 4
    assert "<script" not in page
    assert "http" not in page


def test_an_exported_card_says_what_the_audit_found(
    run: Path, audited: dict, tmp_path: Path
) -> None:
    assert main(["export", str(run), "--out", str(tmp_path / "model")]) == 0
    card = (tmp_path / "model" / "card.md").read_text()
    assert "Not audited" not in card
    assert all(f"\n- {line}\n" in card for line in audited["findings"])


def test_every_measurement_has_all_its_parts(run: Path, audited: dict) -> None:
    test = read_parts(run)["test"]
    dermoscopic = [case for case in test if case.diagnosis != "acne"]
    assert set(audited["faithfulness"]["maps"]) == {"Grad-CAM", "centred Gaussian", "random"}
    assert audited["localisation"]["Grad-CAM"]["all"]["pictures"] == len(dermoscopic)
    assert [row["change"] for row in audited["shortcuts"]][:3] == [
        "as taken", "lesion painted out", "lesion's box painted out",
    ]  # fmt: skip
    assert {row["cases"] for row in audited["shortcuts"]} == {len(dermoscopic)}
    as_taken = audited["shortcuts"][0]
    assert as_taken["drop"]["accuracy"] == {"value": 0, "low": 0, "high": 0}
    kinds = {row["kind"]: row["pictures"] for row in audited["called_acne"]}
    assert kinds["outside, red things"] == 3
    assert kinds["acne, watermark covered"] == len(test) - len(dermoscopic)
    assert sum(row["cases"] for row in audited["subgroups"] if row["attribute"] == "sex") == len(
        dermoscopic
    )
    assert audited["sanity"]["draws"] == 6


def test_a_model_of_mean_colours_has_no_colour_left_to_tell_greys_apart(audited: dict) -> None:
    """Its three logits are the mean red, green and blue: equal on grey, so the first one wins."""
    grey = next(row for row in audited["shortcuts"] if row["change"] == "colour taken away")
    assert grey["balanced_accuracy_dermoscopic"]["value"] == pytest.approx(1 / 7)


def test_another_seed_draws_another_sample_and_the_same_seed_the_same(run: Path) -> None:
    cases = read_parts(run)["train"]
    drawn = [[c.image for c in one_per_lesion(cases, 2, seed)] for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    groups = [case.group for case in one_per_lesion(cases, 100, 0)]
    assert sorted(groups) == sorted({case.group for case in cases})


def test_what_can_not_be_audited_is_one_sentence(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, message in (
        (["--sample", "0"], "--sample must be at least 1 lesion per class, got 0"),
        (["--outside", str(tmp_path)], f"no picture in {tmp_path}"),
        (["--outside", str(tmp_path / "gone")], "gone is not a folder"),
    ):
        assert main(["audit", str(run), *words]) == 2
        assert message in capsys.readouterr().err


def test_explain_writes_a_panel_per_picture_and_a_contrast_is_another(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "in" / "a.png"
    picture.parent.mkdir()
    Image.fromarray(draw_phantom(1, size=(64, 96)).picture).save(picture)
    drawn = {}
    for name, more in {
        "plain": [], "vasc": ["--class", "vasc"], "rather": ["--class", "vasc", "--against", "mel"],
    }.items():  # fmt: skip
        words = ["explain", str(run), str(picture), "--out", str(tmp_path / name), *more]
        assert main(words) == 0
        assert str(tmp_path / name / "a.png") in capsys.readouterr().out
        with Image.open(tmp_path / name / "a.png") as image:
            drawn[name] = np.asarray(image)
    assert (drawn["vasc"] != drawn["rather"]).any()
    words = ["explain", str(run / "bundle"), str(picture), "--out", str(tmp_path / "bundle")]
    assert main([*words, "--method", "hirescam"]) == 0
    with Image.open(tmp_path / "bundle" / "a.png") as image:
        assert (np.asarray(image) == drawn["plain"]).all()


def test_contact_sheets_show_each_class_that_there_is(run: Path) -> None:
    assert main(["explain", str(run), "--on", "test"]) == 0
    present = {case.diagnosis for case in read_parts(run)["test"]}
    sheets = {path.stem for path in (run / "explanations" / "test").glob("*.png")}
    assert sheets == present


def test_what_can_not_be_explained_is_one_sentence(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = str(run.parent / "outside" / "red_things" / "0.png")
    out = ["--out", str(tmp_path / "out")]
    for words, message in (
        ([str(run), picture, *out, "--class", "flu"], "no class 'flu'; the classes are nv"),
        ([str(run), picture, *out, "--layer", "bn2"], "has no best.safetensors"),
        ([str(run), picture, "--out", str(Path(picture).parent)], "holds the pictures"),
        ([str(tmp_path), picture, *out], "neither a model's folder nor a run"),
        ([str(run), "--class", "mel"], "need PATH, a picture"),
    ):
        assert main(["explain", *words]) == 2
        assert message in capsys.readouterr().err
