"""`dermx ood` on a run made by hand: what it writes, and that the gate is what it says."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch", reason="a run's environment names torch")

from dermx.cli.main import main
from dermx.config import Config
from dermx.diagnoses import CODES
from dermx.errors import BundleError
from dermx.model.bundle import Bundle, load_bundle, write_bundle
from dermx.records import Case, Predictions
from dermx.runs import start_run
from dermx.trust.gate import Gate
from dermx.trust.gatefit import by_picture
from dermx.trust.verdict import Trust
from dermx.workflow.ood import fitted_gate, load_gate
from dermx.workflow.strangers import stranger_views

Output = pytest.CaptureFixture[str]
# The tiny model sees mean colours; its answer is nv, mel, vasc by green, blue, red.
COLOURS = {"nv": (40, 220, 40), "mel": (40, 40, 220), "vasc": (220, 40, 40), "acne": (60, 60, 60)}
STRANGE = {
    "everyday": (250, 120, 20),
    "clinical/Tinea": (250, 20, 120),
    "clinical/Zoster": (240, 60, 160),
}


def save(path: Path, colour: tuple[int, ...], rng: np.random.Generator) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    shade = np.array(colour) + rng.normal(0, 12, 3)
    pixels = np.clip(shade + rng.normal(0, 9, (40, 40, 3)), 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture(scope="module")
def run(
    tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Bundle, colour_network: bytes
) -> Path:
    folder, rng = tmp_path_factory.mktemp("ood"), np.random.default_rng(0)
    parts: dict[str, list[Case]] = {}
    for part in ("train", "val", "test"):
        parts[part] = []
        for code, colour in COLOURS.items():
            for i in range(24):
                path = save(folder / "known" / f"{part}-{code}-{i}.png", colour, rng)
                group = f"{part}-{code}-{i // 2}"
                parts[part].append(
                    Case(image=path.stem, path=path, diagnosis=code, lesion=group, group=group,
                         source="folder")
                )  # fmt: skip
    for name, colour in STRANGE.items():
        for i in range(12):
            where = name if name == "everyday" else f"{name}{i % 3}"
            save(folder / "outliers" / where / f"{i}.png", colour, rng)
    start_run(folder / "run", parts, Config(), None)
    bias = np.zeros(len(CODES))
    bias[CODES.index("acne")] = 0.1  # what has no colour is acne
    write_bundle(
        folder / "run" / "bundle", name="tiny", architecture="mean-colours",
        preprocess=tiny_bundle.preprocess, network_bytes=colour_network,
        weight=tiny_bundle.weight, bias=bias, figures={}, card="# A model for tests\n",
    )  # fmt: skip
    return folder / "run"


@pytest.fixture(scope="module")
def words(run: Path) -> list[str]:
    return ["ood", str(run), "--outliers", str(run.parent / "outliers"), "--views", "1"]


@pytest.fixture(scope="module")
def done(run: Path, words: list[str]) -> Path:
    assert main(words) == 0
    return run


def test_threshold_tables_and_figure_are_written(done: Path) -> None:
    fitted = json.loads((done / "ood_threshold.json").read_text())
    assert (fitted["threshold"], fitted["acceptance"], fitted["views"]) == (0.0, 0.95, 1)
    assert set(fitted["log_odds_at_threshold"]) == {"dermoscopy", "clinical photograph"}
    assert fitted["test"]["nv"]["cases"] == 24
    with (done / "ood" / "detectors.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["detector"] for row in rows][::2] == [
        "MSP", "energy", "GEN", "Mahalanobis", "relative Mahalanobis", "kNN", "ViM", "gate",
    ]  # fmt: skip
    assert {row["on"] for row in rows} == {"choose", "report"}
    with Image.open(done / "ood" / "ood.png") as figure:
        assert figure.width > 1000


def test_the_counts_of_the_table_are_the_gates(done: Path, run: Path) -> None:
    gate = load_gate(run, views=1)
    assert gate is not None
    seen = stranger_views(run, "report", outliers=run.parent / "outliers", dermnet=None, views=1)
    met = by_picture(seen.predictions)[0]
    with (run / "ood" / "strangers.csv").open() as file:
        rows = list(csv.DictReader(file))
    rejected = sum(int(row["rejected"]) for row in rows)
    assert rejected == gate.admit(met.features, met.logits).rejected.sum()
    assert sum(int(row["pictures"]) for row in rows) == len(met.images)
    for row in rows:
        counts = [int(row[key]) for key in ("rejected", "unsure", "confident")]
        assert sum(counts) == int(row["pictures"])


def test_nothing_of_the_fit_is_reported_on(done: Path, run: Path) -> None:
    groups = {
        part: set(Predictions.load(run / "ood" / f"{part}_1.npz").groups)
        for part in ("fit", "report")
    }
    assert groups["fit"]
    assert not groups["fit"] & groups["report"]


def test_the_gate_is_the_one_that_trust_fits(done: Path, run: Path) -> None:
    known = load_gate(run, views=1)
    assert known is not None
    again = fitted_gate(run, outliers=run.parent / "outliers", views=1)
    for name in ("weight", "bias", "offsets", "cautions"):
        np.testing.assert_array_equal(getattr(again, name), getattr(known, name))
    assert again.codes == CODES


def test_a_second_run_reads_what_was_predicted(
    done: Path, words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network ran again")

    monkeypatch.setattr("dermx.workflow.strangers.forward", refuse)
    assert main(words) == 0
    assert "of strangers of the report part" in capsys.readouterr().out


def test_a_damaged_or_absent_gate_is_told(done: Path, tmp_path: Path) -> None:
    assert load_gate(tmp_path) is None
    shutil.copytree(done / "ood", tmp_path / "ood")
    (tmp_path / "ood" / "gate.npz").write_bytes(b"PK not a zip")
    with pytest.raises(BundleError, match="can't read the gate in"):
        load_gate(tmp_path)


def test_a_gate_of_the_model_before_is_refused(done: Path, tmp_path: Path, capsys: Output) -> None:
    shutil.copytree(done, tmp_path / "run")
    model = load_bundle(tmp_path / "run" / "bundle")
    write_bundle(
        model.folder, name="tiny", architecture=model.architecture, preprocess=model.preprocess,
        network_bytes=model.network.read_bytes(), weight=model.weight, bias=model.bias + 0.01,
        figures={}, card="",
    )  # fmt: skip
    assert main(["trust", str(tmp_path / "run"), "--views", "1"]) == 2
    assert capsys.readouterr().err == (
        f"error: the gate in {tmp_path / 'run' / 'ood'} was not fitted for the model that "
        f"{tmp_path / 'run'} has now; fit it again: dermx ood {tmp_path / 'run'} --outliers DIR\n"
    )


def test_trust_keeps_the_gate_that_was_fitted_with_other_shares(
    done: Path, words: list[str], tmp_path: Path, capsys: Output
) -> None:
    shutil.copytree(done, tmp_path / "run")
    words = [str(tmp_path / "run"), *words[2:]]
    assert main(["ood", *words, "--acceptance", "0.8"]) == 0
    made = {path: path.read_bytes() for path in (tmp_path / "run" / "ood").glob("gate.*")}
    assert len(made) == 2
    assert main(["trust", *words]) == 0
    assert "the gate as it was fitted; dermx ood fits another" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in made} == made
    trust = Trust.of(load_bundle(tmp_path / "run" / "bundle"))
    assert trust is not None
    assert trust.gate is not None
    assert trust.gate.acceptance == 0.8


def test_trust_fits_a_gate_where_there_is_none(
    done: Path, words: list[str], tmp_path: Path
) -> None:
    shutil.copytree(done, tmp_path / "run")
    for path in (tmp_path / "run" / "ood").glob("gate.*"):
        path.unlink()
    assert main(["trust", str(tmp_path / "run"), *words[2:]]) == 0
    again, known = load_gate(tmp_path / "run", views=1), load_gate(done, views=1)
    assert again is not None
    assert known is not None
    np.testing.assert_array_equal(again.offsets, known.offsets)


def test_a_gate_set_on_another_number_of_views_is_refused(
    done: Path, tmp_path: Path, capsys: Output
) -> None:
    shutil.copytree(done, tmp_path / "run")
    run, folder = tmp_path / "run", tmp_path / "run" / "ood"
    assert main(["trust", str(run)]) == 2
    assert capsys.readouterr().err == (
        f"error: the gate in {folder} was fitted with --views 1, not 8; give --views 1, "
        f"or fit it again: dermx ood {run} --outliers DIR --views 8\n"
    )
    settings = json.loads((folder / "gate.json").read_text())
    del settings["views"]  # an older file
    (folder / "gate.json").write_text(json.dumps(settings))
    assert load_gate(run, views=8) is not None
    with pytest.raises(BundleError, match="was fitted with --views 8, not 1"):
        load_gate(run, views=1)


def test_a_wrong_share_is_refused_before_the_run_is_read(tmp_path: Path, capsys: Output) -> None:
    for words, got in ((["--acceptance", "95"], "95 and 0.1"), (["--let-in", "2"], "0.95 and 2")):
        assert main(["ood", str(tmp_path / "no-run"), "--outliers", str(tmp_path), *words]) == 2
        assert capsys.readouterr().err == (
            f"error: acceptance must be in (0, 1] and let_in in [0, 1], got {got}\n"
        )


def test_an_empty_folder_is_one_line(run: Path, tmp_path: Path, capsys: Output) -> None:
    assert main(["ood", str(run), "--outliers", str(tmp_path), "--views", "1"]) == 2
    assert capsys.readouterr().err.startswith("error: no picture in")


def test_one_disease_alone_is_named_before_the_run_is_predicted(
    run: Path, tmp_path: Path, capsys: Output
) -> None:
    shutil.copytree(run.parent / "outliers" / "everyday", tmp_path / "o" / "everyday")
    for name in ("Tinea0", "Zoster0"):
        shutil.copytree(run.parent / "outliers" / "clinical" / name, tmp_path / "o/clinical" / name)
    (tmp_path / "run").mkdir()
    for name in ("bundle", "cases.csv"):
        where = shutil.copytree if (run / name).is_dir() else shutil.copy
        where(run / name, tmp_path / "run" / name)
    words = ["ood", str(tmp_path / "run"), "--outliers", str(tmp_path / "o"), "--views", "1"]
    assert main(words) == 2
    assert "need at least 2 other skin diseases in the part for fitting" in capsys.readouterr().err
    assert not (tmp_path / "run" / "evaluation").exists()


def test_the_gate_knows_its_colours(done: Path, run: Path) -> None:
    gate: Gate | None = load_gate(run, views=1)
    assert gate is not None
    test = Predictions.load(run / "evaluation" / "test" / "predictions.npz")
    assert gate.admit(test.features, test.logits).rejected.mean() < 0.35
