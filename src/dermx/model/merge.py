"""How do several models become one? Their networks side by side in one file, one linear layer.

The feature maps are stacked by channel, and the linear layer is each member's, times its weight:
its logits are the weighted mean of the members' logits, and its class maps that of their class
maps, or one member's. So an ensemble is a bundle like any other, and everything that reads bundles
works.

Members may look at pictures of different sizes, or at less of them: the whole is given what shows
the most, in the finest scale of any, and the file cuts and shrinks it for each. Their maps then lie
on different grids; each is laid onto the finest, cell by cell as far as they overlap, which leaves
its mean as it is, and a logit the mean over its class map.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from dermx.config import PreprocessConfig
from dermx.errors import BundleError, needs
from dermx.model.bundle import Bundle
from dermx.model.runtime import FEATURES, INPUT, MAP, Session

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Float32, Float64
    from onnx import NodeProto

SHRUNK: Final = 2  # at most so many times: two pixels are weighed for each, others would be lost


class Merged(NamedTuple):
    """What `write_bundle` takes of a network."""

    network: bytes  # ONNX
    preprocess: PreprocessConfig
    weight: Float32[np.ndarray, "classes c"]
    bias: Float32[np.ndarray, " classes"]
    mapped: Bool[np.ndarray, " c"]


def merge(
    bundles: Sequence[Bundle],
    weights: Float[np.ndarray, " members"],
    mapped: Collection[int] | None = None,
) -> Merged:
    """Make one network of several, also of different architectures.

    Args:
        bundles: Made for the same classes and, but for `image_size` and `crop_fraction`, the same
            preprocessing.
        weights: Of the members' logits; a member with weight 0 is left out.
        mapped: Numbers of the members whose last layers heat maps show; all of them when None.

    Raises:
        BundleError: The members differ in classes, preprocessing or ONNX version, look at pictures
            of too different a scale, or one to be mapped has no weight.
        MissingExtraError: The package onnx is not installed.
    """
    kept = [(b, float(w)) for b, w in zip(bundles, weights, strict=True) if w != 0]
    if not kept:
        raise BundleError(f"none of {len(bundles)} models has a weight above 0")
    shown = range(len(bundles)) if mapped is None else mapped
    if mapped is not None and (silent := [i for i in mapped if weights[i] == 0]):
        raise BundleError(f"{bundles[silent[0]].folder} has no share in the answer to be mapped")
    members = [bundle for bundle, _ in kept]
    _check_alike(members)
    spec = _common_spec([bundle.preprocess for bundle in members])
    return Merged(
        network=_side_by_side(members, spec),
        preprocess=spec,
        weight=np.concatenate([w * bundle.weight for bundle, w in kept], axis=1, dtype=np.float32),
        bias=np.asarray(sum(w * bundle.bias for bundle, w in kept), np.float32),
        mapped=np.concatenate(
            [b.mapped & (i in shown) for i, b in enumerate(bundles) if weights[i] != 0]
        ),
    )


def laid_out(cells: int, of: int, share: float) -> Float64[np.ndarray, "cells of"]:
    """Matrix that lays a row of cells onto another row, by overlap.

    Args:
        cells: How many cells the row has onto which is laid.
        of: How many are laid; they cover the middle of it.
        share: How much of the row they cover, above 0, at most 1.

    Returns:
        Its product with the values of the cells laid has their mean; cells not covered get 0.

    >>> laid_out(4, 2, 0.5)
    array([[0., 0.],
           [2., 0.],
           [0., 2.],
           [0., 0.]])
    """
    edges = np.linspace(0, 1, cells + 1)
    theirs = (1 - share) / 2 + share * np.linspace(0, 1, of + 1)
    last = np.minimum(edges[1:, None], theirs[1:])
    overlap = np.maximum(last - np.maximum(edges[:-1, None], theirs[:-1]), 0)
    return np.asarray(overlap * cells / share)


def _common_spec(specs: Sequence[PreprocessConfig]) -> PreprocessConfig:
    """Make what shows as much as any member sees, in as fine a scale as any sees it."""
    widest = max(spec.crop_fraction for spec in specs)
    side = max(round(spec.image_size * widest / spec.crop_fraction) for spec in specs)
    for spec in specs:
        if (seen := _piece(spec, side, widest)) > SHRUNK * spec.image_size:
            raise BundleError(
                f"one member looks at {seen} pixels where another is made for {spec.image_size}; "
                f"members of one model may differ by a factor of {SHRUNK} in scale"
            )
    return replace(specs[0], image_size=side, crop_fraction=widest)


def _piece(spec: PreprocessConfig, side: int, widest: float) -> int:
    """Side of the middle of the common picture that a member sees, pixels."""
    return side - 2 * round(side * (1 - spec.crop_fraction / widest) / 2)


def _side_by_side(bundles: Sequence[Bundle], spec: PreprocessConfig) -> bytes:
    with needs("making one model of several", "train"):
        import onnx
        from onnx import NodeProto, TensorProto, compose, helper
    members = [
        compose.add_prefix(onnx.load_model(bundle.network), f"member{i}/")
        for i, bundle in enumerate(bundles)
    ]
    opsets = {tuple(sorted((o.domain, o.version) for o in m.opset_import)) for m in members}
    if len(opsets) > 1:
        raise BundleError(f"the models use different ONNX operators, {opsets}; export them again")
    seen = [_piece(b.preprocess, spec.image_size, spec.crop_fraction) for b in bundles]
    sizes = [_map_size(bundle) for bundle in bundles]
    grid = tuple(max(lengths) for lengths in zip(*sizes, strict=True))
    nodes, maps, learnt = list[NodeProto](), list[str](), list[TensorProto]()
    for i, (bundle, member) in enumerate(zip(bundles, members, strict=True)):
        learnt += member.graph.initializer
        name = f"member{i}/{INPUT}"
        nodes += _shown(name, spec.image_size, seen[i], bundle.preprocess.image_size)
        nodes += member.graph.node
        name = f"member{i}/{MAP}"
        share = seen[i] / spec.image_size
        if sizes[i] != grid or share < 1:
            nodes += _laid_onto(grid, name, sizes[i], share)
            name = nodes[-1].output[0]
        maps.append(name)
    features = [f"member{i}/{FEATURES}" for i in range(len(members))]
    nodes += [
        helper.make_node("Concat", maps, [MAP], axis=1),
        helper.make_node("Concat", features, [FEATURES], axis=1),
    ]
    c = sum(bundle.weight.shape[1] for bundle in bundles)
    graph = helper.make_graph(
        nodes,
        "ensemble",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["n", 3, None, None])],
        [
            helper.make_tensor_value_info(MAP, TensorProto.FLOAT, ["n", c, None, None]),
            helper.make_tensor_value_info(FEATURES, TensorProto.FLOAT, ["n", c]),
        ],
        initializer=learnt,
    )
    model = helper.make_model(
        graph,
        opset_imports=members[0].opset_import,
        ir_version=max(member.ir_version for member in members),
    )
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _shown(name: str, side: int, seen: int, size: int) -> list[NodeProto]:
    """Layers that cut and shrink the common picture to what a member sees."""
    from onnx import helper

    if seen == size == side:
        return [helper.make_node("Identity", [INPUT], [name])]
    nodes: list[NodeProto] = []
    constants: dict[str, np.ndarray] = {}
    given = INPUT
    if seen < side:
        first = (side - seen) // 2
        span = {"from": [first] * 2, "to": [first + seen] * 2, "axes": [2, 3]}
        constants |= {key: np.array(value) for key, value in span.items()}
        made = name if seen == size else f"{name}_cut"
        nodes.append(helper.make_node("Slice", [given, *(f"{name}_{k}" for k in span)], [made]))
        given = made
    if seen != size:
        scale = np.float32(size / seen)
        scale = np.nextafter(scale, scale + 1) if int(seen * scale) < size else scale
        constants["scales"] = np.array([1, 1, scale, scale], np.float32)
        nodes.append(
            helper.make_node("Resize", [given, "", f"{name}_scales"], [name], mode="linear")
        )
    return [*(_constant(f"{name}_{k}", value) for k, value in constants.items()), *nodes]


def _laid_onto(
    grid: tuple[int, ...], name: str, size: tuple[int, int], share: float
) -> list[NodeProto]:
    """Layers that lay a member's map onto the common grid."""
    from onnx import helper

    down, along = (
        laid_out(cells, of, share).astype(np.float32) for cells, of in zip(grid, size, strict=True)
    )
    return [
        _constant(f"{name}_down", down),
        _constant(f"{name}_along", np.ascontiguousarray(along.T)),
        helper.make_node("MatMul", [f"{name}_down", name], [f"{name}_rows"]),
        helper.make_node("MatMul", [f"{name}_rows", f"{name}_along"], [f"{name}_laid"]),
    ]


def _constant(name: str, value: np.ndarray) -> NodeProto:
    """A node, not an initializer as learnt weights are: sanity checks draw those afresh."""
    from onnx import helper, numpy_helper

    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value))


def _check_alike(bundles: Sequence[Bundle]) -> None:
    """Raise where the members answer something else or prepare pictures in another way."""
    first = bundles[0]
    for other in bundles[1:]:
        if other.codes != first.codes:
            raise BundleError(f"{other.folder} answers {other.codes}, {first.folder} {first.codes}")
        ours, theirs = asdict(first.preprocess), asdict(other.preprocess)
        ours |= {"image_size": other.preprocess.image_size}
        ours |= {"crop_fraction": other.preprocess.crop_fraction}
        if apart := [name for name in ours if ours[name] != theirs[name]]:
            name = apart[0]
            raise BundleError(
                f"{first.folder} and {other.folder} differ in preprocess.{name}: {ours[name]} and "
                f"{theirs[name]}; members of one model need the same inputs"
            )


def _map_size(bundle: Bundle) -> tuple[int, int]:
    side = bundle.preprocess.image_size
    maps, _ = Session(bundle, threads=1).run(np.zeros((1, side, side, 3), np.uint8))
    height, width = maps.shape[2:]
    return height, width
