"""How does a trained network leave PyTorch, and is it still the same network?

ONNX for the part up to the feature map and its mean; the linear layer goes beside it as arrays.
"""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from dermx.errors import BundleError
from dermx.train.network import MapAndFeatures, linear_head

if TYPE_CHECKING:
    from jaxtyping import Float, Float32

TOLERANCE = 1e-4  # largest difference of a logit between PyTorch and ONNX Runtime


def to_onnx(network: nn.Module, image_size: int) -> bytes:
    """Export the network without its linear layer.

    Returns:
        An ONNX model: "pixels" float32 (n, 3, s, s) to "map" (n, c, h, w) and "features" (n, c).

    Raises:
        BundleError: The features are not the mean of the map, so the closed forms don't hold.
    """
    trunk = MapAndFeatures(network.cpu().eval().to(memory_format=torch.contiguous_format))
    example = torch.zeros(2, 3, image_size, image_size)
    require_pooling(network, example + 0.5)
    trunk = _with_fixed_padding(trunk, example)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        file = Path(folder) / "network.onnx"
        warnings.simplefilter("ignore")  # the exporter's own deprecations are not the user's
        torch.onnx.export(
            trunk,
            (example,),
            file,
            input_names=["pixels"],
            output_names=["map", "features"],
            dynamic_axes={"pixels": {0: "n"}, "map": {0: "n"}, "features": {0: "n"}},
            opset_version=17,
            dynamo=False,  # folds BatchNorm into the convolutions and needs no further package
        )
        return file.read_bytes()


@torch.no_grad()
def require_pooling(network: nn.Module, pixels: Float[Tensor, "b 3 s s"]) -> None:
    """See that a network, in evaluation mode, only averages its map before the linear layer.

    Raises:
        BundleError: It does more, so the closed forms don't hold.
    """
    feature_map = network.forward_features(pixels)  # type: ignore[operator]
    pooled = network.forward_head(feature_map, pre_logits=True)  # type: ignore[operator]
    features = feature_map.mean((2, 3)) if feature_map.ndim == 4 else feature_map
    if features.shape != pooled.shape or not torch.allclose(features, pooled, atol=1e-5):
        raise BundleError(
            f"{type(network).__name__} does more than average its map before the linear layer; "
            "choose a network that ends in global average pooling"
        )


@torch.no_grad()
def _with_fixed_padding(trunk: MapAndFeatures, example: Tensor) -> MapAndFeatures:
    """Compute TensorFlow's "same" padding once, for inputs of this size.

    In EfficientNets of that origin it depends on the size, which would be a dozen operations on
    shapes before each of these convolutions, and keep it from being quantised as one.
    """
    from timm.layers import Conv2dSame, get_same_padding  # type: ignore[attr-defined]

    if not any(isinstance(module, Conv2dSame) for module in trunk.modules()):
        return trunk
    fixed = copy.deepcopy(trunk)
    found = {n: m for n, m in fixed.named_modules() if isinstance(m, Conv2dSame)}
    sides: dict[str, torch.Size] = {}

    def watched(name: str) -> Callable[[nn.Module, tuple[Tensor]], None]:
        return lambda module, given: sides.update({name: given[0].shape[2:]})

    hooks = [module.register_forward_pre_hook(watched(name)) for name, module in found.items()]
    fixed(example)
    for hook in hooks:
        hook.remove()
    for name, module in found.items():
        kinds = zip(sides[name], module.kernel_size, module.stride, module.dilation, strict=True)
        tall, wide = (get_same_padding(*kind) for kind in kinds)
        plain = nn.Conv2d(
            module.in_channels, module.out_channels, module.kernel_size,  # type: ignore[arg-type]
            stride=module.stride, dilation=module.dilation, groups=module.groups,  # type: ignore[arg-type]
            bias=module.bias is not None,
        )  # fmt: skip
        plain.load_state_dict(module.state_dict())
        around = (wide // 2, wide - wide // 2, tall // 2, tall - tall // 2)
        fixed.set_submodule(name, nn.Sequential(nn.ZeroPad2d(around), plain))
    return fixed.eval()


def head_arrays(
    network: nn.Module,
) -> tuple[Float32[np.ndarray, "classes c"], Float32[np.ndarray, " classes"]]:
    """Return the linear layer's weight and bias."""
    head = linear_head(network)
    return head.weight.detach().cpu().numpy().copy(), head.bias.detach().cpu().numpy().copy()


@torch.no_grad()
def largest_difference(
    network: nn.Module,
    batches: Iterable[tuple[Float32[np.ndarray, "b 3 s s"], Float32[np.ndarray, "b classes"]]],
) -> float:
    """Compare PyTorch's logits with those of another runtime.

    Args:
        network: The whole network.
        batches: Inputs, each with the logits that the other runtime gave for them.

    Returns:
        The largest absolute difference of any logit.
    """
    network.eval()
    return max(
        float(np.abs(network(torch.from_numpy(inputs)).numpy() - logits).max())
        for inputs, logits in batches
    )
