"""How does a batch of pictures become feature maps? Through ONNX Runtime, on the CPU.

The network gives the map and its mean; the linear layer after it is done here in NumPy, so that
everything built on it (class maps, dropout, distances) uses the same numbers.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import numpy as np

from dermx.errors import BundleError, InputError
from dermx.model.bundle import Bundle
from dermx.preprocess.normalize import normalize
from dermx.preprocess.views import VIEWS, views_in_turn

if TYPE_CHECKING:
    from jaxtyping import Float32, UInt8

INPUT, MAP, FEATURES = "pixels", "map", "features"  # names in the ONNX file
IN_TURN = "large_maps_in_turn"  # its metadata says that `dermx.model.batching` has rewritten it
CHUNK = 2  # pictures per call and thread: of more, the large maps leave the cores' caches
TOGETHER = 8  # the same, where large maps are made in turn anyway
MOST = 32  # pictures per call then, for memory

# Channels multiplied at once: OpenBLAS takes one thread for up to 2**18 products. For more it takes
# all, which wait for each other in a loop: on busy cores that took up to 600 ms instead of 0.6.
PIECE: Final = 640


class Session:
    """An opened network; safe to call from several threads."""

    def __init__(self, bundle: Bundle, threads: int | None = None) -> None:
        """Open the network of a bundle.

        Args:
            bundle: The model.
            threads: Used within one `run`; None takes every core this process may use.

        Raises:
            BundleError: ONNX Runtime can't read the file, or its inputs, outputs or number of
                features are not what the bundle needs.
        """
        import onnxruntime  # here: `dermx --help` and training don't need it

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or usable_cores()
        options.inter_op_num_threads = 1  # a chain of layers: nothing to run side by side
        options.log_severity_level = 3  # errors only; they are raised as well
        # Waiting threads sleep instead of spinning: decoding needs the same cores.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(
                str(bundle.network), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its exceptions share no base class
            raise BundleError(f"ONNX Runtime can't open {bundle.network}: {error}") from error
        in_turn = IN_TURN in self._session.get_modelmeta().custom_metadata_map
        n = options.intra_op_num_threads
        self._chunk = min(TOGETHER * n, MOST) if in_turn else CHUNK * n
        inputs = [node.name for node in self._session.get_inputs()]
        outputs = {node.name: node.shape for node in self._session.get_outputs()}
        if inputs != [INPUT] or not {MAP, FEATURES} <= set(outputs):
            raise BundleError(
                f"{bundle.network} maps {inputs} to {list(outputs)}; "
                f"need [{INPUT!r}] to {[MAP, FEATURES]}; export it with `dermx export`"
            )
        side, given = bundle.preprocess.image_size, self._session.get_inputs()[0]
        needed = (None, 3, side, side)  # a name, or nothing, stands for any length
        if given.type != "tensor(float)" or any(
            isinstance(length, int) and length != wanted
            for length, wanted in zip(given.shape, needed, strict=False)
        ):
            raise BundleError(
                f"{bundle.network} takes {given.type} of shape {given.shape}, its bundle says "
                f"pictures of {side} pixels, any number at once; export it with `dermx export`"
            )
        width = outputs[FEATURES][-1]
        if isinstance(width, int) and width != bundle.weight.shape[1]:
            raise BundleError(
                f"{bundle.network} gives {width} features, "
                f"the linear layer takes {bundle.weight.shape[1]}"
            )
        self.bundle = bundle

    def run(
        self, pixels: UInt8[np.ndarray, "n s s 3"], views: int = 1
    ) -> tuple[Float32[np.ndarray, "n*v c h w"], Float32[np.ndarray, "n*v c"]]:
        """Turn prepared pictures into feature maps and their means.

        Args:
            pixels: RGB at the model's input size, from `dermx.preprocess.pipeline.prepare`.
            views: 1, or 8 for the turns and mirror images of each picture, behind each other.

        Raises:
            InputError: The pictures have another type or size than the model's input, or `views`
                is neither 1 nor 8.
        """
        maps, features = zip(*self._passes(pixels, views), strict=True)
        return np.concatenate(maps), np.concatenate(features)

    def features(self, pixels: UInt8[np.ndarray, "n s s 3"]) -> Float32[np.ndarray, "n c"]:
        """As `run`, of one view each and without the maps, which take eighty times the memory."""
        return np.concatenate([features for _, features in self._passes(pixels, 1)])

    def run_evidence(
        self, pixels: UInt8[np.ndarray, "n s s 3"], views: int = 1
    ) -> tuple[Float32[np.ndarray, "n*v classes h w"], Float32[np.ndarray, "n*v c"]]:
        """As `run`, but with the `evidence` that heat maps show, eight numbers a cell, as maps."""
        passes = self._passes(pixels, views)
        weight = self.bundle.map_weight
        cells, features = zip(*((evidence(maps, weight), f) for maps, f in passes), strict=True)
        return np.concatenate(cells), np.concatenate(features)

    def _passes(self, pixels: np.ndarray, views: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        size = self.bundle.preprocess.image_size
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != (size, size, 3):
            raise InputError(
                f"need uint8 pictures of shape (n, {size}, {size}, 3), "
                f"got {pixels.dtype} {pixels.shape}"
            )
        if views not in (1, VIEWS):
            raise InputError(f"views must be 1 or {VIEWS}, got {views}")
        inputs = self._chunks(pixels) if views == 1 else self._turned(pixels)
        for values in inputs:
            maps, features = self._session.run([MAP, FEATURES], {INPUT: values})
            yield maps, features

    def _chunks(self, pixels: np.ndarray) -> Iterator[np.ndarray]:
        spec, size = self.bundle.preprocess, self.bundle.preprocess.image_size
        values = np.empty((self._chunk, 3, size, size), np.float32)  # one piece of memory for all
        for chunk in np.split(pixels, range(self._chunk, len(pixels), self._chunk)):
            yield normalize(chunk, spec.mean, spec.std, out=values[: len(chunk)])

    def _turned(self, pixels: np.ndarray) -> Iterator[np.ndarray]:
        spec = self.bundle.preprocess
        for picture in pixels:
            planes = normalize(picture, spec.mean, spec.std)
            yield from views_in_turn(planes, min(self._chunk, VIEWS))

    def logits(self, features: Float32[np.ndarray, "n c"]) -> Float32[np.ndarray, "n classes"]:
        """Apply this model's linear layer."""
        return linear(features, self.bundle.weight, self.bundle.bias)


def linear(
    features: Float32[np.ndarray, "n c"],
    weight: Float32[np.ndarray, "classes c"],
    bias: Float32[np.ndarray, " classes"],
) -> Float32[np.ndarray, "n classes"]:
    """Features to logits, W·f + b.

    >>> linear(np.float32([[1, 2]]), np.float32([[3, 4], [0, 1]]), np.float32([0.5, 0]))
    array([[11.5,  2. ]], dtype=float32)
    """
    return np.asarray(features @ weight.T + bias, np.float32)


def evidence(
    feature_map: Float32[np.ndarray, "*views c h w"], weight: Float32[np.ndarray, "classes c"]
) -> Float32[np.ndarray, "*views classes h w"]:
    """Apply the linear layer in each cell: what it adds to each class's logit, or takes from it.

    Returns:
        In logits, of any sign: a class's logit is the mean over its cells plus its bias.

    Raises:
        InputError: The number of channels differs from the linear layer's inputs.

    >>> evidence(np.float32([[[0, 1], [2, 5]]]), np.float32([[2], [-1]])).mean(axis=(1, 2))
    array([ 4., -2.], dtype=float32)
    """
    if feature_map.ndim < 3 or weight.ndim != 2 or feature_map.shape[-3] != weight.shape[1]:
        raise InputError(
            f"need a map (c, h, w) and weights (classes, c), "
            f"got {feature_map.shape} and {weight.shape}"
        )
    *views, channels, height, width = feature_map.shape
    cells = feature_map.reshape(*views, channels, height * width)
    starts = range(0, channels, PIECE)
    parts = [weight[:, i : i + PIECE] @ cells[..., i : i + PIECE, :] for i in starts]
    return np.asarray(np.add.reduce(parts).reshape(*views, -1, height, width), np.float32)


def usable_cores() -> int:
    """Cores this process may run on: the affinity mask where the system has one."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
