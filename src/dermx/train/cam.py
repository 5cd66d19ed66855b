"""Where did a network look, whatever its layers? Grad-CAM and its kin by automatic differentiation.

For any PyTorch network and any of its layers whose output is a feature map, (b, c, h, w) or, in
timm's channels-last networks such as Swin and MambaOut, (b, h, w, c). The shipped kind, which ends
in global average pooling and one linear layer, needs none of this for its last map:
`dermx.explain.gradcam` has the same numbers in closed form and without PyTorch.

One forward hook, removed when the call ends, also by an error; derivatives are taken by that map
only, so no parameter's `.grad` is written and nothing outlives the call.

Limits: a layer early in the network shows edges more than reasons, and Grad-CAM's averaging of
derivatives can mark places there that did not raise the logit (HiResCAM does not). An output
doesn't say which axis is which: in a channels-last network every layer but a `Conv2d` is taken to
put channels last, in any other the two axes that have the picture's proportions are its places, so
that the layers inside ConvNeXt's blocks, which put channels last, are read rightly as well.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import torch
from torch import Tensor, nn

from dermx.errors import InputError

if TYPE_CHECKING:
    from jaxtyping import Float, Float32

Method = Literal["gradcam", "hirescam", "layercam"]
METHODS: Final = ("gradcam", "hirescam", "layercam")


def cam(
    network: nn.Module,
    pixels: Float[Tensor, "b 3 h w"],
    wanted: int,
    *,
    against: int | None = None,
    layer: str | None = None,
    method: Method = "gradcam",
) -> Float32[np.ndarray, "b y x"]:
    """Map what raised a class's logit.

    Args:
        network: Gives logits (b, classes); it is run in evaluation mode and left as it was.
        pixels: Normalised pictures, of any height and width that the network takes.
        wanted: Index of the class.
        against: Explain the logit's lead over this class's instead (a contrast map).
        layer: Name of a module, as in `network.named_modules()`; the last one that gives a feature
            map when None.
        method: "gradcam" weights channels by their mean derivative; "hirescam" multiplies
            derivative and map cell by cell; "layercam" too, without the negative derivatives.

    Returns:
        One map per picture, at the layer's own resolution, scaled to [0, 1] by its maximum; all 0
        where nothing speaks for the class.

    Raises:
        InputError: There is no such class, layer or method, or the layer gives no feature map.

    Source: Selvaraju et al. 2017 (arXiv:1610.02391), Draelos and Carin 2020 (arXiv:2011.08891),
    Jiang et al. 2021 (doi:10.1109/TIP.2021.3089943).
    """
    if method not in METHODS:
        raise InputError(f"no method {method!r}; known are {', '.join(METHODS)}")
    training = {module for module in network.modules() if module.training}
    network.eval()
    try:
        with torch.enable_grad():
            logits, activation = _forward(network, pixels, layer)
            score = _column(logits, wanted)
            if against is not None:
                if against == wanted:
                    raise InputError(f"a class can't be compared with itself, got {wanted} twice")
                score = score - _column(logits, against)
            (gradient,) = torch.autograd.grad(score.sum(), activation)
    finally:
        for module in training:
            module.training = True
    found = torch.relu(_combined(activation.detach(), gradient, method))  # (b, y, x)
    peak = found.amax(dim=(1, 2), keepdim=True)
    scaled = found / torch.where(peak > 0, peak, torch.ones_like(peak))
    return scaled.float().cpu().numpy()


def last_map(network: nn.Module, pixels: Float[Tensor, "b 3 h w"]) -> str:
    """Name the last module in the order of the forward pass that gives a map larger than one cell.

    Raises:
        InputError: No module does, as in a transformer, whose tokens are no map.
    """
    found: list[str] = []
    hooks = [
        module.register_forward_hook(_note(found, name, network, pixels))
        for name, module in network.named_modules()
        if name
    ]
    try:
        with torch.no_grad():
            network(pixels[:1])
    finally:
        for hook in hooks:
            hook.remove()
    if not found:
        raise InputError(
            f"{type(network).__name__} has no layer that gives a feature map (b, c, h, w); "
            "Grad-CAM is for convolutional networks"
        )
    return found[-1]


def _forward(
    network: nn.Module, pixels: Tensor, layer: str | None
) -> tuple[Float[Tensor, "b classes"], Float[Tensor, "b c y x"]]:
    """Run the network and catch one module's output, with derivatives from there on."""
    name = last_map(network, pixels) if layer is None else layer
    modules = dict(network.named_modules())
    if name not in modules or not name:
        named = [known for known in modules if known]
        near = [known for known in named if known.startswith(name.partition(".")[0])]
        raise InputError(f"no layer {name!r}; layers are {', '.join((near or named)[:5])} …")
    caught: list[Tensor] = []

    def catch(module: nn.Module, _: object, output: object) -> object:
        if not isinstance(output, Tensor) or output.ndim != 4:
            shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise InputError(f"layer {name} gives {shape}, need a feature map (b, c, h, w)")
        channels = _channel_axis(network, module, output, pixels)
        turned = output.movedim(channels, 1)
        caught.append(turned if turned.requires_grad else turned.requires_grad_())
        # a copy, as a ReLU in place behind it must not change what was caught
        return turned.movedim(1, channels).clone()

    with modules[name].register_forward_hook(catch):
        logits = network(pixels)
    if len(caught) != 1:
        raise InputError(
            f"layer {name} ran {len(caught)} times in one pass; name one that runs once"
        )
    return logits, caught[0]


def _channel_axis(network: nn.Module, module: nn.Module, output: Tensor, pixels: Tensor) -> int:
    """Which axis of a map (b, ., ., .) has the channels, 1 or 3."""
    if isinstance(module, nn.Conv2d):
        return 1
    if getattr(network, "output_fmt", None) == "NHWC":  # timm's word for it
        return 3
    height, width = pixels.shape[2:]
    _, one, two, three = output.shape

    def odd(y: int, x: int) -> float:
        """How far a map's proportions are from the picture's; rounding moves them a little."""
        return abs(math.log(y * width / (x * height)))

    return 3 if odd(one, two) < odd(two, three) else 1


def _note(found: list[str], name: str, network: nn.Module, pixels: Tensor):  # type: ignore[no-untyped-def]
    def note(module: nn.Module, _: object, output: object) -> None:
        if not isinstance(output, Tensor):
            return
        if output.ndim == 3:  # tokens: what was made inside are attention's heads, not maps
            found[:] = [inner for inner in found if not inner.startswith(f"{name}.")]
        elif output.ndim == 4:
            channels = _channel_axis(network, module, output, pixels)
            if output.shape[1:].numel() > output.shape[channels]:
                found.append(name)

    return note


def _column(logits: Tensor, index: int) -> Float[Tensor, " b"]:
    if not 0 <= index < logits.shape[1]:
        raise InputError(f"no class {index}; the network has 0 to {logits.shape[1] - 1}")
    return logits[:, index]


def _combined(activation: Tensor, gradient: Tensor, method: Method) -> Float[Tensor, "b y x"]:
    if method == "gradcam":
        gradient = gradient.mean(dim=(2, 3), keepdim=True)
    elif method == "layercam":
        gradient = torch.relu(gradient)
    return (gradient * activation).sum(dim=1)
