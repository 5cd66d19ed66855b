"""Cross-validate, combine and decide from the command line, on drawn pictures."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs dermx[train]")

from safetensors.torch import save_file  # noqa: E402

from dermx.assess import load_model  # noqa: E402
from dermx.cli.main import main  # noqa: E402
from dermx.config import Config, PreprocessConfig, TrainConfig, load_config  # noqa: E402
from dermx.data.phantom import write_dataset  # noqa: E402
from dermx.diagnoses import CODES  # noqa: E402
from dermx.errors import BundleError, ConfigError, DataError  # noqa: E402
from dermx.evaluate.decision import Decide  # noqa: E402
from dermx.evaluate.metrics import score  # noqa: E402
from dermx.model.batching import large_maps_in_turn  # noqa: E402
from dermx.model.bundle import load_bundle  # noqa: E402
from dermx.model.runtime import Session  # noqa: E402
from dermx.records import Predictions  # noqa: E402
from dermx.runs import read_parts, start_run  # noqa: E402
from dermx.train.guide import read_scores  # noqa: E402
from dermx.train.network import build_network  # noqa: E402
from dermx.train.rounding import OPERATIONS  # noqa: E402
from dermx.workflow import training  # noqa: E402
from dermx.workflow.combining import ensemble_run  # noqa: E402
from dermx.workflow.crossvalidating import crossval_run  # noqa: E402
from dermx.workflow.evaluation import evaluate_run  # noqa: E402
from dermx.workflow.training import export_run, train_run  # noqa: E402

pytestmark = pytest.mark.slow
torch.set_num_threads(1)

FIGURES = "evaluation/test"


def settings(architecture: str = "test_efficientnet") -> Config:
    return Config(
        preprocess=PreprocessConfig(image_size=64),
        train=TrainConfig(
            architecture=architecture, epochs=2, batch_size=16, learning_rate=3e-3, ema_decay=0.5
        ),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    write_dataset(folder, 10, size=(75, 100))
    return folder


def stop_at(fold: str) -> Callable[[str], None]:
    """Interrupt a cross-validation when it says that this fold begins."""

    def say(line: str) -> None:
        if line.startswith(fold):
            raise KeyboardInterrupt

    return say


@pytest.fixture(scope="module")
def folds(folder: Path) -> Path:
    """Two folds, of which the second was interrupted before its first epoch ended."""
    out = folder / "crossval"
    data = {"ham10000": folder / "ham10000", "acne": folder / "dermnet"}
    with pytest.raises(KeyboardInterrupt):
        crossval_run(
            out, folds=2, **data, config=settings(), pretrained=False, say=stop_at("fold-2")
        )
    assert (out / "fold-1" / "bundle").exists()
    before = (out / "fold-1" / "best.safetensors").stat().st_mtime_ns
    said: list[str] = []
    crossval_run(out, resume=True, pretrained=False, say=said.append)
    assert "fold-1 of 2: done" in said
    assert (out / "fold-1" / "best.safetensors").stat().st_mtime_ns == before
    return out


@pytest.fixture(scope="module")
def members(folder: Path) -> list[Path]:
    runs = [folder / name for name in ("test_efficientnet", "test_resnet")]
    for run in runs:
        train_run(
            run,
            ham10000=folder / "ham10000",
            acne=folder / "dermnet",
            config=settings(run.name),
            pretrained=False,
        )
    return runs


def test_every_case_is_answered_once_by_the_fold_that_had_not_seen_it(folds: Path) -> None:
    whole, parts = Predictions.load(folds / "predictions.npz"), read_parts(folds)
    assert Counter(whole.images) == Counter(case.image for case in parts["train"])
    assert not {case.image for case in parts["test"]} & set(whole.images)
    for i in (1, 2):
        run = folds / f"fold-{i}"
        own = Predictions.load(run / FIGURES / "predictions.npz")
        inside = read_parts(run)
        assert set(own.images) == {case.image for case in inside["test"]}
        seen = {case.group for part in ("train", "val") for case in inside[part]}
        assert not seen & set(own.groups)
        at = [list(whole.images).index(image) for image in own.images]
        np.testing.assert_array_equal(whole.logits[at], own.logits)


def test_answers_that_may_teach_come_from_the_training_part_alone(folder: Path) -> None:
    out = folder / "teachers"
    data = {"ham10000": folder / "ham10000", "acne": folder / "dermnet"}
    with pytest.raises(KeyboardInterrupt):
        crossval_run(
            out, training=True, **data, config=settings(), pretrained=False, say=stop_at("fold-1")
        )
    whole = read_parts(out)
    assert whole["val"]  # kept for choosing among the students
    assert whole["test"]
    for fold in out.glob("fold-*"):
        dealt = {case.image for part in read_parts(fold).values() for case in part}
        assert dealt == {case.image for case in whole["train"]}
    with pytest.raises(ConfigError, match="either the whole table or the training part"):
        crossval_run(out, training=True, whole=True, **data)


def test_mean_and_spread_are_those_of_the_folds(folds: Path) -> None:
    content = json.loads((folds / "crossval.json").read_text())
    each = [
        score(Predictions.load(folds / f"fold-{i}" / FIGURES / "predictions.npz"))["accuracy"]
        for i in (1, 2)
    ]
    row = content["scores"]["accuracy"]
    assert content["folds"] == 2
    assert row["folds"] == pytest.approx(each)
    assert row["mean"] == pytest.approx(np.mean(each))
    assert row["sd"] == pytest.approx(np.std(each, ddof=1))
    report = json.loads((folds / "evaluation" / "out-of-fold" / "metrics.json").read_text())
    assert report["cases"] == len(read_parts(folds)["train"])


def test_the_pictures_that_surprised_the_folds_are_a_curriculums_hard_ones(folds: Path) -> None:
    whole = Predictions.load(folds / "predictions.npz")
    losses = read_scores(folds / "difficulty.csv", whole.images)
    right = whole.probs[np.arange(len(whole.labels)), whole.labels]
    np.testing.assert_allclose(losses, -np.log(right), atol=1e-5)


def test_the_folds_models_are_one_that_is_scored_on_what_no_fold_saw(folds: Path) -> None:
    assert main(["evaluate", str(folds)]) == 0
    scored = Predictions.load(folds / FIGURES / "predictions.npz")
    assert set(scored.images) == {case.image for case in read_parts(folds)["test"]}
    assert load_bundle(folds / "bundle").architecture == "2 x test_efficientnet"


def test_a_cross_validation_is_neither_overwritten_nor_resumed_otherwise(
    folds: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["crossval", "--out", str(folds), "--ham10000", str(folder / "ham10000")]
    assert main(words) == 2
    assert "holds a run; go on with --resume" in capsys.readouterr().err
    assert main([*words, "--resume", "--folds", "3"]) == 2
    assert "was started with other settings or 2 folds" in capsys.readouterr().err
    other = folder / "other.toml"
    other.write_text("[train]\nepochs = 3\n")
    assert main([*words, "--resume", "--config", str(other)]) == 2
    assert "was started with other settings" in capsys.readouterr().err
    init = folds / "fold-1" / "best.safetensors"
    (folds / "fold-1-exported").mkdir()  # is not taken for a fold
    for more, message in (
        (["--whole"], "was started on other parts; go on without --whole or --training"),
        (["--training"], "was started on other parts"),
        (["--init", str(init)], f"was started from timm's weights, not from what is in {init}"),
    ):
        assert main([*words, "--resume", *more]) == 2
        assert message in capsys.readouterr().err
    assert main(["crossval", "--out", str(folds / "fold-1"), "--resume"]) == 2
    assert "is a run without folds; go on with it by dermx train" in capsys.readouterr().err


def test_what_would_fail_after_hours_is_refused_before_there_is_a_folder(
    folder: Path, tmp_path: Path
) -> None:
    data = {"ham10000": folder / "ham10000", "acne": folder / "dermnet"}
    scores = tmp_path / "scores.csv"
    scores.write_text("image,score\nnone,1\n")
    guided = replace(settings().train, curriculum=str(scores))
    for config, folds, error, message in (
        (settings("test_convnext"), 2, BundleError, "does more than average its map"),
        (settings().with_train(frozen_layers=99), 2, ConfigError, "train.frozen_layers must be"),
        (settings(), 20, DataError, "fold 9 of 20 has no picture in its test part; give more"),
        (replace(settings(), train=guided), 2, DataError, "scores.csv lacks"),
    ):
        with pytest.raises(error, match=message):
            crossval_run(
                tmp_path / "out", folds=folds, **data, config=config, pretrained=False, say=print
            )
        assert not (tmp_path / "out").exists()


def test_two_processes_are_one_cross_validation(folder: Path) -> None:
    weights = build_network("test_efficientnet", 1000, pretrained=False).state_dict()
    save_file({k: v.contiguous() for k, v in weights.items()}, folder / "init.safetensors")
    (folder / "one.toml").write_text(
        "[preprocess]\nimage_size = 64\n"
        '[train]\narchitecture = "test_efficientnet"\nepochs = 1\nbatch_size = 16\n'
    )
    out = folder / "together"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["-m", "dermx.cli.main", "crossval", "--folds", "2", "--out", str(out)]
    for name, given in {
        "--ham10000": "ham10000", "--acne": "dermnet", "--config": "one.toml",
        "--init": "init.safetensors",
    }.items():  # fmt: skip
        command += [name, str(folder / given)]
    env = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=300)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("fold-")] == [
        "fold-1 of 2", "fold-2 of 2"
    ]  # fmt: skip
    assert done.stdout.count("report: ") == 1
    assert json.loads((out / "crossval.json").read_text())["folds"] == 2


@pytest.mark.parametrize("weights", ["greedy", "fitted", "equal"])
def test_an_ensemble_is_a_run_and_a_model_like_any_other(
    members: list[Path], tmp_path: Path, weights: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "both"
    words = ["ensemble", *map(str, members), "--out", str(out), "--weights", weights]
    assert main(words) == 0
    assert "of the members" in capsys.readouterr().out
    content = json.loads((out / "ensemble.json").read_text())
    shares = [row["weight"] for row in content["members"]]
    assert sum(shares) == pytest.approx(1)
    if weights == "equal":
        assert shares == [0.5, 0.5]
    if weights == "greedy":
        alone = [row["val_balanced_accuracy"] for row in content["members"]]
        assert content["val_balanced_accuracy"] >= max(alone)
    assert main(["evaluate", str(out)]) == 0
    for run in members:
        assert main(["evaluate", str(run)]) == 0
    said = [Predictions.load(run / FIGURES / "predictions.npz") for run in [out, *members]]
    expected = sum(share * one.logits for share, one in zip(shares, said[1:], strict=True))
    np.testing.assert_allclose(said[0].logits, expected, atol=1e-4)
    picture = read_parts(out)["test"][0].path
    answer = load_model(out / "bundle").assess(picture)
    assert sum(answer.probabilities.values()) == pytest.approx(1)
    assert answer.heatmap().shape == answer.size


def test_an_ensemble_of_one_is_the_member(members: list[Path], tmp_path: Path) -> None:
    ensemble_run(members[:1], tmp_path / "one")
    evaluate_run(tmp_path / "one")
    evaluate_run(members[0])
    one, member = (
        Predictions.load(run / FIGURES / "predictions.npz")
        for run in (tmp_path / "one", members[0])
    )
    np.testing.assert_array_equal(one.logits, member.logits)


def test_an_ensemble_that_differs_from_its_members_is_not_written(
    members: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dermx.train.export.TOLERANCE", -1.0)
    with pytest.raises(BundleError, match="the ensemble differs from its members"):
        ensemble_run(members, tmp_path / "both", weights="equal")
    assert not (tmp_path / "both" / "bundle").exists()


def test_members_of_other_parts_keep_their_own_predictions(
    members: list[Path], tmp_path: Path
) -> None:
    """One has a case for validation that another was trained on."""
    evaluate_run(members[0], on="val", say=lambda _: None)
    other = tmp_path / "other"
    shutil.copytree(members[0], other)
    (other / "evaluation" / "val" / "predictions.npz").unlink()
    parts = read_parts(other)
    group = parts["val"][0].group
    moved = [case for case in parts["val"] if case.group == group]
    parts["val"] = [case for case in parts["val"] if case.group != group]
    parts["train"] += moved
    start_run(other, parts, load_config(other / "config.json"), None)
    stored = members[0] / "evaluation" / "val" / "predictions.npz"
    before, said = stored.stat().st_mtime_ns, []
    ensemble_run([members[0], other], tmp_path / "both", say=said.append)
    assert stored.stat().st_mtime_ns == before
    assert not [line for line in said if "of another model" in line]
    own = Predictions.load(other / "evaluation" / "val" / "predictions.npz")
    assert list(own.images) == [case.image for case in parts["val"]]
    told = json.loads((tmp_path / "both" / "ensemble.json").read_text())["members"]
    assert told[0]["val_balanced_accuracy"] == told[1]["val_balanced_accuracy"]  # on one set


def test_an_adjusted_ensemble_answers_rare_classes_sooner(
    members: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each logit loses the log of its class's share of training, times what was asked for."""
    out = tmp_path / "adjusted"
    words = ["ensemble", *map(str, members), "--out", str(out), "--weights", "equal"]
    for wrong in ("nan", "-0.1"):
        assert main([*words, "--adjust", wrong]) == 2
        assert "adjust must be from 0 to 1, got " in capsys.readouterr().err
    assert main([*words, "--adjust", "0.5"]) == 0
    assert json.loads((out / "ensemble.json").read_text())["adjust"] == 0.5
    ensemble_run(members, tmp_path / "plain", weights="equal")
    for run in (out, tmp_path / "plain"):
        evaluate_run(run)
    adjusted, plain = (
        Predictions.load(run / FIGURES / "predictions.npz").logits
        for run in (out, tmp_path / "plain")
    )
    drawn = [case.diagnosis for case in read_parts(out)["train"]]
    shares = np.array([drawn.count(code) for code in CODES]) / len(drawn)
    expected = np.tile(-0.5 * np.log(shares), (len(plain), 1))
    np.testing.assert_allclose(adjusted - plain, expected, atol=1e-4)


def test_an_ensemble_is_expected_to_find_the_melanomas_asked_for(
    members: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "even"
    words = ["ensemble", *map(str, members), "--out", str(out), "--weights", "equal"]
    for wrong in ("nan", "-0.1", "1.1"):
        assert main([*words, "--melanomas", wrong]) == 2
        assert "melanomas must be from 0 to 1, got " in capsys.readouterr().err
    assert main([*words, "--melanomas", "0.9", "--adjust", "0.1"]) == 2
    assert "both say how soon a class is answered; give one" in capsys.readouterr().err
    assert main([*words, "--melanomas", "0.9"]) == 0
    told = capsys.readouterr().out
    assert re.search(r"expected on \d+ validation pictures: accuracy .*, mel (0\.9|1\.)", told)
    content = json.loads((out / "ensemble.json").read_text())
    assert content["melanomas"] == 0.9
    ensemble_run(members, tmp_path / "plain", weights="equal")
    made, plain = (load_bundle(run / "bundle") for run in (out, tmp_path / "plain"))
    np.testing.assert_allclose(
        made.bias - plain.bias, [content["offsets"][code] for code in CODES], atol=1e-5
    )
    np.testing.assert_array_equal(made.weight, plain.weight)


def test_members_have_the_shares_asked_for_and_one_of_them_the_map(
    members: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "both"
    words = ["ensemble", *map(str, members), "--out", str(out)]
    for wrong in (["2"], ["2", "0"], ["2", "nan"], ["2", "-1"]):
        asked = [word for share in wrong for word in ("--share", share)]
        assert main([*words, *asked]) == 2
        assert "need a weight above 0 for each of 2 runs, got [" in capsys.readouterr().err
    shares = ["--share", "2", "--share", "1"]
    assert main([*words, *shares, "--weights", "equal"]) == 2
    assert "leave --weights out" in capsys.readouterr().err
    assert main([*words, *shares, "--mapped", str(tmp_path)]) == 2
    assert "whose maps to show, is none of the runs" in capsys.readouterr().err
    assert main([*words, *shares, "--mapped", str(members[1])]) == 0
    told = json.loads((out / "ensemble.json").read_text())
    assert told["weights"] == "given"
    assert told["mapped"] == [str(members[1])]
    assert [row["weight"] for row in told["members"]] == pytest.approx([2 / 3, 1 / 3])
    both = [word for run in members for word in ("--mapped", str(run))]
    assert main([*words[:-1], str(tmp_path / "all"), *shares, *both]) == 0
    every = load_bundle(tmp_path / "all" / "bundle")
    np.testing.assert_array_equal(every.map_weight, every.weight)
    made, first, second = (load_bundle(run / "bundle") for run in (out, *members))
    c = first.weight.shape[1]
    np.testing.assert_allclose(made.weight[:, :c], 2 / 3 * first.weight, rtol=1e-6)
    np.testing.assert_array_equal(made.map_weight[:, :c], 0)
    np.testing.assert_allclose(made.map_weight[:, c:], second.weight / 3, rtol=1e-6)
    exported = export_run(out, tmp_path / "exported", say=lambda _: None)
    np.testing.assert_array_equal(load_bundle(exported).mapped, made.mapped)
    small = tmp_path / "small"
    assert main(["quantize", str(out), "--out", str(small), "--steps", "0"]) == 0
    np.testing.assert_array_equal(load_bundle(small / "bundle").mapped, made.mapped)


def test_members_look_at_as_much_of_the_picture_as_asked_for(
    members: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "both"
    words = ["ensemble", *map(str, members), "--out", str(out), "--weights", "equal"]
    for wrong in (["0.8"], ["1", "0"], ["1", "nan"], ["1", "1.1"]):
        asked = [word for fraction in wrong for word in ("--crop-fraction", fraction)]
        assert main([*words, *asked]) == 2
        assert "need a crop fraction above 0, at most 1, for each of 2" in capsys.readouterr().err
    stored = members[1] / "evaluation" / "val" / "views.npz"
    before = stored.stat().st_mtime_ns if stored.exists() else None
    fractions = ["--crop-fraction", "1", "--crop-fraction", "0.8"]
    assert main([*words, *fractions, "--melanomas", "0.9"]) == 0
    assert (stored.stat().st_mtime_ns if stored.exists() else None) == before  # not its own answers
    told = json.loads((out / "ensemble.json").read_text())["members"]
    assert [row["crop_fraction"] for row in told] == [1.0, 0.8]
    whole, first, second = (load_bundle(run / "bundle") for run in (out, *members))
    side = first.preprocess.image_size
    assert (whole.preprocess.crop_fraction, whole.preprocess.image_size) == (1.0, side / 0.8)
    assert load_config(out / "config.json").preprocess == whole.preprocess
    picture = np.zeros((1, side * 5 // 4, side * 5 // 4, 3), np.uint8)
    edge = side // 8
    picture[:, :edge] = picture[:, -edge:] = picture[:, :, :edge] = picture[:, :, -edge:] = 255
    _, features = Session(whole).run(picture)
    seen = Session(second).features(np.zeros((1, side, side, 3), np.uint8))
    np.testing.assert_allclose(features[:, -seen.shape[1] :], seen, rtol=1e-4, atol=1e-4)


def test_what_any_member_was_trained_on_tests_no_ensemble(
    folds: Path, members: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mixed = [str(folds / "fold-1"), str(folds / "fold-2")]
    assert main(["ensemble", *mixed, "--out", str(tmp_path / "a")]) == 2
    assert "share no validation case; weigh them equally" in capsys.readouterr().err
    words = ["ensemble", *mixed, str(members[0]), "--out", str(tmp_path / "b")]
    assert main([*words, "--weights", "equal"]) == 0
    tested = {case.image for case in read_parts(tmp_path / "b")["test"]}
    assert tested
    for run in map(Path, [*mixed, members[0]]):
        parts = read_parts(run)
        assert not tested & {c.image for part in ("train", "val") for c in parts[part]}
    assert main(words) == 2
    assert "is not empty; choose another folder" in capsys.readouterr().err


@pytest.mark.parametrize("decide", ["argmax", "balanced", "cost"])
def test_a_decision_rule_is_fitted_on_val_and_scored_on_test(
    members: list[Path], decide: Decide, capsys: pytest.CaptureFixture[str]
) -> None:
    run = members[0]
    words = ["evaluate", str(run), "--decide", decide, "--sensitivity", "0.8"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert f"test: decision rule {decide}" in said
    content = json.loads((run / FIGURES / f"decision_{decide}.json").read_text())
    parts = read_parts(run)
    assert content["fitted_on"] == len(parts["val"])
    assert content["cases"] == len(parts["test"])
    assert content["codes"] == list(CODES)
    assert main([*words, "--on", "val"]) == 0
    on_val = json.loads((run / "evaluation/val" / f"decision_{decide}.json").read_text())
    assert on_val["cost"] == content["cost"]
    assert on_val["screening"]["sensitivity"]["value"] >= 0.8
    if decide == "cost":
        assert on_val["scores"]["malignant_sensitivity"]["value"] >= 0.8
    if decide == "argmax":
        plain = json.loads((run / FIGURES / "metrics.json").read_text())["scores"]["accuracy"]
        assert content["scores"]["accuracy"] == pytest.approx(plain)


def test_without_a_validation_part_no_rule_is_fitted(
    folds: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(folds), "--on", "train", "--decide", "balanced"]) == 2
    assert "has no validation part to fit a decision rule on" in capsys.readouterr().err
    assert not (folds / "evaluation" / "train").exists()  # told before anything is predicted


def test_metadata_is_shown_beside_the_picture(
    folds: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, others = folds / "fold-1", folds / "fold-2" / FIGURES / "predictions.npz"
    assert main(["metadata", str(run), "--on", "test", "--fit", str(others)]) == 0
    assert "auroc_mel: picture " in capsys.readouterr().out
    told = json.loads((run / "evaluation/test/metadata.json").read_text())
    gain, both, alone = (
        told["scores"][n]["accuracy"] for n in ("gain", "picture and metadata", "picture")
    )
    assert gain["value"] == pytest.approx(both["value"] - alone["value"])
    assert gain["low"] <= gain["value"] <= gain["high"]
    assert (run / "metadata.json").is_file()


def test_metadata_is_not_fitted_on_what_it_is_tested_on(
    folds: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out_of_fold = str(folds / "fold-1"), str(folds / "predictions.npz")
    assert main(["metadata", run, "--fit", out_of_fold]) == 2
    assert "pictures to fit on are of the test part" in capsys.readouterr().err
    assert main(["metadata", run]) == 2
    assert "lesions are too few to fit on" in capsys.readouterr().err


def test_all_pictures_are_scored_and_said_to_be(folds: Path) -> None:
    run = folds / "fold-1"
    report = evaluate_run(run, on="all", say=lambda _: None)
    parts = read_parts(run)
    scored = Predictions.load(report.parent / "predictions.npz")
    assert len(scored.images) == sum(map(len, parts.values()))
    assert "those it was trained on included" in report.read_text(encoding="utf-8")


def test_a_run_in_8_bits_is_a_run(
    folds: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, out = next(
        (folds / f"fold-{i}", folds / "int8")
        for i in (1, 2)
        if read_parts(folds / f"fold-{i}")["val"]
    )
    assert main(["quantize", str(run), "--out", str(out), "--steps", "2"]) == 0
    assert "the same answer for" in capsys.readouterr().out
    told = json.loads((out / "quantize.json").read_text())
    files = [folder / "bundle" / "network.onnx" for folder in (run, out)]
    assert told["mebibytes"] == [file.stat().st_size / 2**20 for file in files]
    assert 0 <= told["agreement"] <= 1
    assert (evaluate_run(out, say=lambda _: None).parent / "metrics.json").is_file()
    assert main(["export", str(out), "--out", str(folds / "small")]) == 0
    written = (folds / "small" / "network.onnx").read_bytes()
    assert written == large_maps_in_turn(files[1].read_bytes(), 64) != files[1].read_bytes()
    monkeypatch.setattr(training, "large_maps_in_turn", lambda network, side: files[0].read_bytes())
    assert main(["export", str(out), "--out", str(folds / "other")]) == 2
    assert "rewritten to take less time" in capsys.readouterr().err
    assert not (folds / "other").exists()
    assert load_bundle(folds / "small").figures["cases"] == len(read_parts(out)["test"])
    assert main(["quantize", str(run), "--out", str(out)]) == 2
    assert "is not empty; choose another folder" in capsys.readouterr().err
    monkeypatch.delitem(OPERATIONS, "Conv")
    assert main(["quantize", str(run), "--out", str(folds / "rounded")]) == 0
    assert "only rounded: can't learn to round a network with Conv" in capsys.readouterr().out
