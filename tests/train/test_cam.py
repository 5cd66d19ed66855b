"""Maps by autograd: equal to the closed form and to two libraries, and nothing is left behind."""

import copy
import gc

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs dermx[train]")

from dermx.errors import InputError  # noqa: E402
from dermx.explain.gradcam import class_maps, contrast_map, layer_maps  # noqa: E402
from dermx.records import View  # noqa: E402
from dermx.train.cam import METHODS, cam, last_map  # noqa: E402
from dermx.train.network import build_network  # noqa: E402

torch.set_num_threads(1)
CLASSES = 5


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    """A small network of timm with spread logits."""
    torch.manual_seed(0)
    made = build_network("mobilenetv2_035", CLASSES, pretrained=False).eval()
    with torch.no_grad():
        made.get_classifier().weight.normal_()
        for module in made.modules():  # untrained statistics would leave almost nothing alive
            if isinstance(module, torch.nn.BatchNorm2d):
                module.bias.normal_(0, 0.5)
    return made


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    return torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))


def lifted(one: np.ndarray) -> np.ndarray:
    """Libraries shift each map's least value to 0 and its highest to 1."""
    shifted = one - one.min()
    return shifted / max(float(shifted.max()), 1e-12)


def left_behind(network: torch.nn.Module) -> int:
    hooks = sum(
        len(module._forward_hooks) + len(module._backward_hooks) + len(module._forward_pre_hooks)
        for module in network.modules()
    )
    return hooks + sum(weight.grad is not None for weight in network.parameters())


def test_the_last_map_is_the_one_before_pooling(
    network: torch.nn.Module, pixels: torch.Tensor
) -> None:
    name = last_map(network, pixels)
    caught = []
    with dict(network.named_modules())[name].register_forward_hook(lambda *a: caught.append(a[2])):
        network(pixels)
    torch.testing.assert_close(caught[0], network.forward_features(pixels))


def test_on_the_last_map_it_is_the_closed_form(
    network: torch.nn.Module, pixels: torch.Tensor
) -> None:
    with torch.no_grad():
        maps = network.forward_features(pixels).numpy()
    weight = network.get_classifier().weight.detach().numpy()
    spoken = 0
    for wanted in range(CLASSES):
        ours = cam(network, pixels, wanted)
        for one, feature_map in zip(ours, maps, strict=True):
            np.testing.assert_allclose(one, class_maps(feature_map, weight)[wanted], atol=1e-5)
            spoken += one.max() == 1
        np.testing.assert_allclose(cam(network, pixels, wanted, method="hirescam"), ours, atol=1e-5)
        by_layer = cam(network, pixels, wanted, method="layercam")
        np.testing.assert_allclose(by_layer[0], layer_maps(maps[0], weight)[wanted], atol=1e-5)
    assert spoken >= CLASSES  # the comparison is not of zeros
    ours = cam(network, pixels, 1, against=3)
    np.testing.assert_allclose(ours[1], contrast_map(maps[1], weight, 1, 3), atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("layer", ["blocks.2", "blocks.4.0", "bn2"])
def test_it_agrees_with_pytorch_grad_cam_on_any_layer(
    network: torch.nn.Module, pixels: torch.Tensor, method: str, layer: str
) -> None:
    library = pytest.importorskip("pytorch_grad_cam")
    targets = pytest.importorskip("pytorch_grad_cam.utils.model_targets")
    kind = {"gradcam": "GradCAM", "hirescam": "HiResCAM", "layercam": "LayerCAM"}[method]
    module = dict(network.named_modules())[layer]
    with getattr(library, kind)(model=network, target_layers=[module]) as other:
        for wanted in (0, 3):
            ours = cam(network, pixels, wanted, layer=layer, method=method)
            other(input_tensor=pixels, targets=[targets.ClassifierOutputTarget(wanted)] * 2)
            theirs = np.maximum(  # their map before it is enlarged
                other.get_cam_image(
                    pixels, module, [targets.ClassifierOutputTarget(wanted)] * 2,
                    other.activations_and_grads.activations[0].numpy(),
                    other.activations_and_grads.gradients[0].numpy(), False,
                ),
                0,
            )  # fmt: skip
            for one, their in zip(ours, theirs, strict=True):
                np.testing.assert_allclose(lifted(one), lifted(their), atol=1e-5)


@pytest.mark.parametrize("layer", ["blocks.2", "blocks.4.0", "bn2"])
def test_it_agrees_with_captum(network: torch.nn.Module, pixels: torch.Tensor, layer: str) -> None:
    captum = pytest.importorskip("captum.attr")
    module = dict(network.named_modules())[layer]
    for wanted in (1, 4):
        theirs = captum.LayerGradCam(network, module).attribute(
            pixels, target=wanted, relu_attributions=True
        )
        product = captum.LayerGradientXActivation(network, module).attribute(pixels, target=wanted)
        hires = torch.relu(product.sum(dim=1))
        for i in range(2):
            ours = cam(network, pixels, wanted, layer=layer)[i]
            np.testing.assert_allclose(
                lifted(ours), lifted(theirs[i, 0].detach().numpy()), atol=1e-5
            )
            ours = cam(network, pixels, wanted, layer=layer, method="hirescam")[i]
            np.testing.assert_allclose(lifted(ours), lifted(hires[i].detach().numpy()), atol=1e-5)


@pytest.fixture(scope="module")
def channels_last() -> torch.nn.Module:
    torch.manual_seed(0)
    made = build_network("mambaout_femto", CLASSES, pretrained=False).eval()
    torch.nn.init.normal_(made.get_classifier().weight)
    return made


@pytest.mark.parametrize("method", METHODS)
def test_a_channels_last_network_is_mapped_over_its_cells_as_defined(
    channels_last: torch.nn.Module, pixels: torch.Tensor, method: str
) -> None:
    maps = channels_last.forward_features(pixels).detach().requires_grad_()  # (2, 2, 3, 288)
    spoken = 0
    for wanted in range(CLASSES):
        score = channels_last.forward_head(maps)[:, wanted].sum()
        (gradient,) = torch.autograd.grad(score, maps)
        weight = {
            "gradcam": gradient.mean(dim=(1, 2), keepdim=True),
            "hirescam": gradient,
            "layercam": gradient.clamp(min=0),
        }[method]
        defined = (weight * maps).sum(dim=3).clamp(min=0).detach()
        peaks = defined.amax(dim=(1, 2), keepdim=True).clamp(min=1e-12)
        found = cam(channels_last, pixels, wanted, method=method)
        assert found.shape == (2, 2, 3)
        np.testing.assert_allclose(found, defined / peaks, atol=1e-5)
        spoken += int((found.max(axis=(1, 2)) == 1).sum())
    assert spoken >= CLASSES  # the comparison is not of zeros
    assert left_behind(channels_last) == 0


@pytest.mark.parametrize("method", METHODS)
def test_a_convolution_in_a_channels_last_network_has_its_channels_first(
    pixels: torch.Tensor, method: str
) -> None:
    class Turned(torch.nn.Module):
        output_fmt = "NHWC"

        def __init__(self) -> None:
            super().__init__()
            self.conv, self.last = torch.nn.Conv2d(3, 4, 3), torch.nn.Identity()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(self.conv(x).permute(0, 2, 3, 1)).mean((1, 2))

    turned = Turned()
    found = cam(turned, pixels, 0, layer="conv", method=method)
    assert found.any()
    np.testing.assert_array_equal(found, cam(turned, pixels, 0, layer="last", method=method))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [(64, 96), (64, 64), (70, 50)])
def test_a_layer_inside_a_convnext_block_has_its_channels_last(
    size: tuple[int, int], method: str
) -> None:
    class Block(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 5, 4, 4, padding=2)
            self.norm, self.mlp, self.out = (
                torch.nn.LayerNorm(5), torch.nn.Linear(5, 5), torch.nn.Identity()
            )  # fmt: skip

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            turned = self.mlp(self.norm(self.conv(x).permute(0, 2, 3, 1)))
            return self.out(turned.permute(0, 3, 1, 2)).square().mean((2, 3))

    torch.manual_seed(0)
    block, picture = Block(), torch.randn(2, 3, *size)
    found = cam(block, picture, 0, layer="mlp", method=method)
    assert found.any()
    np.testing.assert_array_equal(found, cam(block, picture, 0, layer="out", method=method))
    convnext = build_network("test_convnext", CLASSES, pretrained=False)
    for layer in ("norm", "mlp", "mlp.act", "conv_dw"):
        found = cam(convnext, picture, 0, layer=f"stages.0.blocks.0.{layer}", method=method)
        assert found.shape == (2, size[0] // 4, size[1] // 4)


def test_one_cell_of_many_channels_is_no_map(
    channels_last: torch.nn.Module, pixels: torch.Tensor
) -> None:
    small = pixels[:, :, :32, :32]  # the last stage gives (1, 1, 288)
    assert last_map(channels_last, small).startswith("stages.2")


def test_a_layer_worked_by_hand() -> None:
    """Two channels of 1 x 2 cells; the class takes 3 of the first's left cell less the second's."""

    class Weighted(torch.nn.Module):
        def forward(self, maps: torch.Tensor) -> torch.Tensor:
            score = 3 * maps[:, 0, 0, 0] - maps[:, 1, 0, 0] + maps[:, 1, 0, 1]
            return torch.stack([score, -score], dim=1)

    hand = torch.nn.Sequential(torch.nn.Identity(), Weighted())
    maps = torch.tensor([[[[2.0, 4.0]], [[1.0, 5.0]]]])
    # derivatives: first channel (3, 0), second (-1, 1); their means 1.5 and 0
    assert cam(hand, maps, 0, layer="0").tolist() == [[[0.5, 1.0]]]  # 1.5 * (2, 4)
    assert cam(hand, maps, 0, layer="0", method="hirescam").tolist() == [[[1.0, 1.0]]]  # (5, 5)
    by_layer = cam(hand, maps, 0, layer="0", method="layercam")  # (6 + 0, 0 + 5)
    np.testing.assert_allclose(by_layer, [[[1.0, 5 / 6]]], atol=1e-6)


def test_what_speaks_for_one_class_over_another_never_speaks_the_other_way(
    network: torch.nn.Module, pixels: torch.Tensor
) -> None:
    there, back = cam(network, pixels, 0, against=2), cam(network, pixels, 2, against=0)
    assert not (there * back).any()
    assert there.any() or back.any()


def test_nothing_is_left_behind_after_a_run_an_error_or_a_wrong_class(
    network: torch.nn.Module, pixels: torch.Tensor
) -> None:
    network = copy.deepcopy(network)
    network.zero_grad()  # the libraries above write the parameters' gradients
    cam(network, pixels, 0)
    assert left_behind(network) == 0
    with pytest.raises(InputError, match="no class 9; the network has 0 to 4"):
        cam(network, pixels, 9)
    with pytest.raises(InputError, match="no class -1"):
        cam(network, pixels, -1)
    with pytest.raises(InputError, match="can't be compared with itself, got 1 twice"):
        cam(network, pixels, 1, against=1)
    with pytest.raises(InputError, match=r"no layer 'blocks.99'; layers are blocks"):
        cam(network, pixels, 0, layer="blocks.99")
    with pytest.raises(InputError, match=r"no layer ''; layers are conv_stem, "):
        cam(network, pixels, 0, layer="")
    with pytest.raises(InputError, match=r"layer classifier gives \(2, 5\), need a feature map"):
        cam(network, pixels, 0, layer="classifier")
    with pytest.raises(InputError, match="no method 'magic'; known are gradcam"):
        cam(network, pixels, 0, method="magic")  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="channels"):
        cam(network, pixels[:, :2], 0)
    assert left_behind(network) == 0
    assert not any(module.training for module in network.modules())


def test_a_network_in_training_is_left_in_training(pixels: torch.Tensor) -> None:
    made = build_network("mobilenetv2_035", CLASSES, pretrained=False)
    made.train()
    made.blocks[0].eval()
    before = {name: value.clone() for name, value in made.state_dict().items()}
    modes = [module.training for module in made.modules()]
    cam(made, pixels, 0)
    assert [module.training for module in made.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())


def test_a_layer_that_runs_twice_is_refused(pixels: torch.Tensor) -> None:
    class Twice(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Conv2d(3, 3, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(self.layer(x)).mean((2, 3))

    with pytest.raises(InputError, match="layer layer ran 2 times in one pass"):
        cam(Twice(), pixels, 0)


def test_what_has_no_feature_map_is_refused(pixels: torch.Tensor) -> None:
    flat = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 64 * 96, 4))
    with pytest.raises(InputError, match="Sequential has no layer that gives a feature map"):
        cam(flat, pixels, 0)
    timm = pytest.importorskip("timm")  # the heads of whose attention have four axes as well
    tokens = timm.create_model("vit_tiny_patch16_224", img_size=(64, 96), depth=1, num_classes=4)
    with pytest.raises(InputError, match="VisionTransformer has no layer that gives a feature map"):
        cam(tokens, pixels, 0)


def test_a_thousand_calls_leave_no_tensor_and_no_memory() -> None:
    torch.manual_seed(0)
    small = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(inplace=True), torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(), torch.nn.Linear(8, 4),
    )  # fmt: skip
    picture = torch.randn(1, 3, 64, 64)

    def resident() -> int:
        with open("/proc/self/statm") as file:  # noqa: PTH123 - a file of the kernel
            return int(file.read().split()[1]) * 4096

    def tensors() -> int:
        gc.collect()
        return sum(type(thing) in (torch.Tensor, torch.nn.Parameter) for thing in gc.get_objects())

    for _ in range(50):
        cam(small, picture, 0)
    gc.disable()  # so that a cycle that only the collector could end would show
    try:
        alive, memory = tensors(), resident()
        for call in range(1000):
            cam(small, picture, call % 4, method=METHODS[call % 3])
        assert resident() - memory < 8 * 2**20  # one call's map and gradient take 0.25 MiB
    finally:
        gc.enable()
    assert tensors() == alive


@pytest.mark.parametrize(("height", "width"), [(60, 200), (200, 60), (97, 131)])
def test_the_map_of_a_picture_of_any_shape_lands_on_what_raised_the_logit(
    height: int, width: int
) -> None:
    """A network that sums brightness; one bright spot, off the middle."""
    bright = torch.nn.Sequential(
        torch.nn.AvgPool2d(10, ceil_mode=True), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
    )
    picture = torch.zeros(1, 3, height, width)
    top, left = height // 4, 3 * width // 4
    picture[:, 0, top - 5 : top + 5, left - 5 : left + 5] = 1
    (found,) = cam(bright, picture, 0, layer="0")
    heat = View().paste(found, (height, width))
    peak = np.unravel_index(int(heat.argmax()), heat.shape)
    assert abs(int(peak[0]) - top) <= 10
    assert abs(int(peak[1]) - left) <= 10
