"""A run's folder: which predictions are used again, what is no run, and what can be removed."""

import csv
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch", reason="a run's environment names torch")

from dermx.cli.main import main
from dermx.config import Config
from dermx.data.phantom import write_dataset
from dermx.diagnoses import BY_CODE, ISIC_COLUMNS
from dermx.model.bundle import Bundle
from dermx.records import Predictions
from dermx.runs import read_parts, start_run
from dermx.workflow.training import load_cases

Output = pytest.CaptureFixture[str]


def silent(_: str) -> None:
    pass


@pytest.fixture
def run(tmp_path: Path, tiny_bundle: Bundle) -> Path:
    ham10000, dermnet = write_dataset(tmp_path, 8, size=(60, 80))
    start_run(tmp_path / "run", load_cases(ham10000, dermnet, say=silent), Config(), None)
    shutil.copytree(tiny_bundle.folder, tmp_path / "run" / "bundle")
    return tmp_path / "run"


def isic_table(folder: Path, truth: dict[str, str]) -> Path:
    rows = [["image", *ISIC_COLUMNS]]
    for image, code in truth.items():
        rows.append([image, *(str(float(BY_CODE[code].isic == c)) for c in ISIC_COLUMNS)])
    with (folder / "test.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder / "test.csv"


def accuracy(folder: Path) -> float:
    figures = json.loads((folder / "metrics.json").read_text())["scores"]
    return float(figures["accuracy"]["value"])


def test_a_corrected_table_and_changed_pictures_are_scored_anew(
    run: Path, tmp_path: Path, capsys: Output
) -> None:
    images = tmp_path / "isic"
    images.mkdir()
    colours = {"one": (0, 255, 0), "two": (0, 0, 255)}  # what the model calls nv and mel
    for name, colour in colours.items():
        Image.new("RGB", (40, 40), colour).save(images / f"{name}.png")
    table = isic_table(tmp_path, {"one": "mel", "two": "nv"})
    words = ["evaluate", str(run), "--isic-truth", str(table), "--images", str(images)]
    folder = run / "evaluation" / "isic_test"
    assert main(words) == 0
    assert accuracy(folder) == 0
    isic_table(tmp_path, {"one": "nv", "two": "mel"})
    assert main(words) == 0
    assert "have changed; made anew" in capsys.readouterr().out
    assert accuracy(folder) == 1
    Image.new("RGB", (41, 41), (255, 0, 0)).save(images / "two.png")
    assert main(words) == 0
    assert accuracy(folder) == 0.5


def test_an_isic_table_of_any_name_is_not_taken_for_the_runs_own_part(run: Path) -> None:
    images = run.parent / "ham10000" / "HAM10000_images_part_1"
    table = isic_table(run.parent, {path.stem: "nv" for path in sorted(images.glob("*.jpg"))})
    given = ["--isic-truth", str(table), "--images", str(images)]
    assert main(["evaluate", str(run), *given]) == 0
    assert (run / "evaluation" / "isic_test" / "metrics.json").is_file()
    assert not (run / "evaluation" / "test").exists()


def test_missing_and_damaged_pictures_are_counted_and_the_first_is_named(
    run: Path, capsys: Output
) -> None:
    first, second = (case.path for case in read_parts(run)["val"][:2])
    second.write_bytes(b"no picture")
    assert main(["evaluate", str(run), "--on", "val"]) == 2
    assert f"pictures can't be read, first {second.stem}: {second} is" in capsys.readouterr().err
    first.unlink()
    assert main(["evaluate", str(run), "--on", "val"]) == 2
    assert f"pictures are missing, first {first}" in capsys.readouterr().err
    assert not (run / "evaluation").exists()


def test_a_run_finds_its_pictures_from_another_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_dataset(tmp_path, 4, size=(60, 80))
    monkeypatch.chdir(tmp_path)
    parts = load_cases(Path("ham10000"), Path("dermnet"), say=silent)
    assert all(case.path.is_absolute() for part in parts.values() for case in part)


@pytest.mark.parametrize(
    "words", [["evaluate"], ["export", "--out", "b"], ["quantize", "--out", "b"], ["prune"],
              ["ensemble", "--out", "b"], ["ood", "--outliers", "."], ["calibrate"], ["audit"]]
)  # fmt: skip
def test_what_is_no_run_is_said_to_be_none(
    words: list[str], tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([words[0], "pics", *words[1:]]) == 2
    assert "pics is not a run's folder: it has no cases.csv" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("environment.json", "{}", "environment.json is damaged: 'command' is missing"),
        ("environment.json", "[]", "environment.json is damaged: list indices"),
        ("history.jsonl", '{"epoch": 1}\n{"epo', "history.jsonl is damaged: Unterminated string"),
    ],
)
def test_a_damaged_file_of_a_run_is_named(
    run: Path, name: str, text: str, message: str, capsys: Output
) -> None:
    (run / name).write_text(text)
    assert main(["evaluate", str(run)]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--sensitivity", "0.9"], "--sensitivity is what --decide RULE aims for"),
        (["--decide", "cost", "--sensitivity", "92"], "must be above 0, at most 1, got 92"),
        (["--views", "3"], "--views must be 1 or 8, got 3"),
    ],
)
def test_options_without_effect_are_refused_before_anything_is_read(
    words: list[str], message: str, capsys: Output
) -> None:
    assert main(["evaluate", "absent", *words]) == 2
    assert message in capsys.readouterr().err


def test_no_description_of_a_command_is_cut(
    capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["--help"]) == 0
    lines = capsys.readouterr().out.partition("Commands:")[2].splitlines()
    assert any(line.startswith("  prune ") for line in lines)
    assert [line for line in lines if line.endswith("...")] == []


def finished_parts(run: Path) -> list[Path]:
    """Fill a run with what training, `evaluate` and `ood` write and pruning removes."""
    assert main(["evaluate", str(run), "--on", "val"]) == 0
    (run / "ood").mkdir()
    (run / "cache" / "train").mkdir(parents=True)
    names = [
        "checkpoint.safetensors", "cache/train/pixels.bin", ".dermx-0ab_cdef", "ood/known_8.npz",
        "evaluation/.report.html.0ab_cdef",
    ]  # fmt: skip
    for name in names:
        (run / name).write_bytes(bytes(10**6))
    for name in ("ood/gate.npz", "predictions.npz", "best.safetensors", ".gitignore"):
        (run / name).write_bytes(b"kept")
    (run / "history.jsonl").write_text('{"epoch": 1}\n' * Config().train.epochs)
    made = ["evaluation/val/predictions.npz", "evaluation/val/predictions.key"]
    return [run / name for name in [*names, *made]]


def test_pruning_removes_what_can_be_made_again_and_nothing_else(run: Path, capsys: Output) -> None:
    spare = finished_parts(run)
    shutil.copytree(run, run / "fold-1")
    spare += [run / "fold-1" / path.relative_to(run) for path in spare]
    before = {path for path in run.rglob("*") if path.is_file()}
    assert main(["prune", str(run)]) == 0
    said = capsys.readouterr().out
    assert f"{run / 'checkpoint.safetensors'}: removed, 1.0 MB" in said
    assert f"{run}: 10." in said  # five files in two folders
    assert before - {path for path in run.rglob("*") if path.is_file()} == set(spare)
    assert main(["prune", str(run)]) == 0
    assert f"{run}: nothing to remove" in capsys.readouterr().out
    assert main(["evaluate", str(run), "--on", "val"]) == 0
    assert main(["predict", str(read_parts(run)["val"][0].path), "--model", f"{run}/bundle"]) == 0


def test_a_run_whose_training_is_not_over_is_not_pruned(run: Path, capsys: Output) -> None:
    finished_parts(run)
    (run / "history.jsonl").write_text('{"epoch": 1}\n')
    assert main(["prune", str(run)]) == 2
    (run / "history.jsonl").unlink()
    shutil.rmtree(run / "bundle")
    assert main(["prune", str(run)]) == 2
    assert capsys.readouterr().err.count("is not finished, and would lose") == 2
    assert (run / "checkpoint.safetensors").is_file()


def test_predictions_are_used_again_where_the_models_files_are_only_newer(run: Path) -> None:
    assert main(["evaluate", str(run), "--on", "val"]) == 0
    path = run / "evaluation" / "val" / "predictions.npz"
    made, said = path.stat().st_mtime_ns, Predictions.load(path)
    os.utime(run / "bundle" / "network.onnx")  # copied anew, say
    assert main(["evaluate", str(run), "--on", "val"]) == 0
    assert path.stat().st_mtime_ns == made
    np.testing.assert_array_equal(Predictions.load(path).logits, said.logits)
