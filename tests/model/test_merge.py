"""A merged model's answers are the weighted means of its members' answers, and its maps too."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest

from dermx.diagnoses import CODES
from dermx.errors import BundleError
from dermx.explain.gradcam import class_maps
from dermx.model.bundle import Bundle, write_bundle
from dermx.model.merge import laid_out, merge
from dermx.model.runtime import Session
from dermx.preprocess.normalize import normalize

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
    folder: Path, bundles: list[Bundle], weights: list[float], mapped: list[int] | None = None
) -> Bundle:
    made = merge(bundles, np.array(weights), mapped)
    return write_bundle(
        folder,
        name="e",
        architecture="e",
        preprocess=made.preprocess,
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


@pytest.mark.parametrize("mapped", [[0], [1], [0, 2], [2, 1]])
def test_heat_maps_can_show_some_members_of_an_answer_of_all(
    tiny_bundle: Bundle, tmp_path: Path, mapped: list[int]
) -> None:
    members = [tiny_bundle, member(tmp_path, tiny_bundle, 1), member(tmp_path, tiny_bundle, 2)]
    weights = [0.5, 0.3, 0.2]
    whole = merged_bundle(tmp_path / "whole", members, weights, mapped)
    cells, features = Session(whole).run_evidence(PIXELS)
    theirs = sum(weights[i] * Session(members[i]).run_evidence(PIXELS)[0] for i in mapped)
    np.testing.assert_allclose(cells, theirs, rtol=1e-4, atol=1e-5)
    all_of_them = merged_bundle(tmp_path / "all", members, weights)
    np.testing.assert_array_equal(
        Session(whole).logits(features), Session(all_of_them).logits(features)
    )
    outer = merged_bundle(tmp_path / "outer", [whole, tiny_bundle], [0.5, 0.5], [0])
    assert outer.mapped.sum() == sum(members[i].weight.shape[1] for i in mapped)  # still those


def test_a_member_without_weight_can_t_be_mapped(tiny_bundle: Bundle, tmp_path: Path) -> None:
    other = member(tmp_path, tiny_bundle, 1)
    with pytest.raises(BundleError, match="has no share in the answer to be mapped"):
        merge([tiny_bundle, other], np.array([1, 0]), [0, 1])


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


def seen_by(one: Bundle, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Map and logits of a member for pictures that are normalised already."""
    session = onnxruntime.InferenceSession(str(one.network), providers=["CPUExecutionProvider"])
    maps, features = session.run(["map", "features"], {"pixels": values})
    return maps, features @ one.weight.T + one.bias


def shrunk(values: np.ndarray, side: int) -> np.ndarray:
    planes = values.reshape(-1, *values.shape[2:])
    made = [cv2.resize(plane, (side, side), interpolation=cv2.INTER_LINEAR) for plane in planes]
    return np.stack(made).reshape(*values.shape[:2], side, side)


@pytest.mark.parametrize(("size", "crop", "side"), [(32, 2 / 3, 48), (56, 1.0, 56), (32, 0.5, 64)])
def test_members_may_see_less_of_the_picture_or_a_smaller_one(
    tiny_bundle: Bundle, tmp_path: Path, size: int, crop: float, side: int
) -> None:
    spec = replace(tiny_bundle.preprocess, image_size=size, crop_fraction=crop)
    other = replace(member(tmp_path, tiny_bundle, 1), preprocess=spec)
    whole = merged_bundle(tmp_path / "whole", [tiny_bundle, other], [0.6, 0.4])
    assert whole.preprocess == replace(tiny_bundle.preprocess, image_size=side)
    pixels = np.random.default_rng(1).integers(0, 256, (3, side, side, 3), np.uint8)
    session = Session(whole)
    maps, features = session.run(pixels)
    values = normalize(pixels, whole.preprocess.mean, whole.preprocess.std)
    edge = round(side * (1 - crop) / 2)
    middle = values[:, :, edge : side - edge, edge : side - edge]
    ours, theirs = seen_by(tiny_bundle, shrunk(values, 32)), seen_by(other, shrunk(middle, size))
    expected = 0.6 * ours[1] + 0.4 * theirs[1]
    np.testing.assert_allclose(session.logits(features), expected, rtol=1e-4, atol=1e-4)
    # Each member's cells keep their mean, so a logit stays the mean over its class map.
    np.testing.assert_allclose(maps.mean(axis=(2, 3)), features, rtol=1e-4, atol=1e-4)
    if crop < 1:
        np.testing.assert_allclose(maps[:, :3], ours[0], rtol=1e-4, atol=1e-4)
    if crop == 0.5:  # four cells a side in the middle half of four: two of them, four times as much
        blocks = theirs[0].reshape(3, 3, 2, 2, 2, 2).mean(axis=(3, 5))
        np.testing.assert_allclose(maps[:, 3:, 1:3, 1:3], 4 * blocks, rtol=1e-4, atol=1e-4)
        assert not maps[:, 3:, 0].any()
        assert not maps[:, 3:, :, 3].any()


def test_maps_of_different_grids_are_laid_onto_the_finest(
    tiny_bundle: Bundle, tmp_path: Path
) -> None:
    finer = member(tmp_path, tiny_bundle, 1, "MaxPool", 4)
    whole = merged_bundle(tmp_path / "whole", [tiny_bundle, finer], [0.5, 0.5])
    maps, _ = Session(whole).run(PIXELS)
    coarse, _ = Session(tiny_bundle).run(PIXELS)
    np.testing.assert_allclose(maps[:, :3], coarse.repeat(2, axis=2).repeat(2, axis=3), rtol=1e-5)
    np.testing.assert_allclose(maps[:, 3:], Session(finer).run(PIXELS)[0], rtol=1e-5)


@pytest.mark.parametrize("share", [0.2, 2 / 3, 1.0])
@pytest.mark.parametrize(("cells", "of"), [(9, 7), (7, 9), (9, 9), (1, 5), (5, 1)])
def test_laying_out_keeps_the_mean(cells: int, of: int, share: float) -> None:
    values = np.random.default_rng(0).normal(size=of)
    assert (laid_out(cells, of, share) @ values).mean() == pytest.approx(values.mean())


def test_models_that_don_t_fit_each_other_are_refused(tiny_bundle: Bundle, tmp_path: Path) -> None:
    both = np.array([0.5, 0.5])
    shaved = replace(tiny_bundle, preprocess=replace(tiny_bundle.preprocess, hair_removal=True))
    with pytest.raises(BundleError, match=r"differ in preprocess\.hair_removal: False and True"):
        merge([tiny_bundle, shaved], both)
    bigger = replace(tiny_bundle, preprocess=replace(tiny_bundle.preprocess, image_size=66))
    with pytest.raises(BundleError, match="looks at 66 pixels where another is made for 32"):
        merge([tiny_bundle, bigger], both)
    older = member(tmp_path, tiny_bundle, 1, opset=16)
    with pytest.raises(BundleError, match=r"use different ONNX operators, .*16.*export them again"):
        merge([tiny_bundle, older], both)
    turned = replace(tiny_bundle, codes=CODES[::-1])
    with pytest.raises(BundleError, match="answers"):
        merge([tiny_bundle, turned], both)
    with pytest.raises(BundleError, match="none of 2 models has a weight above 0"):
        merge([tiny_bundle, tiny_bundle], 0 * both)
