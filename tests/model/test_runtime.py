"""ONNX Runtime gives the map and its mean, whatever the batch; what doesn't fit is refused."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dermx.config import PreprocessConfig
from dermx.errors import BundleError, InputError
from dermx.model.bundle import Bundle
from dermx.model.runtime import Session, linear, usable_cores


@pytest.fixture(scope="module")
def session(tiny_bundle: Bundle) -> Session:
    return Session(tiny_bundle, threads=1)


def noise(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 32, 32, 3), np.uint8)


def test_cells_and_features_are_the_mean_colours_worked_by_hand(session: Session) -> None:
    pixels = np.zeros((1, 32, 32, 3), np.uint8)
    pixels[0, :8, 8:16] = (255, 255, 0)  # row 0, column 1 of 4 x 4 cells is yellow, the rest black
    maps, features = session.run(pixels)
    expected = np.full((3, 4, 4), -1, np.float32)  # black is -1 after scaling to [-1, 1]
    expected[:2, 0, 1] = 1
    np.testing.assert_allclose(maps[0], expected, atol=1e-6)
    np.testing.assert_allclose(features[0], [-14 / 16, -14 / 16, -1], atol=1e-6)


def test_the_bundles_own_mean_and_deviation_are_used(tiny_bundle: Bundle) -> None:
    spec = PreprocessConfig(image_size=32, mean=(0.0, 0.5, 1.0), std=(1.0, 0.5, 0.25))
    white = np.full((1, 32, 32, 3), 255, np.uint8)
    _, features = Session(replace(tiny_bundle, preprocess=spec), threads=1).run(white)
    np.testing.assert_allclose(features[0], [1.0, 1.0, 0.0], atol=1e-6)


@pytest.mark.parametrize("n", [1, 4, 5, 9])
def test_a_batch_gives_what_its_pictures_give_alone(session: Session, n: int) -> None:
    pixels = noise(n)
    maps, features = session.run(pixels)
    assert len(maps) == len(features) == n
    for i in range(n):
        alone_map, alone = session.run(pixels[i : i + 1])
        np.testing.assert_allclose(maps[i], alone_map[0], atol=1e-6)
        np.testing.assert_allclose(features[i], alone[0], atol=1e-6)


def test_features_are_the_mean_of_the_map(session: Session) -> None:
    maps, features = session.run(noise(6))
    np.testing.assert_allclose(features, maps.mean(axis=(2, 3)), atol=1e-6)


def test_features_alone_are_those_that_come_with_the_maps(session: Session) -> None:
    np.testing.assert_array_equal(session.features(noise(5)), session.run(noise(5))[1])


def test_one_session_serves_several_threads(session: Session) -> None:
    batches = [noise(3, seed) for seed in range(8)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(session.run, batches))
    for batch, (_, features) in zip(batches, together, strict=True):
        np.testing.assert_array_equal(features, session.run(batch)[1])


def test_logits_are_the_linear_layer_worked_by_hand(session: Session) -> None:
    logits = session.logits(np.array([[0.5, -1, 0.25]], np.float32))
    by_code = dict(zip(session.bundle.codes, logits[0], strict=True))
    assert (by_code["vasc"], by_code["nv"], by_code["mel"]) == (1, -2, 0.5)
    assert by_code["acne"] == 0
    weight, bias = np.float32([[3, 4], [0, 1]]), np.float32([0.5, 0])
    assert linear(np.float32([[1, 2]]), weight, bias).tolist() == [[11.5, 2]]


@pytest.mark.parametrize(
    ("pixels", "got"),
    [
        (np.zeros((1, 32, 32, 3), np.float32), r"float32 \(1, 32, 32, 3\)"),
        (np.zeros((1, 3, 32, 32), np.uint8), r"uint8 \(1, 3, 32, 32\)"),
        (np.zeros((32, 32, 3), np.uint8), r"uint8 \(32, 32, 3\)"),
    ],
)
def test_other_inputs_are_refused(session: Session, pixels: np.ndarray, got: str) -> None:
    with pytest.raises(InputError, match=rf"shape \(n, 32, 32, 3\), got {got}"):
        session.run(pixels)


def test_a_file_that_is_no_network_is_named(tiny_bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "network.onnx").write_bytes(b"text")
    with pytest.raises(BundleError, match=r"ONNX Runtime can't open .*network\.onnx"):
        Session(replace(tiny_bundle, network=tmp_path / "network.onnx"))


def test_a_network_with_other_outputs_is_refused(tiny_bundle: Bundle, tmp_path: Path) -> None:
    import onnx

    graph = onnx.load(tiny_bundle.network)
    del graph.graph.output[0]
    onnx.save(graph, tmp_path / "network.onnx")
    with pytest.raises(BundleError, match=r"to \['features'\]; need \['pixels'\] to \['map', "):
        Session(replace(tiny_bundle, network=tmp_path / "network.onnx"))


@pytest.mark.parametrize(
    ("shape", "kind", "found"),
    [
        (("n", 3, 64, 64), "FLOAT", r"tensor\(float\) of shape \['n', 3, 64, 64\]"),
        ((1, 3, None, None), "FLOAT", r"tensor\(float\) of shape \[1, 3, "),
        (("n", 3, None, None), "FLOAT16", r"tensor\(float16\) of shape"),
    ],
)
def test_a_network_for_other_inputs_is_refused_before_it_runs(
    tiny_bundle: Bundle, tmp_path: Path, shape: tuple[object, ...], kind: str, found: str
) -> None:
    import onnx

    model = onnx.load(tiny_bundle.network)
    wanted = getattr(onnx.TensorProto, kind)
    model.graph.input[0].CopyFrom(onnx.helper.make_tensor_value_info("pixels", wanted, shape))
    for value in model.graph.output:  # let them follow from the input
        value.type.tensor_type.elem_type = wanted
        value.type.tensor_type.ClearField("shape")
    onnx.save(model, tmp_path / "network.onnx")
    with pytest.raises(BundleError, match=rf"takes {found}.* its bundle says pictures of 32"):
        Session(replace(tiny_bundle, network=tmp_path / "network.onnx"))


def test_a_network_that_doesn_t_say_how_many_features_it_gives_is_opened(
    tiny_bundle: Bundle, tmp_path: Path
) -> None:
    import onnx

    model = onnx.load(tiny_bundle.network)
    for value in model.graph.output:
        value.type.tensor_type.shape.dim[1].dim_param = "channels"
    onnx.save(model, tmp_path / "network.onnx")
    pixels = np.full((1, 32, 32, 3), 255, np.uint8)
    _, features = Session(replace(tiny_bundle, network=tmp_path / "network.onnx")).run(pixels)
    np.testing.assert_allclose(features, [[1, 1, 1]], atol=1e-6)


def test_a_head_of_another_network_is_refused(tiny_bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="gives 3 features, the linear layer takes 5"):
        Session(replace(tiny_bundle, weight=np.zeros((8, 5), np.float32)))


def test_there_is_at_least_one_usable_core() -> None:
    assert usable_cores() >= 1
