"""Does the map depend on what the model has learnt? Then it must not survive unlearning it.

Adebayo et al.: replace the learnt weights by random ones, layer after layer from the answer back to
the pixels, and compare the map before and after. A method whose map stays as it was draws the
picture's edges, not the model's reasons.

Here a layer's weights are shuffled: its values stay the same and lose their places, so that every
layer goes on giving numbers of the usual size.

Source: Adebayo et al. 2018, arXiv:1810.03292.
"""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Float

from dermx.errors import InputError, MissingExtraError
from dermx.model.bundle import Bundle

STAGES: Final = (
    0.0,
    0.25,
    0.5,
    0.75,
    1.0,
)  # of the network's layers, from its end; the head always
LAYERS: Final = ("Conv", "Gemm", "MatMul", "BatchNormalization")  # have learnt weights
PASSES_BELOW: Final = (
    0.3  # rank correlation with the map of the trained model, all weights shuffled
)


@contextmanager
def shuffled(bundle: Bundle, share: float, seed: int) -> Iterator[Bundle]:
    """Make a model whose head and last layers have forgotten what they learnt.

    Args:
        bundle: The trained model.
        share: Of the network's layers that is shuffled, from its end, in [0, 1].
        seed: Of the shuffling.

    Yields:
        A bundle that can be opened until the block is left.

    Raises:
        InputError: The share is not in [0, 1].
        MissingExtraError: The package onnx is not installed.
    """
    if not 0 <= share <= 1:
        raise InputError(f"share must be in [0, 1], got {share}")
    try:
        import onnx  # here: answering needs no onnx
    except ModuleNotFoundError as error:
        raise MissingExtraError("shuffling a network's weights", "train") from error
    rng = np.random.default_rng(seed)
    model = onnx.load(str(bundle.network))
    layers = _layers(model)
    for names in layers[len(layers) - round(share * len(layers)) :]:
        for name in names:
            _shuffle(model, name, rng)
    weight = rng.permutation(bundle.weight.ravel()).reshape(bundle.weight.shape)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / bundle.network.name
        onnx.save(model, str(path))
        yield replace(bundle, network=path, weight=weight, bias=rng.permutation(bundle.bias))


def rank_correlation(one: Float[np.ndarray, "h w"], other: Float[np.ndarray, "h w"]) -> float:
    """Spearman's correlation of two maps' cells; 0 where one of them is the same everywhere.

    >>> rank_correlation(np.array([[1.0, 2], [3, 4]]), np.array([[1.0, 20], [30, 400]]))
    1.0
    """
    first, second = _ranks(one.ravel()), _ranks(other.ravel())
    first, second = first - first.mean(), second - second.mean()
    spread = np.sqrt((first**2).sum() * (second**2).sum())
    return float((first * second).sum() / spread) if spread > 0 else 0.0


def _ranks(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Ranks from 0; equal values share the mean of theirs."""
    _, member, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts + 1) / 2)[member])


def _layers(model: Any) -> list[Sequence[str]]:
    """Names of the weights of each layer that has some, in the order of the forward pass."""
    known = {weights.name for weights in model.graph.initializer if len(weights.dims) > 0}
    used = [[name for name in node.input if name in known] for node in model.graph.node]
    nodes = zip(used, model.graph.node, strict=True)
    return [names for names, node in nodes if names and node.op_type in LAYERS]


def _shuffle(model: Any, name: str, rng: np.random.Generator) -> None:
    from onnx import numpy_helper

    for weights in model.graph.initializer:
        if weights.name == name:
            values = numpy_helper.to_array(weights)
            mixed = rng.permutation(values.ravel()).reshape(values.shape)
            weights.CopyFrom(numpy_helper.from_array(mixed, name))
