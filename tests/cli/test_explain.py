"""`dermx explain` and `dermx audit`, on a run made by hand: drawn pictures, a model of colours."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch", reason="a run's environment names torch")

from dermx.assess import Model
from dermx.cli.main import main
from dermx.config import Config
from dermx.data.ham10000 import lesion_mask
from dermx.data.phantom import draw_phantom, write_dataset, write_examples
from dermx.errors import DataError
from dermx.explain.gradcam import odds_maps
from dermx.model.bundle import Bundle, load_bundle, write_bundle
from dermx.model.runtime import Session, evidence
from dermx.predict import predict_cases, read_prepared
from dermx.records import Case, Predictions
from dermx.runs import read_parts, start_run
from dermx.workflow.audit import Work, one_per_lesion, outside_kinds
from dermx.workflow.explaining import answered, extremes
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
    assert kinds["outside/red things"] == 3
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


def test_folders_of_one_name_are_one_kind_and_no_name_is_taken_for_acne(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a/acne/x/0.png", "b/acne/x/1.png", "b/acne/x/2.png", "a/acne/3.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 20)).save(tmp_path / name)
    kinds = outside_kinds([tmp_path / "a/acne", tmp_path / "b/acne"])
    assert {kind: len(paths) for kind, paths in kinds.items()} == {"acne/x": 3, "acne": 1}
    monkeypatch.chdir(tmp_path / "a/acne")
    assert set(outside_kinds([Path()])) == {"acne/x", "acne"}


def test_any_number_of_outside_pictures_fits_into_memory(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Work(Session(load_bundle(run / "bundle")), 0, None, print)
    paths = sorted((run.parent / "outside").rglob("*.png"))
    at_once: list[int] = []
    plain = Work.probabilities

    def counting(self: Work, pixels: np.ndarray) -> np.ndarray:
        at_once.append(len(pixels))
        return plain(self, pixels)

    monkeypatch.setattr(Work, "probabilities", counting)
    (row,) = work.others([], {"red": paths})
    assert (row.kind, row.pictures, row.patients) == ("red", 3, 3)
    assert max(at_once) < len(paths)


def test_a_damaged_picture_or_outline_does_not_end_an_audit(run: Path, tmp_path: Path) -> None:
    said: list[str] = []
    work = Work(Session(load_bundle(run / "bundle")), 0, None, said.append)
    good = next(case for case in read_parts(run)["test"] if lesion_mask(case.path) is not None)
    broken = replace(good, image="broken", path=tmp_path / "broken.jpg")
    broken.path.write_bytes(good.path.read_bytes()[:200])
    assert all(len(row) == 1 for row in work.examples([broken, good]).values())
    assert len(said) == 1
    assert said[0].startswith("broken: ")
    with pytest.raises(DataError, match="none of 1 pictures can be read"):
        work.sanity([broken])
    assert np.isnan(work.sanity([good]).other_picture).all()  # there is no other


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
    assert (drawn["vasc"][64:] != drawn["rather"][64:]).any()  # below the title: another map
    words = ["explain", str(run / "bundle"), str(picture), "--out", str(tmp_path / "bundle")]
    assert main([*words, "--method", "hirescam"]) == 0
    with Image.open(tmp_path / "bundle" / "a.png") as image:
        assert (np.asarray(image) == drawn["plain"]).all()


def showing(plain: Bundle, folder: Path, mapped: list[bool]) -> Bundle:
    return write_bundle(
        folder, name=folder.name, architecture="drawn", codes=plain.codes,
        preprocess=plain.preprocess, network_bytes=plain.network.read_bytes(),
        weight=plain.weight, bias=plain.bias, mapped=np.array(mapped), figures={}, card="",
    )  # fmt: skip


def test_every_map_shows_the_mapped_features_alone(run: Path, tmp_path: Path) -> None:
    plain = load_bundle(run / "bundle")
    picture = tmp_path / "a.png"
    Image.fromarray(draw_phantom(1, size=(64, 96)).picture).save(picture)
    two = showing(plain, tmp_path / "two", [True, True, False])
    model, every = Model(two), Model(plain).assess(picture)
    answer = model.assess(picture)
    assert answer.probabilities == every.probabilities
    maps, features = model.session.run(read_prepared(picture, two.preprocess).pixels[None])
    shown = evidence(maps, two.weight * [1, 1, 0])
    expected = odds_maps(shown, model.session.logits(features)[0])
    np.testing.assert_allclose(answer.maps, expected, atol=1e-5)
    assert not np.allclose(answer.maps, every.maps, atol=0.01)
    one = showing(plain, tmp_path / "one", [True, False, False])
    green, red = ["--class", "nv"], ["--class", "vasc"]  # the channels that speak for them
    asked = (green, [*green, "--method", "layercam"], [*red, "--against", "nv"])
    for i, more in enumerate(asked):
        panels = []
        for bundle in (plain, one):
            out = tmp_path / f"{bundle.name}{i}"
            words = ["explain", str(bundle.folder), str(picture), "--out", str(out)]
            assert main([*words, *more]) == 0
            with Image.open(out / "a.png") as image:
                panels.append(np.asarray(image))
        assert (panels[0] != panels[1]).any(), more


def test_contact_sheets_show_each_class_that_there_is(run: Path) -> None:
    assert main(["explain", str(run), "--on", "test"]) == 0
    present = {case.diagnosis for case in read_parts(run)["test"]}
    sheets = {path.stem for path in (run / "explanations" / "test").glob("*.png")}
    assert sheets == present


def test_sheets_are_sorted_by_what_is_answered_and_stated_on_them(tmp_path: Path) -> None:
    """The mean of eight views and calibrated, where the model has trust parts."""
    model = Model(load_bundle())
    cases = [
        Case(image=path.stem, path=path, diagnosis=None, lesion="", group="", source="folder")
        for path in write_examples(tmp_path)
    ]
    known, _ = predict_cases(model.session, cases, views=model.views)
    answers, confidence = answered(model, known)
    for case, answer, sure in zip(cases, answers, confidence, strict=True):
        shown = model.assess(case.path)
        assert model.bundle.codes[answer] == shown.prediction
        assert sure == pytest.approx(shown.confidence, abs=1e-5)


def test_the_most_and_least_confident_of_a_class_right_and_wrong() -> None:
    known = Predictions(
        images=list("abcde"),
        groups=["1", "1", "2", "3", "4"],
        labels=np.array([0, 0, 0, 0, 1]),
        logits=np.zeros((5, 8), np.float32),
        features=np.zeros((5, 1), np.float32),
    )
    found = extremes(known, np.array([0, 0, 0, 2, 0]), np.array([0.9, 0.8, 0.7, 0.6, 0.5]), 0)
    assert found == {
        "Right, most confident": [0, 2],  # one of a lesion
        "Right, least confident": [2, 1],
        "Wrong, most confident": [3],
        "Wrong, least confident": [3],
    }


def test_a_picture_that_is_answered_the_class_it_is_compared_with_is_left_out(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run.parent / "outside"
    assert main(["predict", str(folder), "--model", str(run / "bundle"), "--json"]) == 0
    (answer,) = {row["prediction"] for row in json.loads(capsys.readouterr().out)}
    for method in ("gradcam", "layercam"):
        words = ["explain", str(run), str(folder), "--out", str(tmp_path), "--method", method]
        assert main([*words, "--against", answer]) == 1
        assert f"the answer is {answer} itself" in capsys.readouterr().err
        assert main([*words, "--class", answer, "--against", answer]) == 2
        assert "name two classes" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.png"))


def test_an_unreadable_picture_is_told_and_the_others_are_explained(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = tmp_path / "in"
    shutil.copytree(run.parent / "outside" / "red_things", pictures)
    words = ["explain", str(run), str(pictures), "--out", str(tmp_path / "out")]
    assert main(words) == 0
    (pictures / "1.png").write_bytes(b"no picture")
    assert main(words) == 1  # partly done, as `dermx predict` ends
    assert "1.png is not a picture" in capsys.readouterr().err


def test_what_can_not_be_explained_is_one_sentence(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    around = str(run.parent / "outside")
    picture = f"{around}/red_things/0.png"
    out = ["--out", str(tmp_path / "out")]
    for words, message in (
        ([str(run), picture, *out, "--class", "flu"], "no class 'flu'; the classes are nv"),
        ([str(run), picture, *out, "--layer", "bn2"], "has no best.safetensors"),
        ([str(run), picture, "--out", str(Path(picture).parent)], "holds the pictures"),
        ([str(tmp_path), picture, *out], "neither a model's folder nor a run"),
        ([str(run), "--class", "mel"], "need PATH, a picture"),
        ([str(run), picture, *out, "--on", "val"], "leave PATH or --on out"),
        ([str(run), around, "--out", f"{around}/maps"], f"/maps is inside {around}, where"),
    ):
        assert main(["explain", *words]) == 2
        assert message in capsys.readouterr().err
