"""How does a batch of pictures become feature maps? Through ONNX Runtime, on the CPU.

The network gives the map and its mean; the linear layer after it is done here in NumPy, so that
everything built on it (class maps, dropout, distances) uses the same numbers.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from dermx.errors import BundleError, InputError
from dermx.model.bundle import Bundle
from dermx.preprocess.normalize import normalize

if TYPE_CHECKING:
    from jaxtyping import Float32, UInt8

INPUT, MAP, FEATURES = "pixels", "map", "features"  # names in the ONNX file
CHUNK = 1  # pictures per call and thread: more at once are no faster and need more memory


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
        self._chunk = CHUNK * options.intra_op_num_threads
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
        inputs = [node.name for node in self._session.get_inputs()]
        outputs = {node.name: node.shape for node in self._session.get_outputs()}
        if inputs != [INPUT] or not {MAP, FEATURES} <= set(outputs):
            raise BundleError(
                f"{bundle.network} maps {inputs} to {list(outputs)}; "
                f"need [{INPUT!r}] to {[MAP, FEATURES]}; export it with `dermx export`"
            )
        width = outputs[FEATURES][-1]
        if isinstance(width, int) and width != bundle.weight.shape[1]:
            raise BundleError(
                f"{bundle.network} gives {width} features, "
                f"the linear layer takes {bundle.weight.shape[1]}"
            )
        self.bundle = bundle

    def run(
        self, pixels: UInt8[np.ndarray, "n s s 3"]
    ) -> tuple[Float32[np.ndarray, "n c h w"], Float32[np.ndarray, "n c"]]:
        """Turn prepared pictures into feature maps and their means.

        Args:
            pixels: RGB at the model's input size, from `dermx.preprocess.pipeline.prepare`.

        Raises:
            InputError: The pictures have another type or size than the model's input.
        """
        spec = self.bundle.preprocess
        wanted = (spec.image_size, spec.image_size, 3)
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != wanted:
            raise InputError(
                f"need uint8 pictures of shape (n, {', '.join(map(str, wanted))}), "
                f"got {pixels.dtype} {pixels.shape}"
            )
        values = np.empty((self._chunk, 3, *wanted[:2]), np.float32)  # one piece of memory for all
        parts = []
        for chunk in np.split(pixels, range(self._chunk, len(pixels), self._chunk)):
            given = normalize(chunk, spec.mean, spec.std, out=values[: len(chunk)])
            parts.append(self._session.run([MAP, FEATURES], {INPUT: given}))
        maps, features = zip(*parts, strict=True)
        return np.concatenate(maps), np.concatenate(features)

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


def usable_cores() -> int:
    """Cores this process may run on: the affinity mask where the system has one."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
