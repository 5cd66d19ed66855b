"""How can a network in 8-bit integers say nearly what it said before? It learns how to round.

Each weight can be rounded up or down, and what one rounding does to an answer another can undo.
The quantised network is run in floating point with every rounding in place, its weights move by
gradient until its feature maps are those of the network it was made of, and are rounded again.
There are no labels in this: nothing about lesions is learnt, only the same function.

Limits: networks of the operations below. Scales and ranges stay what calibration made them.

Source: quantisation-aware training with straight-through gradients, Jacob et al. 2018
(arXiv:1712.05877); a network's own answers as the target, Mishra and Marr 2017 (Apprentice,
arXiv:1711.05852).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from dermx.errors import InputError
from dermx.model.runtime import FEATURES, INPUT, MAP
from dermx.train.loop import keep_freed_memory

if TYPE_CHECKING:
    from jaxtyping import Float32

RATE: Final = 0.03  # of learning: largest move of a weight per batch, in steps of its rounding
LARGEST: Final = 64  # of a weight in integers, which leaves one of the 8 bits


def learn_rounding(
    quantized: bytes,
    network: bytes,
    batches: Iterable[Float32[np.ndarray, "n 3 s s"]],
    *,
    steps: int,
    rate: float = RATE,
    say: Callable[[str], None] = lambda line: None,
) -> bytes:
    """Move the integers of a quantised network until its feature maps are the network's own.

    Args:
        quantized: ONNX, from `dermx.model.quantize.quantize`.
        network: The ONNX model that it was made of.
        batches: Normalised training pictures.
        steps: How many batches to learn from; fewer if there are fewer.
        rate: Largest move of a weight per batch at first, in steps of its rounding; falls to 0.
        say: Shows a line after each quarter: how far apart both are, as a share of the variance.

    Returns:
        The quantised model with other integers.

    Raises:
        InputError: There is no step, or the network has an operation that isn't known here.
    """
    if steps < 1:
        raise InputError(f"learning to round needs at least one step, got {steps}")
    keep_freed_memory()
    model = onnx.load_model_from_string(quantized)
    graph = Graph(model)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    teacher = onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
    optimizer = torch.optim.Adam(graph.parameters(), lr=rate)
    fade = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    apart: list[list[float]] = []
    for step, pixels in enumerate(islice(batches, steps), 1):
        wanted = teacher.run([MAP, FEATURES], {INPUT: pixels})
        given = graph(torch.from_numpy(pixels).contiguous(memory_format=torch.channels_last))
        off = [
            functional.mse_loss(given[name], torch.from_numpy(one)) / float(one.var())
            for name, one in zip((MAP, FEATURES), wanted, strict=True)
        ]
        optimizer.zero_grad()
        torch.stack(off).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        fade.step()
        apart.append([one.item() for one in off])
        if step % max(1, steps // 4) == 0:
            maps, features = np.mean(apart, axis=0)
            say(f"rounding, batch {step} of {steps}: maps {maps:.4f}, features {features:.4f} off")
            apart.clear()
    graph.write(model)
    return bytes(model.SerializeToString())


@dataclass(frozen=True)
class _Learnt:
    """A weight or bias that is learnt."""

    value: nn.Parameter  # in steps of the weight's rounding
    scale: Tensor  # (channels,): what such a step is
    whole: str  # name of its integers in the model,
    whole_scale: Tensor  # and what one of these is

    def integers(self) -> Tensor:
        """The value counted in steps of its integers."""
        factor = (self.scale / self.whole_scale).reshape(-1, *[1] * (self.value.ndim - 1))
        steps = self.value.detach().double() * factor
        return (steps.clamp(-LARGEST, LARGEST) if steps.ndim > 1 else steps).round()


class Graph(nn.Module):
    """A quantised ONNX model in PyTorch: all roundings in place, with straight-through gradients.

    Parameters are the convolutions' weights and biases in steps of the weight's rounding.

    Raises:
        InputError: There is an operation that isn't known here.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        unknown = sorted({node.op_type for node in model.graph.node} - set(OPERATIONS))
        if unknown:
            raise InputError(f"can't learn to round a network with {', '.join(unknown)}")
        self.nodes = list(model.graph.node)
        self.outputs = [output.name for output in model.graph.output]
        self.stored = {
            tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy())
            for tensor in model.graph.initializer
        }
        self.learnt = self._learnt()
        self.values = nn.ParameterList(one.value for one in self.learnt.values())

    def _learnt(self) -> dict[str, _Learnt]:
        """Weights and biases of the quantised convolutions, by what they are called there."""
        read = {n.output[0]: n.input for n in self.nodes if n.op_type == "DequantizeLinear"}
        learnt = {}
        for node in self.nodes:
            names = [name for name in node.input[1:] if name in read]
            if node.op_type != "Conv" or not names:  # no convolution, or in floating point
                continue
            scale = self.stored[read[names[0]][1]]
            for name in names:
                whole, own = (self.stored[one] for one in read[name][:2])
                steps = whole.double() * (own / scale).reshape(-1, *[1] * (whole.ndim - 1))
                learnt[name] = _Learnt(nn.Parameter(steps.float()), scale, read[name][0], own)
        return learnt

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """Return every output by its name."""
        known: dict[str, Tensor | None] = {INPUT: pixels, **self.stored}
        for node in self.nodes:
            if node.output[0] in self.learnt:
                known[node.output[0]] = self.rounded(self.learnt[node.output[0]])
            else:
                inputs = [known.get(name) for name in node.input]  # optional ones may be missing
                known[node.output[0]] = OPERATIONS[node.op_type](node, *inputs)
        return {name: value for name in self.outputs if (value := known[name]) is not None}

    def rounded(self, one: _Learnt) -> Tensor:
        """A weight or bias as the integers say it; the gradient goes past the rounding."""
        value: Tensor = one.value
        if value.ndim > 1:  # biases have 32 bits
            inside = value.clamp(-LARGEST, LARGEST)
            value = inside + (inside.round() - inside).detach()
        return value * one.scale.reshape(-1, *[1] * (value.ndim - 1))

    def write(self, model: Any) -> None:
        """Put the integers into the model that this was made of."""
        tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        for one in self.learnt.values():
            kind = self.stored[one.whole].numpy().dtype
            whole = one.integers().numpy().astype(kind)
            tensors[one.whole].CopyFrom(numpy_helper.from_array(whole, one.whole))


class _Rounded(torch.autograd.Function):
    """Round to a grid; the gradient goes past it inside the range and nowhere outside.

    What `torch.fake_quantize_per_tensor_affine` does, faster on a CPU.
    """

    @staticmethod
    def forward(ctx: Any, value: Tensor, step: float, low: float, high: float) -> Tensor:
        ctx.save_for_backward(value)
        ctx.ends = low, high
        return value.clamp(low, high).mul_(1 / step).round_().mul_(step)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (value,) = ctx.saved_tensors
        passed = torch.ops.aten.hardtanh_backward(gradient, value, *ctx.ends)
        return passed, None, None, None


def _quantize(node: Any, value: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    """Round to the grid of an activation, and stay in floating point."""
    kind, step = torch.iinfo(zero.dtype), float(scale)
    ends = ((end - int(zero)) * step for end in (kind.min, kind.max))
    rounded: Tensor = _Rounded.apply(value, step, *ends)
    return rounded


def _dequantize(node: Any, value: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    """An activation has been rounded already; a stored value is read."""
    if value.is_floating_point():
        return value
    shape = [-1] + [1] * (value.ndim - 1) if scale.ndim else []
    return (value.float() - zero.float().reshape(shape)) * scale.reshape(shape)


def _conv(node: Any, value: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    how = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
    top, left, bottom, right = how.get("pads", [0, 0, 0, 0])
    if (top, left) != (bottom, right):
        value, top, left = functional.pad(value, (left, right, top, bottom)), 0, 0
    how = {"stride": how.get("strides", 1), "dilation": how.get("dilations", 1),
           "groups": how.get("group", 1)}  # fmt: skip
    found: Tensor = functional.conv2d(value, weight, bias, padding=(top, left), **how)
    return found


def _mean(node: Any, value: Tensor) -> Tensor:
    how = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
    mean: Tensor = value.mean(dim=list(how["axes"]), keepdim=bool(how.get("keepdims", 1)))
    return mean


OPERATIONS: Final[dict[str, Callable[..., Tensor]]] = {
    "QuantizeLinear": _quantize,
    "DequantizeLinear": _dequantize,
    "Conv": _conv,
    "ReduceMean": _mean,
    "Identity": lambda node, value: value,
    "Add": lambda node, one, other: one + other,
    "Mul": lambda node, one, other: one * other,
    "Relu": lambda node, value: value.relu(),
    "Clip": lambda node, value, low, high: value.clamp(low, high),
    "Sigmoid": lambda node, value: value.sigmoid(),
    "Constant": lambda node: torch.from_numpy(
        numpy_helper.to_array(onnx.helper.get_attribute_value(node.attribute[0])).copy()
    ),
}
