"""How does a trained network leave PyTorch, and is it still the same network?

ONNX for the part up to the feature map and its mean; the linear layer goes beside it as arrays.
"""

import tempfile
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32
from torch import nn

from dermx.errors import BundleError
from dermx.train.network import MapAndFeatures, linear_head

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
    with torch.no_grad():
        _, features = trunk(example + 0.5)
        pooled = network.forward_head(network.forward_features(example + 0.5), pre_logits=True)  # type: ignore[operator]
    if features.shape != pooled.shape or not torch.allclose(features, pooled, atol=1e-5):
        raise BundleError(
            f"{type(network).__name__} does more than average its map before the linear layer; "
            "choose a network that ends in global average pooling"
        )
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
