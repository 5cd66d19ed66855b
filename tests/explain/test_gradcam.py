"""The closed form is Grad-CAM: by hand, by automatic differentiation, by another library."""

import copy
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dermx.errors import InputError
from dermx.explain.gradcam import (
    class_maps,
    contrast_map,
    evidence,
    layer_maps,
    odds_maps,
)
from dermx.preprocess.views import align

CLASSES, CHANNELS, SIDE = 8, 12, 7


def test_one_channel_worked_by_hand() -> None:
    bright = np.float32([[[0, 1], [2, 4]]])
    for_it, against_it = class_maps(bright, np.float32([[2], [-1]]))
    assert for_it.tolist() == [[0, 0.25], [0.5, 1]]
    assert against_it.tolist() == [[0, 0], [0, 0]]


def test_two_channels_worked_by_hand() -> None:
    channels = np.float32([[[1, 0], [0, 2]], [[0, 3], [0, 1]]])
    # 2 * first - second: [[2, -3], [0, 3]]; negative cells count as nothing, then over 3
    (one,) = class_maps(channels, np.float32([[2, -1]]))
    np.testing.assert_allclose(one, [[2 / 3, 0], [0, 1]], atol=1e-6)


small = st.floats(-4, 4, width=32)


@given(arrays(np.float32, (3, 2, 2), elements=small), arrays(np.float32, (4, 3), elements=small))
@settings(max_examples=100, deadline=None)
def test_maps_lie_between_0_and_1_and_reach_1_or_are_nothing(
    feature_map: np.ndarray, weight: np.ndarray
) -> None:
    maps = class_maps(feature_map, weight)
    assert maps.dtype == np.float32
    assert np.isfinite(maps).all()
    for one in maps:
        assert one.min() >= 0
        assert one.max() in (0, 1)


def test_positive_scale_changes_nothing_and_a_sign_turns_the_map_over() -> None:
    rng = np.random.default_rng(0)
    feature_map = rng.normal(size=(5, 3, 3)).astype(np.float32)
    weight = rng.normal(size=(4, 5)).astype(np.float32)
    maps = class_maps(feature_map, weight)
    np.testing.assert_allclose(class_maps(8 * feature_map, weight), maps, atol=1e-6)
    turned = class_maps(feature_map, -weight)
    assert not (maps * turned).any()  # what speaks for a class never speaks against it
    assert ((maps + turned) > 0).all()


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match=r"got \(3, 2, 2\) and \(8, 4\)"):
        class_maps(np.zeros((3, 2, 2), np.float32), np.zeros((8, 4), np.float32))
    with pytest.raises(InputError, match=r"map of one picture, \(c, h, w\), got \(1, 4, 2, 2\)"):
        class_maps(np.zeros((1, 4, 2, 2), np.float32), np.zeros((8, 4), np.float32))


def small_network() -> tuple[object, object, object]:
    """Two convolutions, pooling, one linear layer; and a picture that its maps are as large as."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(3)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 6, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.Conv2d(6, CHANNELS, 3, padding=1),
        torch.nn.ReLU6(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(CHANNELS, CLASSES),
    ).eval()
    return torch, network, torch.randn(1, 3, SIDE, SIDE)


def ours(network: object, picture: object) -> np.ndarray:
    feature_map = network[:4](picture)[0].detach().numpy()
    return class_maps(feature_map, network[-1].weight.detach().numpy())


def test_it_is_grad_cam_by_automatic_differentiation() -> None:
    torch, network, picture = small_network()
    maps = ours(network, picture)
    for target in range(CLASSES):
        activations = network[:4](picture).detach().requires_grad_()
        network[4:](activations)[0, target].backward()
        alpha = activations.grad.mean(dim=(2, 3), keepdim=True)  # Selvaraju et al., equation 1
        cam = torch.relu((alpha * activations).sum(dim=1))[0]  # equation 2
        cam = (cam / cam.max().clamp(min=1e-12)).detach().numpy()
        np.testing.assert_allclose(maps[target], cam, atol=1e-5)
    assert sum(one.max() == 1 for one in maps) >= 3  # the comparison is not of zeros


def test_it_agrees_with_pytorch_grad_cam() -> None:
    library = pytest.importorskip("pytorch_grad_cam")
    targets = pytest.importorskip("pytorch_grad_cam.utils.model_targets")
    _, network, picture = small_network()
    maps = ours(network, picture)
    with library.GradCAM(model=network, target_layers=[network[3]]) as cam:
        for target in range(CLASSES):
            theirs = cam(input_tensor=picture, targets=[targets.ClassifierOutputTarget(target)])[0]
            # The library also lifts the smallest value to 0, which the definition does not.
            lifted = maps[target] - maps[target].min()
            np.testing.assert_allclose(lifted / max(lifted.max(), 1e-12), theirs, atol=1e-5)


@given(
    arrays(np.float32, (3, 2, 4), elements=small),
    arrays(np.float32, (4, 3), elements=small),
    arrays(np.float32, (4,), elements=small),
)
@settings(max_examples=50)
def test_a_logit_is_the_mean_evidence_plus_the_bias(
    feature_map: np.ndarray, weight: np.ndarray, bias: np.ndarray
) -> None:
    logits = weight @ feature_map.mean(axis=(1, 2)) + bias
    found = evidence(feature_map, weight).mean(axis=(1, 2)) + bias
    np.testing.assert_allclose(found, logits, atol=1e-4)


def test_a_contrast_is_what_two_classes_do_not_share() -> None:
    shared_and_own = np.float32([[[4, 4]], [[0, 2]]])  # one channel for both classes, one for one
    weight = np.float32([[1, 1], [1, 0], [0, -1]])
    assert contrast_map(shared_and_own, weight, 0, 1).tolist() == [[0, 1]]
    assert contrast_map(shared_and_own, weight, 1, 0).tolist() == [[0, 0]]
    with pytest.raises(InputError, match="two different classes of 0 to 2, got 1 and 1"):
        contrast_map(shared_and_own, weight, 1, 1)
    with pytest.raises(InputError, match="got 0 and 3"):
        contrast_map(shared_and_own, weight, 0, 3)


def test_layer_cam_leaves_out_what_speaks_against() -> None:
    channels = np.float32([[[1, 0], [0, 2]], [[0, 3], [0, 1]]])
    (one,) = layer_maps(channels, np.float32([[2, -1]]))
    assert one.tolist() == [[0.5, 0], [0, 1]]  # only the first channel counts


def agree_with_the_library(maps: np.ndarray, network: Any, layer: Any, picture: Any) -> None:
    """Each class's map of its log-odds, between 0 and 1, is pytorch-grad-cam's at that layer."""
    import torch
    from pytorch_grad_cam import GradCAM

    with GradCAM(model=network, target_layers=[layer]) as cam:
        for target in range(CLASSES):
            others = torch.arange(CLASSES) != target
            theirs = cam(
                input_tensor=picture,
                targets=[lambda z, k=target, rest=others: z[k] - z[rest].logsumexp(dim=0)],
            )[0]
            lifted = maps[target] - maps[target].min()
            np.testing.assert_allclose(lifted / max(lifted.max(), 1e-12), theirs, atol=1e-5)


def test_the_map_of_the_log_odds_agrees_with_pytorch_grad_cam() -> None:
    pytest.importorskip("pytorch_grad_cam")
    _, network, picture = small_network()
    feature_map = network[:4](picture).detach().numpy()
    weight = network[-1].weight.detach().numpy()
    maps = odds_maps(evidence(feature_map, weight), network(picture)[0].detach().numpy())
    agree_with_the_library(maps, network, network[3], picture)


def test_one_networks_map_for_the_answer_of_two_is_grad_cam_at_its_last_layer() -> None:
    pytest.importorskip("pytorch_grad_cam")
    torch, first, picture = small_network()
    second = copy.deepcopy(first)
    for parameter in second.parameters():
        torch.nn.init.normal_(parameter, std=0.5)

    class Both(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = first, second

        def forward(self, pixels: object) -> object:
            return (2 * self.first(pixels) + self.second(pixels)) / 3

    both = Both().eval()
    logits = both(picture)[0].detach().numpy()
    weight = 2 / 3 * first[-1].weight.detach().numpy()
    maps = odds_maps(evidence(first[:4](picture).detach().numpy(), weight), logits)
    agree_with_the_library(maps, both, first[3], picture)


def test_the_map_of_eight_views_is_that_of_their_mean_turned_back() -> None:
    rng = np.random.default_rng(0)
    views = rng.normal(size=(8, CHANNELS, SIDE, SIDE)).astype(np.float32)
    weight = rng.normal(size=(CLASSES, CHANNELS)).astype(np.float32)
    logits = rng.normal(size=CLASSES).astype(np.float32)
    of_mean = odds_maps(evidence(align(views).mean(axis=0)[None], weight), logits)
    np.testing.assert_allclose(odds_maps(evidence(views, weight), logits), of_mean, atol=1e-5)


def test_what_all_classes_share_is_not_on_the_map_that_people_are_shown() -> None:
    rng = np.random.default_rng(1)
    feature_map = rng.random((1, CHANNELS, SIDE, SIDE)).astype(np.float32)
    weight = rng.normal(size=(CLASSES, CHANNELS)).astype(np.float32)
    shared = weight + rng.normal(size=CHANNELS).astype(np.float32)
    one, other = (
        odds_maps(evidence(feature_map, rows), feature_map[0].mean(axis=(1, 2)) @ rows.T)
        for rows in (weight, shared)
    )
    np.testing.assert_allclose(one, other, atol=1e-4)
