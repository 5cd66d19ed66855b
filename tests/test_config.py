"""A setting is known, of the right type and in range, or the error names it."""

import json
from collections.abc import Callable
from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest

from dermx.config import (
    AugmentConfig,
    Config,
    PreprocessConfig,
    TrainConfig,
    config_from,
    load_config,
    section_from,
)
from dermx.errors import ConfigError


def toml(folder: Path, text: str) -> Path:
    path = folder / "run.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_changes_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    config = load_config(toml(tmp_path, "[train]\nepochs = 3\nlearning_rate = 1\n"))
    assert config.train == TrainConfig(epochs=3, learning_rate=1.0)
    assert config.preprocess == PreprocessConfig()
    assert config.augment == AugmentConfig()


def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path: Path) -> None:
    assert load_config(toml(tmp_path, "\ufeff[train]\nepochs = 3\n")).train.epochs == 3


def test_no_file_means_the_defaults() -> None:
    assert load_config(None) == Config()
    assert (Config().train.epochs, Config().train.batch_size) == (20, 64)
    assert Config().train.learning_rate == 8e-4


def test_what_is_saved_as_json_is_read_back_equal(tmp_path: Path) -> None:
    config = config_from(
        {
            "preprocess": {"image_size": 160, "mean": [0.5, 0.4, 0.3], "hair_removal": True},
            "augment": {"flip": False, "shift": 0},
            "train": {"precision": "bf16", "seed": 7},
        }
    )
    path = tmp_path / "config.json"
    path.write_text(config.to_json())
    assert load_config(path) == config


@pytest.mark.parametrize(
    ("text", "teachers"),
    [("''", ()), ("'a.npz'", ("a.npz",)), ("['a.npz', 'b.npz']", ("a.npz", "b.npz"))],
)
def test_one_teacher_need_not_be_a_list(
    tmp_path: Path, text: str, teachers: tuple[str, ...]
) -> None:
    assert load_config(toml(tmp_path, f"[train]\nteacher = {text}")).train.teacher == teachers


def test_json_holds_every_setting_defaults_included() -> None:
    saved = json.loads(Config().to_json())
    for name, kind in [
        ("preprocess", PreprocessConfig),
        ("augment", AugmentConfig),
        ("train", TrainConfig),
    ]:
        assert list(saved[name]) == [f.name for f in fields(kind)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[train]\nlearning_rat = 1", "train.learning_rat; did you mean learning_rate?"),
        ("[train]\nqqq = 1", "unknown setting train.qqq; known are architecture, epochs"),
        ("[trian]\nepochs = 1", r"unknown section \[trian\]; did you mean train\?"),
        ("train = 3", "train must be a section with settings, got 3"),
        ("[train]\nepochs = 2.0", "train.epochs must be of type int, got 2.0"),
        ("[train]\nepochs = true", "train.epochs must be of type int, got True"),
        ("[train]\nlearning_rate = '1'", "learning_rate must be of type float, got '1'"),
        ("[preprocess]\nhair_removal = 1", "hair_removal must be of type bool, got 1"),
        ("[preprocess]\nmean = 0.5", "mean must be of type tuple, got 0.5"),
        ("[train]\nteacher = [1]", r"train.teacher must be names of files, got \(1,\)"),
        ("[train\nepochs = 1", "run.toml is malformed: "),
    ],
)
def test_an_unknown_or_mistyped_setting_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(toml(tmp_path, text))


@pytest.mark.parametrize(
    ("section", "setting", "message"),
    [
        ("preprocess", {"image_size": 31}, "image_size must be 32 to 1024, got 31"),
        ("preprocess", {"crop_fraction": 1.01}, "crop_fraction must be from 0.1 to 1, got 1.01"),
        ("preprocess", {"lesion_margin": -0.1}, "lesion_margin must be from 0 to 2, got -0.1"),
        ("preprocess", {"mean": [1, 2]}, r"mean must be three numbers, got \(1, 2\)"),
        ("preprocess", {"std": [1, 1, 0]}, r"std must be three numbers > 0, got \(1, 1, 0\)"),
        ("preprocess", {"std": ["a", "b", "c"]}, "std must be finite numbers, got"),
        ("preprocess", {"mean": [True, 1, 1]}, "mean must be finite numbers, got"),
        ("preprocess", {"mean": [float("nan")] * 3}, "mean must be finite numbers, got"),
        ("augment", {"brightness": 1}, "brightness must be from 0 to below 1, got 1"),
        ("augment", {"min_area": 0}, "min_area must be above 0, at most 1, got 0"),
        ("augment", {"max_aspect": 0.9}, "max_aspect must be at least 1, got 0.9"),
        ("augment", {"max_aspect": float("inf")}, "max_aspect must be a finite number, got inf"),
        ("augment", {"max_area": 0.9}, "max_area must be from 1 to 4, got 0.9"),
        ("augment", {"light_slope": 1}, "light_slope must be from 0 to below 1, got 1"),
        ("augment", {"gamma": -0.1}, "gamma must be from 0 to 1, got -0.1"),
        ("augment", {"colour_constancy": 1.1}, "colour_constancy must be from 0 to 1, got 1.1"),
        ("augment", {"hair": 1.5}, "hair must be from 0 to 1, got 1.5"),
        ("train", {"epochs": 0}, "epochs must be at least 1, got 0"),
        ("train", {"learning_rate": 0}, "learning_rate must be > 0, got 0"),
        ("train", {"learning_rate": float("nan")}, "learning_rate must be a finite number"),
        ("train", {"weight_decay": -1}, "weight_decay must be at least 0, got -1"),
        ("train", {"ema_decay": 1}, "ema_decay must be from 0 to below 1, got 1"),
        ("train", {"oversample": 1.5}, "oversample must be from 0 to 1, got 1.5"),
        ("train", {"workers": -2}, "workers must be -1 or more, got -2"),
        ("train", {"seed": -1}, "seed must be at least 0, got -1"),
        ("train", {"seed": 20241127120000}, r"seed must be below 2\*\*32, got 20241127120000"),
        ("train", {"focal_gamma": -1}, "focal_gamma must be at least 0, got -1"),
        ("train", {"effective_beta": 1}, "effective_beta must be from 0 to below 1, got 1"),
        ("train", {"mixup": -0.1}, "mixup must be at least 0, got -0.1"),
        ("train", {"mix_share": 1.1}, "mix_share must be from 0 to 1, got 1.1"),
        ("train", {"head_epochs": 20}, "head_epochs must be at least 0, below train.epochs, got"),
        ("train", {"layer_decay": 0}, "layer_decay must be above 0, at most 1, got 0"),
        ("train", {"curriculum_start": 0}, "curriculum_start must be above 0, at most 1, got 0"),
        ("train", {"curriculum_epochs": 0}, "curriculum_epochs must be at least 1, got 0"),
        ("train", {"distill_share": 1.1}, "distill_share must be from 0 to 1, got 1.1"),
        ("train", {"distill_temperature": 0}, "distill_temperature must be > 0, got 0"),
        ("train", {"sampler": "root"}, r"sampler must be one of \('share', 'power'\), got 'root'"),
        ("train", {"sample_power": 2}, "sample_power must be from 0 to 1, got 2"),
        ("train", {"loss": "focl"}, "loss has an unknown term 'focl'; did you mean focal"),
        ("train", {"loss": ""}, "loss has an unknown term ''; known are cross_entropy, focal"),
        ("train", {"loss": "focal+focal"}, r"loss names a term twice: 'focal\+focal'"),
        ("train", {"loss": "focal+cross_entropy"}, "loss can't have both cross_entropy and focal"),
        ("train", {"loss": "inverse+effective"}, "loss can't have both effective and inverse"),
        ("train", {"precision": "fp8"}, r"precision must be one of \('auto'.*got 'fp8'"),
    ],
)
def test_a_setting_out_of_range_is_named_with_its_section_and_range(
    section: str, setting: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=f"^{section}.{message}"):
        config_from({section: setting})


@pytest.mark.parametrize(
    "make",
    [
        lambda: PreprocessConfig(image_size=1),
        lambda: AugmentConfig(shift=1),
        lambda: TrainConfig(batch_size=0),
        lambda: Config().with_train(epochs=0),
    ],
)
def test_python_is_held_to_the_same_ranges_as_files(make: Callable[[], object]) -> None:
    with pytest.raises(ConfigError, match="must be"):
        make()


def test_json_that_is_no_section_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    path.write_text("[1]")
    with pytest.raises(ConfigError, match=r"made of sections with settings, got \[1\]"):
        load_config(path)


def test_a_missing_file_and_one_that_is_no_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"can't read .*none\.toml: No such file"):
        load_config(tmp_path / "none.toml")
    (tmp_path / "picture.toml").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(ConfigError, match=r"picture\.toml is malformed"):
        load_config(tmp_path / "picture.toml")


def test_command_line_options_that_are_not_given_change_nothing() -> None:
    config = Config().with_train(epochs=2, seed=None)
    assert config.train == TrainConfig(epochs=2)
    assert Config().with_train() == Config()


def test_a_loss_is_its_terms_in_any_order() -> None:
    assert TrainConfig().loss_terms == {"cross_entropy"}
    one = TrainConfig(loss="focal+effective+adjusted")
    assert one.loss_terms == TrainConfig(loss="adjusted+focal+effective").loss_terms


def test_lists_become_tuples_so_that_a_config_can_be_a_key() -> None:
    made = section_from(PreprocessConfig, {"mean": [0, 0, 0], "std": [1, 1, 1]}, "preprocess")
    assert made.mean == (0, 0, 0)
    assert len({made, PreprocessConfig()}) == 2


def test_a_config_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        Config().train.epochs = 3  # type: ignore[misc]
