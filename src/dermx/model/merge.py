"""How do several models become one? Their networks side by side in one file, one linear layer.

The feature maps are stacked by channel, and the linear layer is each member's, times its weight:
its logits are the weighted mean of the members' logits, and its class maps that of their class
maps, or one member's. So an ensemble is a bundle like any other, and everything that reads bundles
works.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from dermx.errors import BundleError, needs
from dermx.model.bundle import Bundle
from dermx.model.runtime import FEATURES, INPUT, MAP, Session

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Float32


class Merged(NamedTuple):
    """What `write_bundle` takes of a network."""

    network: bytes  # ONNX
    weight: Float32[np.ndarray, "classes c"]
    bias: Float32[np.ndarray, " classes"]
    mapped: Bool[np.ndarray, " c"]


def merge(
    bundles: Sequence[Bundle], weights: Float[np.ndarray, " members"], mapped: int | None = None
) -> Merged:
    """Make one network of several, also of different architectures.

    Args:
        bundles: Made for the same inputs and classes.
        weights: Of the members' logits; a member with weight 0 is left out.
        mapped: Number of the member whose last layer heat maps show; all of them when None.

    Raises:
        BundleError: The members differ in classes, preprocessing, map size or ONNX version, or the
            one to be mapped has no weight.
        MissingExtraError: The package onnx is not installed.
    """
    kept = [(b, float(w)) for b, w in zip(bundles, weights, strict=True) if w != 0]
    if not kept:
        raise BundleError(f"none of {len(bundles)} models has a weight above 0")
    if mapped is not None and weights[mapped] == 0:
        raise BundleError(f"{bundles[mapped].folder} has no share in the answer to be mapped")
    _check_alike([bundle for bundle, _ in kept])
    shown = [b.mapped & (mapped in (None, i)) for i, b in enumerate(bundles) if weights[i] != 0]
    return Merged(
        network=_side_by_side([bundle for bundle, _ in kept]),
        weight=np.concatenate([w * bundle.weight for bundle, w in kept], axis=1, dtype=np.float32),
        bias=np.asarray(sum(w * bundle.bias for bundle, w in kept), np.float32),
        mapped=np.concatenate(shown),
    )


def _side_by_side(bundles: Sequence[Bundle]) -> bytes:
    with needs("making one model of several", "train"):
        import onnx
        from onnx import TensorProto, compose, helper
    members = [
        compose.add_prefix(onnx.load_model(bundle.network), f"member{i}/")
        for i, bundle in enumerate(bundles)
    ]
    opsets = {tuple(sorted((o.domain, o.version) for o in m.opset_import)) for m in members}
    if len(opsets) > 1:
        raise BundleError(f"the models use different ONNX operators, {opsets}; export them again")
    nodes = [
        node
        for i, member in enumerate(members)
        for node in (
            helper.make_node("Identity", [INPUT], [f"member{i}/{INPUT}"]),
            *member.graph.node,
        )
    ]
    nodes += [
        helper.make_node(
            "Concat", [f"member{i}/{name}" for i in range(len(members))], [name], axis=1
        )
        for name in (MAP, FEATURES)
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
        initializer=[tensor for member in members for tensor in member.graph.initializer],
    )
    model = helper.make_model(
        graph,
        opset_imports=members[0].opset_import,
        ir_version=max(member.ir_version for member in members),
    )
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _check_alike(bundles: Sequence[Bundle]) -> None:
    """Raise where the members need different inputs or give maps that can't be stacked."""
    first = bundles[0]
    expected = _map_size(first)
    for other in bundles[1:]:
        if other.codes != first.codes:
            raise BundleError(f"{other.folder} answers {other.codes}, {first.folder} {first.codes}")
        ours, theirs = asdict(first.preprocess), asdict(other.preprocess)
        if apart := [name for name in ours if ours[name] != theirs[name]]:
            name = apart[0]
            raise BundleError(
                f"{first.folder} and {other.folder} differ in preprocess.{name}: {ours[name]} and "
                f"{theirs[name]}; members of one model need the same inputs"
            )
        if (found := _map_size(other)) != expected:
            raise BundleError(
                f"{first.folder} gives maps of {expected}, {other.folder} of {found} cells; "
                "only maps of one size can be stacked"
            )


def _map_size(bundle: Bundle) -> tuple[int, int]:
    side = bundle.preprocess.image_size
    maps, _ = Session(bundle, threads=1).run(np.zeros((1, side, side, 3), np.uint8))
    height, width = maps.shape[2:]
    return height, width
