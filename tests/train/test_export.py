from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnxruntime.quantization.shape_inference import quant_pre_process
from timm.layers import Conv2dSame

from dermx.errors import BundleError
from dermx.model.runtime import linear
from dermx.train.export import TOLERANCE, head_arrays, largest_difference, to_onnx
from dermx.train.network import build_network


def run(network: bytes, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    session = onnxruntime.InferenceSession(network, providers=["CPUExecutionProvider"])
    feature_map, features = session.run(["map", "features"], {"pixels": inputs})
    return feature_map, features


@pytest.mark.parametrize("architecture", ["test_efficientnet", "mobilenetv2_035", "resnet10t"])
def test_the_export_answers_as_pytorch_does(architecture: str) -> None:
    torch.manual_seed(0)
    network = build_network(architecture, 8, pretrained=False)
    inputs = np.random.default_rng(0).normal(size=(5, 3, 64, 64)).astype(np.float32)
    feature_map, features = run(to_onnx(network, 64), inputs)
    np.testing.assert_allclose(features, feature_map.mean((2, 3)), atol=1e-5)
    logits = linear(features, *head_arrays(network))
    assert largest_difference(network, [(inputs[:2], logits[:2]), (inputs[2:], logits[2:])]) < (
        TOLERANCE
    )


@pytest.mark.parametrize("side", [64, 75])
def test_padding_that_depends_on_the_size_is_computed_once(side: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = build_network("tf_efficientnet_lite0", 8, pretrained=False)
    exported = to_onnx(network, side)
    (tmp_path / "given.onnx").write_bytes(exported)
    quant_pre_process(tmp_path / "given.onnx", tmp_path / "plain.onnx", skip_symbolic_shape=True)
    kinds = {node.op_type for node in onnx.load(tmp_path / "plain.onnx").graph.node}
    assert kinds == {"Conv", "Clip", "Add", "ReduceMean"}
    inputs = np.random.default_rng(0).normal(size=(3, 3, side, side)).astype(np.float32)
    logits = linear(run(exported, inputs)[1], *head_arrays(network))
    assert largest_difference(network, [(inputs, logits)]) < TOLERANCE
    assert any(isinstance(module, Conv2dSame) for module in network.modules())  # left as it was


def test_a_wrong_answer_is_measured() -> None:
    network = build_network("test_efficientnet", 8, pretrained=False)
    inputs = np.zeros((1, 3, 64, 64), np.float32)
    with torch.no_grad():
        logits = network.eval()(torch.from_numpy(inputs)).numpy()
    logits[0, 3] += 0.25
    assert largest_difference(network, [(inputs, logits)]) == pytest.approx(0.25)


def test_a_network_that_does_more_than_pool_is_refused() -> None:
    network = build_network("test_convnext", 8, pretrained=False)  # a norm follows the pooling
    torch.nn.init.uniform_(network.head.norm.bias)
    with pytest.raises(BundleError, match="does more than average its map"):
        to_onnx(network, 64)
