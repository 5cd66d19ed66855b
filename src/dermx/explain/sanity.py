"""Does the map depend on what the model has learnt? Then it must not survive unlearning it.

Adebayo et al.: replace the learnt weights by random ones, layer after layer from the answer back to
the pixels, and compare the map before and after. A method whose map stays as it was draws the
picture's edges, not the model's reasons.

Here a layer's weights are drawn afresh as before a training, with the spread that keeps a signal's
size from layer to layer (He et al. 2015, arXiv:1502.01852): shuffling the learnt ones instead was
tried first and left maps that are the same everywhere, which would pass any such test.

Source: Adebayo et al. 2018, arXiv:1810.03292.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from dermx.errors import BundleError, InputError, needs
from dermx.model.bundle import Bundle
from dermx.model.quantize import dequantized

if TYPE_CHECKING:
    from jaxtyping import Float

STAGES: Final = (
    0.0,
    0.25,
    0.5,
    0.75,
    1.0,
)  # of the network's layers, from its end; the head always
LAYERS: Final = ("Conv", "Gemm", "MatMul", "BatchNormalization")  # have learnt weights
ACTIVATIONS: Final = frozenset({"Clip", "Relu", "LeakyRelu", "HardSwish", "Sigmoid", "Gelu", "Erf"})
PASSES_BELOW: Final = (
    0.3  # rank correlation with the map of the trained model, all weights drawn afresh
)


@contextmanager
def forgotten(bundle: Bundle, share: float, seed: int) -> Iterator[Bundle]:
    """Make a model whose head and last layers have forgotten what they learnt.

    Args:
        bundle: The trained model.
        share: Of the network's layers whose weights are drawn afresh, from its end, in [0, 1].
        seed: Of the draws.

    Yields:
        A bundle that can be opened until the block is left.

    Raises:
        BundleError: The network was rewritten for speed (`dermx.model.batching`).
        InputError: The share is not in [0, 1].
        MissingExtraError: The package onnx is not installed.
    """
    if not 0 <= share <= 1:
        raise InputError(f"share must be in [0, 1], got {share}")
    with needs("drawing a network's weights afresh", "train"):
        import onnx  # here: answering needs no onnx
    rng = np.random.default_rng(seed)
    model = dequantized(bundle.network.read_bytes())
    if any(node.op_type == "Scan" for node in model.graph.node):
        raise BundleError(
            f"{bundle.folder} hides its first layers, as `dermx export` writes them; "
            "its run's own bundle is needed"
        )
    layers = [
        node for node in _last_first(model) if node.op_type in LAYERS and _learnt(model, node)
    ]
    for node in layers[: round(share * len(layers))]:
        _draw_afresh(model, node, rng)
    weight = rng.normal(0, bundle.weight.std(), bundle.weight.shape).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / bundle.network.name
        onnx.save(model, str(path))
        yield replace(bundle, network=path, weight=weight, bias=np.zeros_like(bundle.bias))


def rank_correlation(one: Float[np.ndarray, "h w"], other: Float[np.ndarray, "h w"]) -> float:
    """Spearman's correlation of two maps' cells; 0 where one of them is the same everywhere.

    >>> rank_correlation(np.array([[1.0, 2], [3, 4]]), np.array([[1.0, 20], [30, 400]]))
    1.0
    """
    first, second = _ranks(one.ravel()), _ranks(other.ravel())
    first, second = first - first.mean(), second - second.mean()
    spread = np.sqrt((first**2).sum() * (second**2).sum())
    return float((first * second).sum() / spread) if spread > 0 else 0.0


def likeness(before: Float[np.ndarray, "h w"], after: Float[np.ndarray, "h w"]) -> float:
    """Rank correlation of a trained model's map with another; NaN where it marks no place.

    A map that is the same everywhere, as one of a single cell is, correlates with nothing: counted
    as 0, it would pass a check that it can't fail.
    """
    return rank_correlation(before, after) if np.ptp(before) > 0 else float("nan")


def _ranks(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Ranks from 0; equal values share the mean of theirs."""
    _, member, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts + 1) / 2)[member])


def _last_first(model: Any) -> list[Any]:
    """The nodes by how many follow; of networks side by side, the last of each come first."""
    followed_by: dict[str, int] = {}  # of a value, on the longest way to the end
    counted = []
    for node in reversed(model.graph.node):
        count = max((followed_by.get(name, 0) for name in node.output), default=0)
        counted.append((count, node))
        for name in node.input:
            followed_by[name] = max(followed_by.get(name, 0), count + 1)
    return [node for _, node in sorted(counted, key=lambda one: one[0])]


def _learnt(model: Any, node: Any) -> list[Any]:
    """The weights of a layer, in the order of its inputs."""
    known = {weights.name: weights for weights in model.graph.initializer}
    return [known[name] for name in node.input if name in known]


def _draw_afresh(model: Any, node: Any, rng: np.random.Generator) -> None:
    """Normal weights, no bias; twice the variance before an activation, which halves it."""
    from onnx import numpy_helper

    followed = {after.op_type for after in model.graph.node if set(node.output) & set(after.input)}
    for number, weights in enumerate(_learnt(model, node)):
        values = numpy_helper.to_array(weights)
        if node.op_type == "BatchNormalization":  # scale, shift, mean, variance
            drawn = np.full(values.shape, 1.0 if number in (0, 3) else 0.0)
        elif values.ndim < 2:
            drawn = np.zeros(values.shape)
        else:
            # A convolution's rows are its outputs; a product's columns are.
            fan_in = values[0].size if node.op_type == "Conv" else values.shape[0]
            gain = 2 if followed & ACTIVATIONS else 1
            drawn = rng.normal(0, np.sqrt(gain / fan_in), values.shape)
        weights.CopyFrom(numpy_helper.from_array(drawn.astype(values.dtype), weights.name))
