"""Made one at a time or together, maps are the same; only large ones of integers are cut off."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

pytest.importorskip("torch", reason="exporting needs dermx[train]")

from dermx.model.batching import large_maps_in_turn
from dermx.model.bundle import Bundle, write_bundle
from dermx.model.merge import merge
from dermx.model.quantize import quantize
from dermx.model.runtime import IN_TURN


@pytest.fixture(scope="module")
def inputs() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(20, 3, 64, 64)).astype(np.float32)


@pytest.fixture(scope="module", params=["floating point", "8 bits"])
def either(request: pytest.FixtureRequest, network: bytes, inputs: np.ndarray) -> bytes:
    return network if request.param == "floating point" else quantize(network, inputs)


def answers(network: bytes, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    session = onnxruntime.InferenceSession(network, providers=["CPUExecutionProvider"])
    feature_map, features = session.run(["map", "features"], {"pixels": inputs})
    return feature_map, features


@pytest.mark.parametrize("n", [1, 2, 9])
def test_the_numbers_stay(either: bytes, inputs: np.ndarray, n: int) -> None:
    before, after = answers(either, inputs[:n]), answers(large_maps_in_turn(either, 64), inputs[:n])
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_numbers_of_members_that_see_pictures_of_different_scales_stay(
    tiny_bundle: Bundle, either: bytes, tmp_path: Path
) -> None:
    weight = np.random.default_rng(0).normal(size=(8, 1280)).astype(np.float32)
    members = [
        write_bundle(
            tmp_path / str(crop),
            name="m",
            architecture="m",
            preprocess=replace(tiny_bundle.preprocess, image_size=64, crop_fraction=crop),
            network_bytes=either,
            weight=weight,
            bias=np.zeros(8, np.float32),
            figures={},
            card="",
        )
        for crop in (1.0, 2 / 3)
    ]
    whole = merge(members, np.array([0.5, 0.5]))
    inputs = np.random.default_rng(1).normal(size=(3, 3, 96, 96)).astype(np.float32)
    made = large_maps_in_turn(whole.network, whole.preprocess.image_size)
    assert made != whole.network
    for one, other in zip(answers(whole.network, inputs), answers(made, inputs), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_layers_with_large_maps_are_in_the_scan_and_the_others_behind_it(either: bytes) -> None:
    import onnx

    def convolutions(graph: onnx.GraphProto) -> int:
        return sum(node.op_type == "Conv" for node in graph.node)

    made = large_maps_in_turn(either, 64)
    model = onnx.load_model_from_string(made)
    first, *rest = model.graph.node
    body = first.attribute[0].g
    assert first.op_type == "Scan"
    assert all(node.op_type != "Scan" for node in rest)
    whole = convolutions(onnx.load_model_from_string(either).graph)
    assert convolutions(body) + convolutions(model.graph) == whole
    # Down to 8 x 8 cells: stem, a block of two, five blocks of three, the next one's first.
    assert convolutions(body) == 1 + 2 + 5 * 3 + 1
    assert len(made) < 1.05 * len(either)  # no weight is stored twice
    assert [entry.key for entry in model.metadata_props] == [IN_TURN]


def test_integers_are_cut_before_they_are_dequantised(network: bytes, inputs: np.ndarray) -> None:
    """Else the layer behind the cut would calculate in floating point."""
    import onnx

    model = onnx.load_model_from_string(large_maps_in_turn(quantize(network, inputs), 64))
    kinds = {
        value.type.tensor_type.elem_type for value in model.graph.node[0].attribute[0].g.output
    }
    assert kinds == {onnx.TensorProto.UINT8}


def test_a_map_that_only_weighs_channels_stays_inside(inputs: np.ndarray) -> None:
    """Squeeze and excitation: a small layer reads a large map, for a large map."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(rng.normal(size=(4, 3, 1, 1)).astype(np.float32), "first"),
        numpy_helper.from_array(rng.normal(size=(5, 4, 16, 16)).astype(np.float32), "last"),
    ]
    nodes = [
        helper.make_node("Conv", ["pixels", "first"], ["large"]),
        helper.make_node("GlobalAveragePool", ["large"], ["gate"]),
        helper.make_node("Mul", ["large", "gate"], ["weighed"]),
        helper.make_node("Conv", ["weighed", "last"], ["map"], strides=[16, 16]),
        helper.make_node("ReduceMean", ["map"], ["features"], axes=[2, 3], keepdims=0),
    ]
    shapes = {"pixels": ["n", 3, None, None], "map": ["n", 5, None, None], "features": ["n", 5]}
    values = [helper.make_tensor_value_info(k, TensorProto.FLOAT, v) for k, v in shapes.items()]
    graph = helper.make_graph(nodes, "gated", values[:1], values[1:], weights)
    opsets = [helper.make_opsetid("", 17)]
    gated = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    made = large_maps_in_turn(gated, 64)
    assert list(onnx.load_model_from_string(made).graph.node[0].output) == ["weighed"]
    for one, other in zip(answers(gated, inputs), answers(made, inputs), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-4)


def test_what_is_rewritten_stays_as_it_is(either: bytes) -> None:
    once = large_maps_in_turn(either, 64)
    assert large_maps_in_turn(once, 64) == once


def test_without_layers_that_make_large_maps_nothing_is_rewritten(colour_network: bytes) -> None:
    assert large_maps_in_turn(colour_network, 64) == colour_network
