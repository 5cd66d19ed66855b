from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import save_file

from dermx.config import Config, PreprocessConfig
from dermx.errors import BundleError, ConfigError, DataError
from dermx.train.check import check_training
from dermx.train.network import build_network


def test_what_trains_and_exports_is_let_through(config: Config) -> None:
    check_training(config, 8, pretrained=False)


def test_a_network_that_can_not_be_exported_is_refused_before_it_is_trained(
    config: Config,
) -> None:
    for name in ("test_convnext", "test_vit"):  # a norm behind the mean; tokens instead of a map
        wanted = config.with_train(architecture=name)
        with pytest.raises(BundleError, match="does more than average its map"):
            check_training(wanted, 8, pretrained=False)


def test_a_size_that_the_network_does_not_take_is_refused_with_its_own_words(
    config: Config,
) -> None:
    wanted = replace(config, preprocess=PreprocessConfig(image_size=64))
    message = r"test_vit3 can't be trained on 64 pixels: .*64\) doesn't match model \(160\)"
    with pytest.raises(ConfigError, match=message):
        check_training(wanted.with_train(architecture="test_vit3"), 8, pretrained=False)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"precision": "fp16"}, "fp16 needs a CUDA device"),
        ({"architecture": "mobilenetv2_10"}, "timm has no network 'mobilenetv2_10'"),
        ({"frozen_layers": 99}, r"train.frozen_layers must be below \d+, .* got 99"),
    ],
)
def test_what_training_would_refuse_after_decoding_is_refused_at_once(
    config: Config, setting: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        check_training(config.with_train(**setting), 8, pretrained=False)


def test_starting_weights_of_another_network_are_refused(config: Config, tmp_path: Path) -> None:
    weights = build_network("test_resnet", 8, pretrained=False).state_dict()
    save_file({k: v.contiguous() for k, v in weights.items()}, tmp_path / "init.safetensors")
    with pytest.raises(DataError, match=r"init\.safetensors does not fit the network"):
        check_training(config, 8, init=tmp_path / "init.safetensors")
