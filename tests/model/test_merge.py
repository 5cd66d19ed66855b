"""A merged model's answers are the weighted means of its members' answers, and its maps too."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dermx.diagnoses import CODES
from dermx.errors import BundleError
from dermx.explain.gradcam import class_maps
from dermx.model.bundle import Bundle, write_bundle
from dermx.model.merge import merge
from dermx.model.runtime import Session

onnx = pytest.importorskip("onnx", reason="merging needs dermx[train]")


def network(pool: str, cell: int, opset: int) -> bytes:
    """Each cell's mean or largest R, G, B, beside the mean over the map."""
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node(pool, ["pixels"], ["map"], kernel_shape=[cell] * 2, strides=[cell] * 2),
        helper.make_node("ReduceMean", ["map"], ["features"], axes=[2, 3], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        pool,
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, None, None])],
        [
            helper.make_tensor_value_info("map", TensorProto.FLOAT, ["n", 3, None, None]),
            helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 3]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return bytes(model.SerializeToString())


def member(
    folder: Path,
    like: Bundle,
    seed: int,
    pool: str = "MaxPool",
    cell: int = 8,
    opset: int = 17,
) -> Bundle:
    rng = np.random.default_rng(seed)
    return write_bundle(
        folder / f"{pool}{cell}-{seed}-{opset}",
        name="m",
        architecture=pool,
        preprocess=like.preprocess,
        network_bytes=network(pool, cell, opset),
        weight=rng.normal(size=(8, 3)),
        bias=rng.normal(size=8),
        figures={},
        card="",
    )


def merged_bundle(
    folder: Path, bundles: list[Bundle], weights: list[float], mapped: int | None = None
) -> Bundle:
    made = merge(bundles, np.array(weights), mapped)
    return write_bundle(
        folder,
        name="e",
        architecture="e",
        preprocess=bundles[0].preprocess,
        network_bytes=made.network,
        weight=made.weight,
        bias=made.bias,
        mapped=made.mapped,
        figures={},
        card="",
    )


PIXELS = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)


def answer(bundle: Bundle) -> tuple[np.ndarray, np.ndarray]:
    session = Session(bundle)
    maps, features = session.run(PIXELS)
    return maps, session.logits(features)


def test_logits_and_class_maps_are_weighted_means(tiny_bundle: Bundle, tmp_path: Path) -> None:
    members = [tiny_bundle, member(tmp_path, tiny_bundle, 1), member(tmp_path, tiny_bundle, 2)]
    weights = [0.5, 0.3, 0.2]
    whole = merged_bundle(tmp_path / "whole", members, weights)
    maps, logits = answer(whole)
    apart = [answer(one) for one in members]
    expected = sum(w * said for w, (_, said) in zip(weights, apart, strict=True))
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)
    assert maps.shape == (5, 9, 4, 4)
    flat = sum(
        w * np.einsum("kc,nchw->nkhw", one.weight, one_maps)
        for w, one, (one_maps, _) in zip(weights, members, apart, strict=True)
    )
    ours = np.einsum("kc,nchw->nkhw", whole.weight, maps)
    np.testing.assert_allclose(ours, flat, rtol=1e-4, atol=1e-5)
    assert class_maps(maps[0], whole.weight).shape == (len(CODES), 4, 4)


@pytest.mark.parametrize("mapped", [0, 1])
def test_heat_maps_can_show_one_member_of_an_answer_of_all(
    tiny_bundle: Bundle, tmp_path: Path, mapped: int
) -> None:
    members, weights = [tiny_bundle, member(tmp_path, tiny_bundle, 1)], [0.7, 0.3]
    whole = merged_bundle(tmp_path / "whole", members, weights, mapped)
    cells, features = Session(whole).run_evidence(PIXELS)
    alone, _ = Session(members[mapped]).run_evidence(PIXELS)
    np.testing.assert_allclose(cells, weights[mapped] * alone, rtol=1e-4, atol=1e-5)
    all_of_them = merged_bundle(tmp_path / "all", members, weights)
    np.testing.assert_array_equal(
        Session(whole).logits(features), Session(all_of_them).logits(features)
    )
    outer = merged_bundle(tmp_path / "outer", [whole, tiny_bundle], [0.5, 0.5], 0)
    assert outer.mapped.sum() == members[mapped].weight.shape[1]  # still that one alone


def test_a_member_without_weight_can_t_be_mapped(tiny_bundle: Bundle, tmp_path: Path) -> None:
    other = member(tmp_path, tiny_bundle, 1)
    with pytest.raises(BundleError, match="has no share in the answer to be mapped"):
        merge([tiny_bundle, other], np.array([1, 0]), 1)


def test_one_member_answers_as_ever(tiny_bundle: Bundle, tmp_path: Path) -> None:
    whole = merged_bundle(tmp_path / "whole", [tiny_bundle], [1.0])
    for ours, theirs in zip(answer(whole), answer(tiny_bundle), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_member_without_weight_is_not_run(tiny_bundle: Bundle, tmp_path: Path) -> None:
    other = member(tmp_path, tiny_bundle, 1)
    alone, both = merge([tiny_bundle], np.ones(1)), merge([tiny_bundle, other], np.array([1, 0]))
    assert both.network == alone.network
    np.testing.assert_array_equal(both.weight, alone.weight)


def test_a_merged_model_can_be_merged_again(tiny_bundle: Bundle, tmp_path: Path) -> None:
    other = member(tmp_path, tiny_bundle, 1)
    inner = merged_bundle(tmp_path / "inner", [tiny_bundle, other], [0.5, 0.5])
    outer = merged_bundle(tmp_path / "outer", [inner, tiny_bundle], [0.5, 0.5])
    flat = merged_bundle(tmp_path / "flat", [tiny_bundle, other], [0.75, 0.25])
    np.testing.assert_allclose(answer(outer)[1], answer(flat)[1], atol=1e-5)


def test_models_that_don_t_fit_each_other_are_refused(tiny_bundle: Bundle, tmp_path: Path) -> None:
    both = np.array([0.5, 0.5])
    bigger = replace(tiny_bundle, preprocess=replace(tiny_bundle.preprocess, image_size=64))
    with pytest.raises(BundleError, match=r"differ in preprocess\.image_size: 32 and 64"):
        merge([tiny_bundle, bigger], both)
    finer = member(tmp_path, tiny_bundle, 1, "MaxPool", 4)
    with pytest.raises(BundleError, match=r"gives maps of \(4, 4\), .* of \(8, 8\) cells"):
        merge([tiny_bundle, finer], both)
    older = member(tmp_path, tiny_bundle, 1, opset=16)
    with pytest.raises(BundleError, match=r"use different ONNX operators, .*16.*export them again"):
        merge([tiny_bundle, older], both)
    turned = replace(tiny_bundle, codes=CODES[::-1])
    with pytest.raises(BundleError, match="answers"):
        merge([tiny_bundle, turned], both)
    with pytest.raises(BundleError, match="none of 2 models has a weight above 0"):
        merge([tiny_bundle, tiny_bundle], 0 * both)
