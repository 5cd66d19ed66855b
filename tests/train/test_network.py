import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from dermx.errors import ConfigError, DataError
from dermx.preprocess.normalize import normalize
from dermx.train import network as module
from dermx.train.network import (
    MapAndFeatures,
    Standardize,
    build_network,
    choose_precision,
    linear_head,
)

TINY = "test_efficientnet"
CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_starting_weights_are_copied_but_for_the_linear_layer(tmp_path: Path) -> None:
    thousand = build_network(TINY, 1000, pretrained=False)
    halves = {key: value.half() for key, value in thousand.state_dict().items()}
    save_file({k: v.contiguous() for k, v in halves.items()}, tmp_path / "init.safetensors")
    eight = build_network(TINY, 8, init=tmp_path / "init.safetensors")
    own = eight.state_dict()
    assert linear_head(eight).weight.shape[0] == 8
    for key, value in halves.items():
        if "classifier" not in key:
            assert torch.equal(own[key], value.to(own[key].dtype)), key
    assert own["conv_stem.weight"].dtype == torch.float32


def test_the_weights_of_an_earlier_run_bring_their_linear_layer(tmp_path: Path) -> None:
    before = build_network(TINY, 8, pretrained=False)
    weights = {key: value.contiguous() for key, value in before.state_dict().items()}
    save_file(weights, tmp_path / "best.safetensors")
    after = build_network(TINY, 8, init=tmp_path / "best.safetensors").state_dict()
    assert all(torch.equal(after[key], value) for key, value in weights.items())


def test_the_first_loss_is_that_of_guessing() -> None:
    torch.manual_seed(0)
    network = build_network("mobilenetv2_100", 8, pretrained=False).eval()
    with torch.no_grad():
        logits = network(torch.randn(4, 3, 64, 64))
    loss = nn.functional.cross_entropy(logits, torch.arange(4))
    assert loss.item() == pytest.approx(np.log(8), abs=0.5)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    save_file({"conv_stem.weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(DataError, match=r"other\.safetensors does not fit .* weights missing"):
        build_network(TINY, 8, init=tmp_path / "other.safetensors")


def test_missing_and_damaged_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no weights at .*none\.safetensors"):
        build_network(TINY, 8, init=tmp_path / "none.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"\x00" * 40)
    with pytest.raises(DataError, match=r"bad\.safetensors is not a safetensors file"):
        build_network(TINY, 8, init=tmp_path / "bad.safetensors")


def test_an_unknown_architecture_names_near_ones() -> None:
    with pytest.raises(ConfigError, match=r"no network 'mobilenetv2_10'; near are mobilenetv2_035"):
        build_network("mobilenetv2_10", 8)


def test_without_internet_the_error_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    def offline(*_: object, pretrained: bool, **__: object) -> nn.Module:
        raise OSError("no route to host")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(ConfigError, match=r"can't download ImageNet weights .* with --init FILE"):
        build_network("mobilenetv2_100", 8)


def test_the_device_standardizes_as_numpy_does() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 7, 7, 3), dtype=np.uint8)
    mean, std = (0.1, 0.5, 0.9), (0.2, 0.3, 0.4)
    ours = Standardize(mean, std)(torch.from_numpy(pixels))
    np.testing.assert_allclose(ours.numpy(), normalize(pixels, mean, std), atol=2e-6)
    assert ours.is_contiguous(memory_format=torch.channels_last)


def test_map_and_features_give_the_networks_own_logits() -> None:
    network = build_network(TINY, 8, pretrained=False).eval()
    inputs = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        feature_map, features = MapAndFeatures(network)(inputs)
        head = linear_head(network)
        logits = features @ head.weight.T + head.bias
        torch.testing.assert_close(logits, network(inputs))
    assert feature_map.shape[:2] == features.shape


@pytest.mark.parametrize(
    ("device", "able", "expected"),
    [(CUDA, False, "fp16"), (CPU, True, "bf16"), (CPU, False, "fp32")],
)
def test_auto_precision_follows_the_hardware(
    device: torch.device, able: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "cpu_has_bf16", lambda: able)
    assert choose_precision("auto", device) == expected


def test_a_given_precision_is_kept_and_fp16_on_a_cpu_is_refused() -> None:
    assert choose_precision("bf16", CUDA) == "bf16"
    with pytest.raises(ConfigError, match=re.escape("fp16 needs a CUDA device")):
        choose_precision("fp16", CPU)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_half_precision_step_on_the_gpu_lowers_the_loss() -> None:
    network = build_network(TINY, 8, pretrained=False).to(CUDA)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    scaler = torch.amp.GradScaler()
    inputs, labels = torch.randn(8, 3, 64, 64, device=CUDA), torch.arange(8, device=CUDA)
    losses = []
    for _ in range(10):
        with torch.autocast("cuda", torch.float16):
            loss = nn.functional.cross_entropy(network(inputs), labels)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
