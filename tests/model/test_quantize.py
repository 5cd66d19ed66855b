import numpy as np
import onnxruntime
import pytest

pytest.importorskip("torch", reason="exporting needs dermx[train]")

from dermx.errors import InputError
from dermx.model.quantize import FLOAT_LAYERS, dequantized, quantize


@pytest.fixture(scope="module")
def inputs() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(40, 3, 64, 64)).astype(np.float32)


def features(network: bytes, inputs: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(network, providers=["CPUExecutionProvider"])
    feature_map, means = session.run(["map", "features"], {"pixels": inputs})
    np.testing.assert_allclose(means, feature_map.mean((2, 3)), atol=1e-5)
    return means


def weight_types(network: bytes) -> list[int]:
    """Types of the convolutions' weights, in their order."""
    import onnx

    graph = onnx.load_model_from_string(network).graph
    stored = {tensor.name: tensor.data_type for tensor in graph.initializer}
    behind = {node.output[0]: node.input[0] for node in graph.node if "Dequant" in node.op_type}
    return [
        stored[behind.get(node.input[1], node.input[1])]
        for node in graph.node
        if node.op_type == "Conv"
    ]


def test_the_small_network_answers_nearly_alike(network: bytes, inputs: np.ndarray) -> None:
    small = quantize(network, inputs)
    before, after = features(network, inputs), features(small, inputs)
    assert np.corrcoef(before.ravel(), after.ravel())[0, 1] > 0.98
    assert len(small) < 0.5 * len(network)


def test_all_but_the_first_convolutions_are_8_bit(network: bytes, inputs: np.ndarray) -> None:
    from onnx import TensorProto

    types = weight_types(quantize(network, inputs[:20], float_layers=3))
    assert types[:3] == [TensorProto.FLOAT] * 3
    assert set(types[3:]) == {TensorProto.INT8}


def test_leaving_more_in_floating_point_is_nearer(network: bytes, inputs: np.ndarray) -> None:
    before = features(network, inputs)
    error = [
        np.abs(features(quantize(network, inputs, float_layers=n), inputs) - before).mean()
        for n in (0, 20, 99)
    ]
    assert error[0] > error[1] > error[2]


def test_biases_make_up_for_what_rounding_shifts(
    network: bytes, inputs: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = features(network, inputs)
    corrected = features(quantize(network, inputs, float_layers=0), inputs)
    monkeypatch.setattr("dermx.model.quantize._correct_biases", lambda *_: None)
    rounded = features(quantize(network, inputs, float_layers=0), inputs)
    shift = [np.abs((after - before).mean(axis=0)).mean() for after in (corrected, rounded)]
    assert shift[0] < 0.4 * shift[1]
    assert np.square(corrected - before).mean() < np.square(rounded - before).mean()


def test_what_is_in_integers_already_is_refused(network: bytes, inputs: np.ndarray) -> None:
    small = quantize(network, inputs[:4])
    with pytest.raises(InputError, match="the network is in 8-bit integers already"):
        quantize(small, inputs[:4])


def test_a_convolution_without_a_bias_is_quantised_as_it_is(inputs: np.ndarray) -> None:
    from onnx import TensorProto, helper, numpy_helper

    weight = np.random.default_rng(1).normal(size=(4, 3, 3, 3)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["pixels", "weight"], ["map"], name="only"),
            helper.make_node("ReduceMean", ["map"], ["features"], axes=[2, 3], keepdims=0),
        ],
        "plain",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, 64, 64])],
        [
            helper.make_tensor_value_info("map", TensorProto.FLOAT, ["n", 4, 62, 62]),
            helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 4]),
        ],
        [numpy_helper.from_array(weight, "weight")],
    )
    imports = [helper.make_opsetid("", 17)]
    plain = helper.make_model(graph, opset_imports=imports, ir_version=8).SerializeToString()
    small = quantize(plain, inputs, float_layers=0)
    assert weight_types(small) == [TensorProto.INT8]
    np.testing.assert_allclose(features(small, inputs), features(plain, inputs), atol=0.05)


def test_weights_leave_a_bit_so_that_no_cpu_overflows(network: bytes, inputs: np.ndarray) -> None:
    import onnx

    graph = onnx.load_model_from_string(quantize(network, inputs[:20])).graph
    whole = [onnx.numpy_helper.to_array(t) for t in graph.initializer]
    largest = [np.abs(t.astype(int)).max() for t in whole if t.dtype == np.int8 and t.ndim == 4]
    assert len(largest) == 52 - FLOAT_LAYERS
    assert max(largest) == 64


def test_a_quantised_network_can_be_had_in_floating_point_again(
    network: bytes, inputs: np.ndarray
) -> None:
    small = quantize(network, inputs)
    back = dequantized(small).SerializeToString()
    assert len(back) > 0.9 * len(network)
    there, again = features(small, inputs), features(back, inputs)
    assert np.corrcoef(there.ravel(), again.ravel())[0, 1] > 0.98  # activations are not rounded
    np.testing.assert_array_equal(
        features(dequantized(network).SerializeToString(), inputs), features(network, inputs)
    )


def test_without_pictures_nothing_is_quantised(network: bytes) -> None:
    with pytest.raises(InputError, match="needs pictures to measure activations on"):
        quantize(network, np.zeros((0, 3, 64, 64), np.float32))
