"""Weights drawn afresh, stage by stage from the end; the map is compared by ranks."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

onnx = pytest.importorskip("onnx")

from dermx.config import PreprocessConfig  # noqa: E402
from dermx.diagnoses import CODES  # noqa: E402
from dermx.errors import BundleError, InputError  # noqa: E402
from dermx.explain.sanity import forgotten, likeness, rank_correlation  # noqa: E402
from dermx.model.batching import large_maps_in_turn  # noqa: E402
from dermx.model.bundle import Bundle, write_bundle  # noqa: E402
from dermx.model.merge import merge  # noqa: E402
from dermx.model.runtime import Session  # noqa: E402


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Four convolutions with weights that differ, then the mean."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    nodes, weights, before = [], [], "pixels"
    for i, inputs in enumerate((3, 6, 6, 6)):
        values = rng.normal(size=(6, inputs, 3, 3)).astype(np.float32)
        weights += [
            numpy_helper.from_array(values, f"w{i}"),
            numpy_helper.from_array(rng.normal(size=6).astype(np.float32), f"b{i}"),
        ]
        after = "map" if i == 3 else f"x{i}"
        nodes.append(helper.make_node("Conv", [before, f"w{i}", f"b{i}"], [after], strides=[2, 2]))
        before = after
    nodes.append(helper.make_node("ReduceMean", ["map"], ["features"], axes=[2, 3], keepdims=0))
    graph = helper.make_graph(
        nodes,
        "four layers",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, 64, 64])],
        [
            helper.make_tensor_value_info("map", TensorProto.FLOAT, ["n", 6, None, None]),
            helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 6]),
        ],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return write_bundle(
        tmp_path_factory.mktemp("models") / "four",
        name="four", architecture="four", preprocess=PreprocessConfig(image_size=64),
        network_bytes=model.SerializeToString(),
        weight=rng.normal(size=(len(CODES), 6)), bias=rng.normal(size=len(CODES)),
        figures={}, card="",
    )  # fmt: skip


def weights_of(path: Path) -> dict[str, np.ndarray]:
    return {w.name: onnx.numpy_helper.to_array(w) for w in onnx.load(path).graph.initializer}


@pytest.mark.parametrize(("share", "lost"), [(0.0, 0), (0.25, 1), (0.5, 2), (1.0, 4)])
def test_the_last_layers_are_drawn_afresh_and_the_first_are_not(
    bundle: Bundle, share: float, lost: int
) -> None:
    before = weights_of(bundle.network)
    with forgotten(bundle, share, seed=0) as mixed:
        after = weights_of(mixed.network)
        assert (mixed.weight != bundle.weight).all()
        Session(mixed, threads=1)
    changed = [name for name in before if (before[name] != after[name]).any()]
    assert {name[1] for name in changed} == {str(i) for i in range(4 - lost, 4)}
    for name in changed:
        if name[0] == "w":  # no activation follows: the variance is one over what goes into a cell
            assert after[name].var() * before[name][0].size == pytest.approx(1, abs=0.2)
        else:
            assert not after[name].any()
    assert not mixed.network.exists()


def test_each_kind_of_layer_is_drawn_so_that_its_outputs_stay_as_large(
    bundle: Bundle, tmp_path: Path
) -> None:
    """Twice the variance where an activation follows; a normalisation that changes nothing."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(3)
    shapes = {
        "conv": (64, 3, 3, 3), "scale": (64,), "shift": (64,), "mean": (64,), "variance": (64,),
        "product": (64, 256),
    }  # fmt: skip
    weights = [
        numpy_helper.from_array(rng.uniform(1, 2, shape).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    nodes = [
        helper.make_node("Conv", ["pixels", "conv"], ["x0"]),
        helper.make_node("Relu", ["x0"], ["x1"]),
        helper.make_node(
            "BatchNormalization", ["x1", "scale", "shift", "mean", "variance"], ["map"]
        ),
        helper.make_node("ReduceMean", ["map"], ["pooled"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["pooled", "product"], ["features"]),
    ]
    graph = helper.make_graph(
        nodes,
        "kinds",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, 64, 64])],
        [
            helper.make_tensor_value_info("map", TensorProto.FLOAT, ["n", 64, None, None]),
            helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 256]),
        ],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "network.onnx")
    with forgotten(replace(bundle, network=tmp_path / "network.onnx"), 1.0, 0) as mixed:
        after = weights_of(mixed.network)
    assert after["conv"].var() == pytest.approx(2 / 27, rel=0.1)  # 3 x 3 x 3 values go in
    assert after["product"].var() == pytest.approx(1 / 64, rel=0.1)  # 64 features go in
    for name, value in {"scale": 1, "shift": 0, "mean": 0, "variance": 1}.items():
        assert (after[name] == value).all(), name


@pytest.mark.parametrize("crop", [1.0, 0.5])  # below 1 its map is laid out by matrices not learnt
def test_of_networks_side_by_side_each_forgets_its_last_layers(
    bundle: Bundle, tmp_path: Path, crop: float
) -> None:
    nearer = replace(bundle, preprocess=replace(bundle.preprocess, crop_fraction=crop))
    merged = merge([bundle, nearer], np.array([0.5, 0.5]))
    both = write_bundle(
        tmp_path / "both",
        name="both", architecture="four + four", preprocess=merged.preprocess,
        network_bytes=merged.network, weight=merged.weight, bias=merged.bias,
        figures={}, card="",
    )  # fmt: skip
    before = weights_of(both.network)
    with forgotten(both, 0.25, seed=0) as mixed:
        after = weights_of(mixed.network)
    changed = {name for name in before if (before[name] != after[name]).any()}
    assert changed == {"member0/w3", "member0/b3", "member1/w3", "member1/b3"}


def test_a_seed_always_draws_alike(bundle: Bundle) -> None:
    found = []
    for seed in (1, 1, 2):
        with forgotten(bundle, 1.0, seed) as mixed:
            found.append(weights_of(mixed.network)["w0"])
    assert (found[0] == found[1]).all()
    assert (found[0] != found[2]).any()


def test_a_network_rewritten_for_speed_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    """Some of its layers would silently keep what they learnt."""
    network = tmp_path / "network.onnx"
    network.write_bytes(large_maps_in_turn(bundle.network.read_bytes(), 64))
    with (
        pytest.raises(BundleError, match="its run's own bundle is needed"),
        forgotten(replace(bundle, network=network), 1.0, 0),
    ):
        pass


def test_a_share_beyond_all_layers_is_refused(bundle: Bundle) -> None:
    with (
        pytest.raises(InputError, match=r"share must be in \[0, 1\], got 1.5"),
        forgotten(bundle, 1.5, 0),
    ):
        pass


maps = arrays(np.float64, (3, 4), elements=st.integers(0, 4).map(float))


@given(maps, maps)
def test_the_rank_correlation_is_scipys(one: np.ndarray, other: np.ndarray) -> None:
    stats = pytest.importorskip("scipy.stats")
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        assert rank_correlation(one, other) == 0
    else:
        theirs = stats.spearmanr(one.ravel(), other.ravel()).statistic
        assert rank_correlation(one, other) == pytest.approx(theirs, abs=1e-9)


def test_a_map_that_marks_no_place_says_nothing_about_what_was_learnt() -> None:
    even, slope = np.ones((2, 2)), np.arange(4.0).reshape(2, 2)
    assert np.isnan(likeness(even, slope))
    assert np.isnan(likeness(np.ones((1, 1)), np.ones((1, 1))))
    assert likeness(slope, even) == 0
    assert likeness(slope, slope[::-1, ::-1]) == pytest.approx(-1)
