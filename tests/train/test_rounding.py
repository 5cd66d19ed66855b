import numpy as np
import onnxruntime
import pytest

torch = pytest.importorskip("torch", reason="learning needs dermx[train]")

import onnx  # noqa: E402
from onnx import numpy_helper  # noqa: E402

from dermx.errors import InputError  # noqa: E402
from dermx.model.quantize import quantize  # noqa: E402
from dermx.train.export import to_onnx  # noqa: E402
from dermx.train.network import build_network  # noqa: E402
from dermx.train.rounding import LARGEST, Graph, learn_rounding  # noqa: E402


@pytest.fixture(scope="module")
def inputs() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(72, 3, 64, 64)).astype(np.float32)


@pytest.fixture(scope="module")
def quantized(network: bytes, inputs: np.ndarray) -> bytes:
    return quantize(network, inputs[:24], float_layers=2)


def maps(network: bytes, inputs: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(network, providers=["CPUExecutionProvider"])
    return session.run(["map"], {"pixels": inputs})[0]


def stored(network: bytes) -> dict[str, np.ndarray]:
    graph = onnx.load_model_from_string(network).graph
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


def test_the_graph_says_what_the_runtime_says(quantized: bytes, inputs: np.ndarray) -> None:
    graph = Graph(onnx.load_model_from_string(quantized))
    with torch.no_grad():
        ours = graph(torch.from_numpy(inputs[:8]))
    theirs = maps(quantized, inputs[:8])
    assert np.square(ours["map"].numpy() - theirs).mean() < 1e-3 * theirs.var()
    np.testing.assert_allclose(ours["features"], ours["map"].numpy().mean((2, 3)), atol=1e-6)


def test_every_operation_does_what_the_runtime_does(inputs: np.ndarray) -> None:
    torch.manual_seed(0)  # swish and squeeze-and-excite: products, sigmoids and means
    plain = to_onnx(build_network("efficientnet_b0", 8, pretrained=False), 64)
    with torch.no_grad():
        ours = Graph(onnx.load_model_from_string(plain))(torch.from_numpy(inputs[:4]))
    np.testing.assert_allclose(ours["map"], maps(plain, inputs[:4]), atol=1e-4)


def test_no_step_is_refused(quantized: bytes, network: bytes) -> None:
    with pytest.raises(InputError, match="needs at least one step, got 0"):
        learn_rounding(quantized, network, [], steps=0)


def test_without_pictures_every_integer_stays(quantized: bytes, network: bytes) -> None:
    after = stored(learn_rounding(quantized, network, [], steps=5))
    for name, values in stored(quantized).items():
        np.testing.assert_array_equal(after[name], values)


def test_learning_brings_other_pictures_nearer(
    quantized: bytes, network: bytes, inputs: np.ndarray
) -> None:
    lines: list[str] = []
    batches = [inputs[i : i + 12] for i in (0, 12, 24, 36)] * 8
    learnt = learn_rounding(quantized, network, batches, steps=32, rate=0.01, say=lines.append)
    wanted = maps(network, inputs[48:])
    off = [np.square(maps(one, inputs[48:]) - wanted).mean() for one in (quantized, learnt)]
    assert off[1] < 0.95 * off[0]
    assert [line.split(":")[0] for line in lines] == [
        f"rounding, batch {n} of 32" for n in (8, 16, 24, 32)
    ]


def test_only_integers_move_and_one_bit_stays_free(
    quantized: bytes, network: bytes, inputs: np.ndarray
) -> None:
    before = stored(quantized)
    after = stored(learn_rounding(quantized, network, [inputs[:12]] * 2, steps=2, rate=9.0))
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    assert {before[name].dtype for name in moved} == {np.dtype(np.int8), np.dtype(np.int32)}
    assert all(after[name].dtype == values.dtype for name, values in before.items())
    weights = [after[name].astype(int) for name in moved if after[name].dtype == np.int8]
    assert max(np.abs(one).max() for one in weights) == LARGEST


def test_an_operation_that_is_not_known_is_named(network: bytes) -> None:
    model = onnx.load_model_from_string(network)
    model.graph.node[-1].op_type = "Softplus"
    with pytest.raises(InputError, match="can't learn to round a network with Softplus"):
        learn_rounding(model.SerializeToString(), network, [], steps=1)
