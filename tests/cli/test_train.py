"""Train, kill, resume, evaluate and export from the command line, on drawn pictures."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs dermx[train]")

from safetensors.torch import load_file, save_file  # noqa: E402

from dermx.cli.main import main  # noqa: E402
from dermx.config import load_config  # noqa: E402
from dermx.data.phantom import write_dataset  # noqa: E402
from dermx.diagnoses import BY_CODE, CODES, ISIC_COLUMNS  # noqa: E402
from dermx.model.bundle import TrustParts, load_bundle, write_trust  # noqa: E402
from dermx.records import Predictions  # noqa: E402
from dermx.runs import read_parts  # noqa: E402
from dermx.train.network import build_network  # noqa: E402
from dermx.workflow.training import train_run  # noqa: E402

pytestmark = pytest.mark.slow
torch.set_num_threads(1)

SETTINGS = """
[preprocess]
image_size = 64
[train]
architecture = "test_efficientnet"
epochs = 5
batch_size = 16
learning_rate = 3e-3
ema_decay = 0.5
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    write_dataset(folder, 10, size=(75, 100))
    weights = build_network("test_efficientnet", 1000, pretrained=False).state_dict()
    save_file({k: v.contiguous() for k, v in weights.items()}, folder / "init.safetensors")
    (folder / "settings.toml").write_text(SETTINGS)
    return folder


def words(folder: Path, out: str, *more: str) -> list[str]:
    given = {
        "--ham10000": "ham10000", "--acne": "dermnet", "--config": "settings.toml",
        "--init": "init.safetensors", "--out": out,
    }  # fmt: skip
    return ["train", *(w for k, v in given.items() for w in (k, str(folder / v))), *more]


@pytest.fixture(scope="module")
def finished(folder: Path) -> Path:
    assert main(words(folder, "run")) == 0
    return folder / "run"


def test_a_run_holds_what_its_result_depends_on(finished: Path) -> None:
    settings = json.loads((finished / "config.json").read_text())
    assert settings["train"]["epochs"] == 5
    assert settings["train"]["seed"] == 0
    around = json.loads((finished / "environment.json").read_text())
    assert around["packages"]["torch"] == torch.__version__.split("+")[0]
    assert len(around["init"]["sha256"]) == 64
    rows = [json.loads(line) for line in (finished / "history.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5]
    assert all(row["peak_memory_mib"] > 0 for row in rows)
    parts = [line.rsplit(",", 1)[1] for line in (finished / "cases.csv").read_text().splitlines()]
    assert {"train", "val", "test"} < set(parts)
    assert not (finished / "cache").exists()


def test_killed_at_any_moment_and_resumed_it_ends_with_the_same_bits(
    folder: Path, finished: Path
) -> None:
    command = [sys.executable, "-m", "dermx.cli.main", *words(folder, "killed")]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL)
    history = folder / "killed" / "history.jsonl"
    deadline = time.monotonic() + 120
    while not (history.is_file() and len(history.read_text().splitlines()) >= 2):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (folder / "killed" / "bundle").exists()
    assert subprocess.run([*command, "--resume"], env=env, check=False).returncode == 0
    for name in ("checkpoint.safetensors", "best.safetensors"):
        one, other = load_file(finished / name), load_file(folder / "killed" / name)
        assert one.keys() == other.keys()
        assert [key for key in one if not torch.equal(one[key], other[key])] == []


def test_two_processes_are_one_run(folder: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["-m", "dermx.cli.main", *words(folder, "together", "--epochs", "1")]
    env = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("epoch 1/1: loss") == 1
    assert done.stdout.count(f"model: {folder / 'together' / 'bundle'}") == 1
    odd = [*command, "--batch-size", "15"]
    odd[odd.index(str(folder / "together"))] = str(folder / "odd")
    refused = subprocess.run(odd, capture_output=True, text=True, env=env, timeout=300)
    assert "error: batch size 15 can't be split over 2 processes" in refused.stderr
    assert not (folder / "odd").exists()


def test_a_run_is_guided_by_scores_and_a_teacher(
    folder: Path, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Loss and sampler from the command line, the rest from the settings."""
    with (finished / "cases.csv").open(newline="", encoding="utf-8") as file:
        images = [row["image"] for row in csv.DictReader(file)]
    scores, teacher = folder / "scores.csv", folder / "teacher.npz"
    scores.write_text("image,score\n" + "".join(f"{x},{i % 5}\n" for i, x in enumerate(images)))
    logits = np.random.default_rng(0).normal(size=(len(images), len(CODES))).astype(np.float32)
    nothing = np.zeros(len(images), np.int64)
    Predictions(images=images, groups=images, labels=nothing, logits=logits, features=logits).save(
        teacher
    )
    more = f'curriculum = "{scores.as_posix()}"\nteacher = "{teacher.as_posix()}"\n'
    (folder / "guided.toml").write_text(SETTINGS.replace("epochs = 5", "epochs = 1") + more)
    given = words(folder, "guided", "--loss", "focal+inverse+adjusted", "--sampler", "power")
    given[given.index("--config") + 1] = str(folder / "guided.toml")
    assert main(given) == 0
    saved = json.loads((folder / "guided" / "config.json").read_text())["train"]
    assert (saved["loss"], saved["sampler"]) == ("focal+inverse+adjusted", "power")
    scores.write_text("image,score\nnone,1\n")
    assert main([*given, "--resume"]) == 2
    assert "scores.csv lacks" in capsys.readouterr().err


def test_a_folder_with_a_run_is_not_overwritten(
    folder: Path, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(folder, "run")) == 2
    assert "holds a run; go on with --resume" in capsys.readouterr().err


def test_settings_that_end_in_no_model_are_refused_before_there_is_a_run(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = build_network("test_convnext", 1000, pretrained=False).state_dict()
    save_file({k: v.contiguous() for k, v in weights.items()}, folder / "convnext.safetensors")
    start = ["--init", str(folder / "convnext.safetensors")]
    for more, message in (
        (["--architecture", "test_efficient"], "timm has no network 'test_efficient'"),
        (["--architecture", "test_convnext", *start], "does more than average its map"),
    ):
        assert main(words(folder, "refused", *more)) == 2
        assert message in capsys.readouterr().err
    assert not (folder / "refused").exists()


def test_a_run_set_right_before_its_first_epoch_records_what_it_was_trained_with(
    folder: Path, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = folder / "early"

    def killed_early() -> None:
        shutil.rmtree(run, ignore_errors=True)
        run.mkdir()
        for name in ("cases.csv", "config.json"):
            shutil.copy(finished / name, run)
        around = json.loads((finished / "environment.json").read_text())
        (run / "environment.json").write_text(json.dumps(around | {"command": "the first"}))

    def recorded() -> tuple[int, str]:
        epochs = json.loads((run / "config.json").read_text())["train"]["epochs"]
        return epochs, json.loads((run / "environment.json").read_text())["command"]

    killed_early()
    assert main(["train", "--out", str(run), "--resume"]) == 2
    assert "started from init.safetensors; name it again: --init FILE" in capsys.readouterr().err
    assert main(words(folder, "early", "--resume")) == 0
    assert f"going on with the pictures of {run / 'cases.csv'}" in capsys.readouterr().out
    assert recorded() == (5, "the first")
    killed_early()
    assert main(words(folder, "early", "--resume", "--epochs", "1")) == 0
    epochs, command = recorded()
    assert epochs == 1
    assert command != "the first"
    assert (run / "cases.csv").read_bytes() == (finished / "cases.csv").read_bytes()


def test_resuming_with_another_rate_is_refused(
    folder: Path, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(folder, "run", "--resume", "--lr", "0.1")) == 2
    assert "started with other settings" in capsys.readouterr().err


def test_evaluation_writes_the_promised_files_and_runs_the_network_once(finished: Path) -> None:
    assert main(["evaluate", str(finished), "--on", "test"]) == 0
    folder = finished / "evaluation" / "test"
    promised = {
        "classification_report.txt", "per_class_metrics.csv", "confusion_matrix.png",
        "training_history.png", "metrics.json", "report.html", "predictions.npz", "isic.csv",
        "predictions.key",
    }  # fmt: skip
    assert {path.name for path in folder.iterdir()} == promised
    before = (folder / "predictions.npz").stat().st_mtime_ns
    assert main(["evaluate", str(finished)]) == 0
    assert (folder / "predictions.npz").stat().st_mtime_ns == before


def test_the_bundle_answers_as_the_network_in_training_did(finished: Path) -> None:
    """The whole way from file to logits is the same at deployment as in validation."""
    assert main(["evaluate", str(finished), "--on", "val"]) == 0
    said = Predictions.load(finished / "evaluation" / "val" / "predictions.npz")
    rows = [json.loads(line) for line in (finished / "history.jsonl").read_text().splitlines()]
    best = max(rows, key=lambda row: (row["val_balanced_accuracy"], -row["epoch"]))
    hits = (said.logits.argmax(1) == said.labels).mean()
    assert hits == pytest.approx(best["val_accuracy"])
    chosen = said.logits[np.arange(len(said.labels)), said.labels]
    loss = (np.log(np.exp(said.logits).sum(1)) - chosen).mean()
    assert loss == pytest.approx(best["val_loss"], abs=1e-4)


def test_an_export_carries_the_figures_of_the_test_part(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(finished)]) == 0
    assert main(["export", str(finished), "--out", str(finished.parent / "deploy")]) == 0
    assert "of PyTorch" in capsys.readouterr().out
    bundle = load_bundle(finished.parent / "deploy")
    assert bundle.codes == CODES
    assert bundle.preprocess.image_size == 64
    measured = json.loads((finished / "evaluation" / "test" / "metrics.json").read_text())
    assert bundle.figures["scores"] == measured["scores"]
    assert (
        f"{measured['scores']['accuracy']['value']:.3f}" in (bundle.folder / "card.md").read_text()
    )


def trusted(finished: Path, run: Path) -> Path:
    """A copy of the run whose bundle has trust parts."""
    shutil.copytree(finished, run)
    parts = TrustParts({"views": 8}, {"lambda": np.arange(3.0)}, {"part": "test"})
    write_trust(load_bundle(run / "bundle"), parts)
    return run


def test_resuming_a_finished_run_or_exporting_onto_its_bundle_keeps_trust_parts(
    folder: Path,
    finished: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """And decodes no picture for it."""
    monkeypatch.setattr("dermx.train.cache.open_cache", lambda *_, **__: pytest.fail("decoded"))
    run = trusted(finished, folder / "trusted")
    (run / "history.jsonl").write_text("")  # killed before it was written
    for given in (
        ["export", str(run), "--out", str(run / "bundle")],
        words(folder, "trusted", "--resume"),
    ):
        assert main(given) == 0
        bundle = load_bundle(run / "bundle")
        assert bundle.trust is not None
        assert bundle.trust.settings["views"] == 8
        assert bundle.trust.reliability == {"part": "test"}
    assert "all 5 epochs are done" in capsys.readouterr().out
    assert (run / "history.jsonl").read_bytes() == (finished / "history.jsonl").read_bytes()


def test_pictures_that_changed_between_kill_and_resume_are_told(
    folder: Path, finished: Path
) -> None:
    run, said = folder / "changed", []
    picture = read_parts(finished)["train"][0].path
    data = {"ham10000": folder / "ham10000", "acne": folder / "dermnet"}
    settings = load_config(folder / "settings.toml").with_train(epochs=2)

    def stop(line: str) -> None:
        if line.startswith("epoch 1/2"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_run(run, **data, config=settings, pretrained=False, say=stop)
    before = picture.stat().st_mtime_ns
    os.utime(picture, ns=(before, before + 10**9))
    train_run(run, resume=True, pretrained=False, say=said.append)
    os.utime(picture, ns=(before, before))
    told = [line for line in said if line.endswith("the pictures have changed since; decoded anew")]
    assert [line.partition(":")[0] for line in told] == [str(run / "cache" / "train")]


def test_an_export_that_cannot_be_checked_leaves_the_old_bundle(
    folder: Path,
    finished: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = trusted(finished, folder / "unchecked")
    before = (run / "bundle" / "bundle.json").read_bytes()
    given = ["export", str(run), "--out", str(run / "bundle")]
    monkeypatch.setattr("dermx.train.export.TOLERANCE", -1.0)
    assert main(given) == 2
    assert "differs from PyTorch" in capsys.readouterr().err
    lost = read_parts(run)["val"][0].path
    lost.rename(lost.with_suffix(".away"))
    try:
        assert main(given) == 2
    finally:
        lost.with_suffix(".away").rename(lost)
    assert f"pictures are missing, first {lost}" in capsys.readouterr().err
    assert (run / "bundle" / "bundle.json").read_bytes() == before
    assert load_bundle(run / "bundle").trust is not None


def test_a_pruned_run_still_exports_and_is_not_trained_anew_over_its_weights(
    folder: Path, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = folder / "pruned"
    shutil.copytree(finished, run)
    assert main(["prune", str(run)]) == 0
    assert not (run / "checkpoint.safetensors").exists()
    assert main(words(folder, "pruned", "--resume")) == 2
    assert "has its model and no checkpoint to go on from" in capsys.readouterr().err
    assert main(["export", str(run), "--out", str(folder / "of_pruned")]) == 0


def test_an_isic_test_set_is_scored_from_its_truth_file(folder: Path, finished: Path) -> None:
    with (folder / "ham10000" / "HAM10000_metadata.csv").open() as file:
        truth = {row["image_id"]: row["dx"] for row in csv.DictReader(file)}
    images = folder / "ham10000" / "HAM10000_images_part_1"
    table = folder / "ISIC2018_Task3_Test_GroundTruth.csv"
    rows = [",".join(["image", *ISIC_COLUMNS])]
    for path in sorted(images.glob("*.jpg")):
        hot = [float(BY_CODE[truth[path.stem]].isic == column) for column in ISIC_COLUMNS]
        rows.append(",".join([path.stem, *map(str, hot)]))
    table.write_text("\n".join(rows) + "\n")
    given = ["--isic-truth", str(table), "--images", str(images)]
    assert main(["evaluate", str(finished), *given]) == 0
    scored = json.loads(
        (finished / "evaluation" / f"isic_{table.stem}" / "metrics.json").read_text(
            encoding="utf-8"
        )
    )
    assert scored["cases"] == len(rows) - 1
    assert scored["classes_without_cases"] == ["acne"]
    assert main(["evaluate", str(finished), "--isic-truth", str(table)]) == 2


def test_check_counts_the_pictures(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = ["--ham10000", str(folder / "ham10000"), "--acne", str(folder / "dermnet")]
    if main(["check", *data]) == 2:
        pytest.skip("no model is shipped yet")
    said = capsys.readouterr().out
    assert "acne 10" in said
    assert "new split by lesion" in said


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "no pictures to train on; give --ham10000 DIR, --acne DIR or both"),
        (["--resume"], "no run to resume in"),
        (["--ham10000", "absent"], "absent"),
        (["--epochs", "0"], "train.epochs must be at least 1, got 0"),
        (["--loss", "fokal"], "train.loss has an unknown term 'fokal'; did you mean focal?"),
        (["--sampler", "root"], "train.sampler must be one of ('share', 'power'), got 'root'"),
    ],
)
def test_a_wrong_call_is_one_line(
    given: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--out", str(tmp_path / "run"), *given]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
