import pytest
import torch
from torch import nn

from dermx.config import TrainConfig
from dermx.errors import ConfigError
from dermx.train.network import build_network, linear_head
from dermx.train.schedule import learning_rate_at
from dermx.train.stages import parameter_groups, staged_rate, start_stage


@pytest.fixture
def network() -> nn.Module:
    return build_network("test_efficientnet", 3, pretrained=False)


def rates(network: nn.Module, settings: TrainConfig) -> dict[str, float]:
    """Scale of the learning rate of each weight."""
    groups = parameter_groups(network, settings)
    scales = {id(p): group.get("lr_scale", 1.0) for group in groups for p in group["params"]}
    return {name: scales[id(p)] for name, p in network.named_parameters()}


def test_by_default_all_weights_learn_at_one_rate(network: nn.Module) -> None:
    groups = parameter_groups(network, TrainConfig())
    assert [set(group) for group in groups] == [{"params", "weight_decay"}] * 2
    assert set(rates(network, TrainConfig()).values()) == {1.0}


def test_each_block_learns_slower_than_the_next(network: nn.Module) -> None:
    """Stem, five blocks with one layer each but the last's pair with the head's convolution."""
    scale = rates(network, TrainConfig(layer_decay=0.5))
    assert scale["classifier.weight"] == scale["classifier.bias"] == 1
    assert scale["conv_head.weight"] == scale["blocks.4.0.conv_pw.weight"] == 0.5
    blocks = [scale[f"blocks.{i}.0.bn1.weight"] for i in range(5)]
    assert blocks == [1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2]
    assert scale["conv_stem.weight"] == scale["bn1.bias"] == 1 / 64


def test_layers_keep_their_weight_decay(network: nn.Module) -> None:
    settings = TrainConfig(layer_decay=0.5, weight_decay=0.07)
    for group in parameter_groups(network, settings):
        for weight in group["params"]:
            assert group["weight_decay"] == (0.07 if weight.ndim > 1 else 0)


def test_at_first_only_the_linear_layer_moves_then_all(network: nn.Module) -> None:
    optimizer = torch.optim.AdamW(parameter_groups(network, TrainConfig()), lr=0.1)

    def moved() -> set[str]:
        before = {k: v.clone() for k, v in network.state_dict().items()}
        network(torch.randn(4, 3, 32, 32)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        return {k for k, v in network.state_dict().items() if not torch.equal(v, before[k])}

    start_stage(network.train(), head_only=True)
    assert moved() == {"classifier.weight", "classifier.bias"}
    assert len(optimizer.state) == 2
    start_stage(network.train(), head_only=False)
    assert {"conv_stem.weight", "bn1.running_mean", "classifier.bias"} <= moved()
    assert linear_head(network).training


def test_the_first_layers_keep_what_they_were_given(network: nn.Module) -> None:
    """Their weights have no gradient, their batch normalisation counts nothing."""
    start_stage(network.train(), head_only=False, frozen_layers=2)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    optimizer = torch.optim.AdamW(parameter_groups(network, TrainConfig()), lr=0.1)
    network(torch.randn(4, 3, 32, 32)).square().sum().backward()
    optimizer.step()
    same = {k for k, v in network.state_dict().items() if torch.equal(v, before[k])}
    assert same == {k for k in before if k.startswith(("conv_stem.", "bn1.", "blocks.0."))}


def test_a_network_can_not_keep_all_its_layers(network: nn.Module) -> None:
    with pytest.raises(ConfigError, match=r"frozen_layers must be below 7, the network's layers"):
        start_stage(network, head_only=False, frozen_layers=7)


def test_each_stage_has_a_warm_up_and_a_descent_of_its_own() -> None:
    settings = TrainConfig(epochs=5, head_epochs=2, warmup=0.25, learning_rate=1.0)
    given = [staged_rate(step, per_epoch=4, settings=settings) for step in range(20)]
    head = [learning_rate_at(step, total=8, peak=1.0, warmup=0.25) for step in range(8)]
    rest = [learning_rate_at(step, total=12, peak=1.0, warmup=0.25) for step in range(12)]
    assert given == head + rest


def test_without_a_first_stage_the_rate_is_that_of_one_schedule() -> None:
    settings = TrainConfig(epochs=3)
    for step in range(12):
        whole = learning_rate_at(step, total=12, peak=settings.learning_rate, warmup=0.1)
        assert staged_rate(step, per_epoch=4, settings=settings) == whole
