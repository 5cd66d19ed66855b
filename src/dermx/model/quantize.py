"""How does a network become less than a third as large? In 8-bit integers.

Static quantisation: every channel's weights get their own scale, every activation's range is taken
from a sample of training pictures. Rounding moves the mean of what a channel says, the same way for
every picture, so biases are then shifted until it is back. The first two convolutions are left in
floating point: they are the most sensitive, and with so few channels no faster in integers.
What rounding still costs, `dermx.train.rounding` takes back.
Weights use 7 of the 8 bits: CPUs without VNNI add two products in 16 bits, which 8 would overflow,
and would answer otherwise; so the answers are the same everywhere.

Limits: it is faster only on CPUs with 8-bit dot products (VNNI, Arm's dotprod), and it answers a
little otherwise; measure what it costs on pictures of its own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from dermx.errors import InputError, needs
from dermx.model.runtime import INPUT

if TYPE_CHECKING:
    from jaxtyping import Float32, Float64

FLOAT_LAYERS: Final = 2  # convolutions from the start that stay in floating point
BATCH: Final = 16  # pictures per step of the calibration


def quantize(
    network: bytes, inputs: Float32[np.ndarray, "n 3 s s"], *, float_layers: int = FLOAT_LAYERS
) -> bytes:
    """Quantise a network's convolutions.

    Args:
        network: ONNX, as `dermx.train.export.to_onnx` writes it.
        inputs: Normalised training pictures; a hundred are enough.
        float_layers: Convolutions from the start that are left as they are.

    Returns:
        An ONNX model with the same input and outputs.

    Raises:
        InputError: There is no picture, or the network is quantised already.
        MissingExtraError: The package onnx is not installed.
    """
    if len(inputs) == 0:
        raise InputError("quantising needs pictures to measure activations on")
    with needs("quantising", "train"):
        import onnx
        from onnxruntime import quantization
        from onnxruntime.quantization.shape_inference import quant_pre_process
    kinds = {node.op_type for node in onnx.load_model_from_string(network).graph.node}
    if "QuantizeLinear" in kinds:
        raise InputError("the network is in 8-bit integers already")
    with tempfile.TemporaryDirectory() as folder:
        given, plain, small = (str(Path(folder) / f"{i}.onnx") for i in range(3))
        Path(given).write_bytes(network)
        quant_pre_process(given, plain, skip_symbolic_shape=True)
        convolutions = [n.name for n in onnx.load(plain).graph.node if n.op_type == "Conv"]
        quantization.quantize_static(
            plain,
            small,
            _reader(inputs),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            reduce_range=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            calibrate_method=quantization.CalibrationMethod.MinMax,
            nodes_to_exclude=convolutions[:float_layers],
        )
        model = onnx.load(small)
        _correct_biases(model, onnx.load(plain), inputs)
        return bytes(model.SerializeToString())


def _correct_biases(model: Any, before: Any, inputs: Float32[np.ndarray, "n 3 s s"]) -> None:
    """Shift the biases of a quantised model until each channel's mean is that of `before`.

    From the first convolution to the last, as each is fed by those before it.

    Source: Nagel et al. 2019, Data-free quantization through weight equalization and bias
    correction, appendix D (the empirical correction).
    """
    from onnx import numpy_helper

    names = {node.name: node.output[0] for node in before.graph.node if node.op_type == "Conv"}
    means = dict(zip(names, _channel_means(before, list(names.values()), inputs), strict=True))
    behind = {n.output[0]: n.input for n in model.graph.node if n.op_type == "DequantizeLinear"}
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        bias = behind.get(node.input[2]) if node.op_type == "Conv" and len(node.input) > 2 else None
        if bias is None:  # no convolution, one in floating point, or one without a bias
            continue
        whole, scale = (stored[name] for name in bias[:2])
        [mean] = _channel_means(model, [node.output[0]], inputs)
        steps = np.rint((means[node.name] - mean) / numpy_helper.to_array(scale))
        shifted = numpy_helper.to_array(whole) + steps.astype(np.int32)
        whole.CopyFrom(numpy_helper.from_array(shifted, whole.name))


def _channel_means(
    model: Any, outputs: list[str], inputs: Float32[np.ndarray, "n 3 s s"]
) -> list[Float64[np.ndarray, " channels"]]:
    """Mean over pictures and places of each named value; layers behind the last don't run."""
    import onnx
    import onnxruntime

    part = onnx.ModelProto()
    part.CopyFrom(model)
    del part.graph.output[:]
    part.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in outputs)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # it warns of every layer that doesn't run
    session = onnxruntime.InferenceSession(
        part.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    sums = [
        [value.sum(axis=(0, 2, 3), dtype=np.float64) / value[0, 0].size for value in values]
        for start in range(0, len(inputs), BATCH)
        for values in [session.run(None, {INPUT: inputs[start : start + BATCH]})]
    ]
    return [np.sum(one, axis=0) / len(inputs) for one in zip(*sums, strict=True)]


def dequantized(network: bytes) -> Any:
    """Return the ONNX model in floating point that a quantised one stands for.

    The weights are those that the integers mean; what an activation's range cut off is still cut
    off, which holds the activation functions that quantising folded into it. A network that isn't
    quantised comes back as it is.

    Raises:
        MissingExtraError: The package onnx is not installed.
    """
    with needs("reading a quantised network", "train"):
        import onnx
    model = onnx.load_model_from_string(network)
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    nodes: list[Any] = []
    ranges: dict[str, list[str]] = {}  # of an activation in integers: whence it came, its ends
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            values, scale, zero = node.input
            kind = np.iinfo(stored[zero].dtype)
            ends = [(end - float(stored[zero])) * stored[scale] for end in (kind.min, kind.max)]
            names = [f"{node.output[0]}_{end}" for end in ("low", "high")]
            stored |= {n: np.array(e, np.float32) for n, e in zip(names, ends, strict=True)}
            ranges[node.output[0]] = [values, *names]
        elif node.op_type == "DequantizeLinear" and node.input[0] in ranges:
            nodes.append(onnx.helper.make_node("Clip", ranges[node.input[0]], node.output))
        elif node.op_type == "DequantizeLinear":
            whole, scale, zero = (stored[name].astype(np.float32) for name in node.input)
            shape = [-1] + [1] * (whole.ndim - 1) if scale.ndim else []
            stored[node.output[0]] = (whole - zero.reshape(shape)) * scale.reshape(shape)
        else:
            nodes.append(node)
    used = {name for node in nodes for name in node.input}
    weights = [
        onnx.numpy_helper.from_array(values, name)
        for name, values in stored.items()
        if name in used
    ]
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(weights)
    return model


def _reader(inputs: Float32[np.ndarray, "n 3 s s"]) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Batches(CalibrationDataReader):  # type: ignore[misc]
        """Hands the pictures on a batch at a time."""

        def __init__(self) -> None:
            self.batches: Iterator[np.ndarray] = iter(
                np.split(inputs, range(BATCH, len(inputs), BATCH))
            )

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self.batches, None)
            return None if batch is None else {INPUT: batch}

    return Batches()
