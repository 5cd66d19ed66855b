"""Which network, from which weights, and what does it cost in precision?

Any timm network that ends in global average pooling and one linear layer. Its feature map and
that layer's rows are all that the rest of dermx needs.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from dermx.errors import ConfigError, DataError

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8

Precision = Literal["fp32", "bf16", "fp16"]


def build_network(
    architecture: str,
    n_classes: int,
    *,
    dropout: float = 0.0,
    init: Path | None = None,
    pretrained: bool = True,
) -> nn.Module:
    """Make a network on ImageNet weights, with a fresh linear layer, or on those of another run.

    Args:
        architecture: A name that timm knows.
        n_classes: Outputs of the linear layer.
        dropout: Before the linear layer, in [0, 1).
        init: Starting weights, safetensors with timm's keys; their linear layer is used where it
            has as many classes, as that of an earlier run does, and left out otherwise.
        pretrained: Without `init`, let timm download its ImageNet weights; else start at random.

    Raises:
        ConfigError: timm doesn't know the name, or there are no weights to start from.
        DataError: The weights don't fit the network.
    """
    import timm  # two seconds that only training and export pay

    if architecture not in timm.list_models():
        close = timm.list_models(f"*{architecture.split('_')[0]}*")[:5]
        near = f"; near are {', '.join(close)}" if close else ""
        raise ConfigError(f"timm has no network {architecture!r}{near}")
    make: dict[str, Any] = {"num_classes": n_classes, "drop_rate": dropout}
    learnt = False
    if init is not None:
        network = timm.create_model(architecture, pretrained=False, **make)
        learnt = load_start(network, init)
    elif pretrained:
        try:
            network = timm.create_model(architecture, pretrained=True, **make)
        except Exception as error:  # timm and its hub client raise many kinds when offline
            raise ConfigError(
                f"can't download ImageNet weights of {architecture} "
                f"({type(error).__name__}); give a safetensors file with --init FILE"
            ) from error
    else:
        network = timm.create_model(architecture, pretrained=False, **make)
    head = linear_head(network)
    if not isinstance(head, nn.Linear):
        raise ConfigError(f"{architecture} does not end in one linear layer")
    if not learnt:
        nn.init.normal_(head.weight, std=0.01)  # timm's default suits a thousand classes, not
        nn.init.zeros_(head.bias)  # eight: its first loss is four times that of guessing
    return network.to(memory_format=torch.channels_last)


def linear_head(network: nn.Module) -> nn.Linear:
    """Return the layer that turns features into logits."""
    head: nn.Linear = network.get_classifier()  # type: ignore[operator]
    return head


def load_start(network: nn.Module, path: Path) -> bool:
    """Copy the weights of a safetensors file, of any float type.

    Returns:
        Whether its linear layer was copied, too: it is where it has as many classes.
    """
    weights = load_weights(path)
    own = network.state_dict()
    head = {
        f"{name}.{part}"
        for name, module in network.named_modules()
        if module is linear_head(network)
        for part in ("weight", "bias")
    }
    missing = sorted(set(own) - set(weights) - head)
    wrong = [
        key
        for key in own
        if key not in head and key in weights and weights[key].shape != own[key].shape
    ]
    if missing or wrong:
        raise DataError(
            f"{path} does not fit the network: {len(missing)} weights missing, "
            f"{len(wrong)} of another shape, first {(missing + wrong)[0]}"
        )
    learnt = all(key in weights and weights[key].shape == own[key].shape for key in head)
    kept = own.keys() if learnt else own.keys() - head
    network.load_state_dict({**own, **{key: weights[key].to(own[key].dtype) for key in kept}})
    return learnt


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file; nothing in it can run code."""
    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise DataError(f"no weights at {path}") from error
    except Exception as error:  # safetensors raises its own kinds for damaged files
        raise DataError(f"{path} is not a safetensors file: {error}") from error


def choose_precision(wanted: str, device: torch.device) -> Precision:
    """Resolve "auto": fp16 on CUDA, bf16 on a CPU with bf16 instructions, else fp32.

    Raises:
        ConfigError: fp16 is wanted without CUDA; its gradients need a scaler and fast half maths.
    """
    if wanted == "fp16" and device.type != "cuda":
        raise ConfigError("train.precision fp16 needs a CUDA device; use bf16, fp32 or auto")
    if wanted != "auto":
        return wanted  # type: ignore[return-value]
    if device.type == "cuda":
        return "fp16"
    return "bf16" if device.type == "cpu" and cpu_has_bf16() else "fp32"


def cpu_has_bf16() -> bool:
    """Tell whether the CPU multiplies bf16 itself; emulated, it is slower than fp32."""
    read = getattr(torch.cpu, "get_capabilities", None)  # since torch 2.11 or so
    found = read() if read is not None else {}
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))


class Standardize(nn.Module):
    """`dermx.preprocess.normalize` on the device: uint8 (b, s, s, 3) to float (b, 3, s, s)."""

    scale: Tensor
    offset: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        deviation = torch.tensor(std).view(1, 3, 1, 1)
        self.register_buffer("scale", 1 / (255 * deviation))
        self.register_buffer("offset", torch.tensor(mean).view(1, 3, 1, 1) / deviation)

    def forward(self, pixels: UInt8[Tensor, "b s s 3"]) -> Float[Tensor, "b 3 s s"]:
        """Permuting leaves the bytes where they are, which is the channels-last layout."""
        values: Tensor = pixels.permute(0, 3, 1, 2).float() * self.scale - self.offset
        return values


class MapAndFeatures(nn.Module):
    """What is exported: the last feature map and its mean."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Float[Tensor, "b 3 s s"]) -> tuple[Tensor, Tensor]:
        """Return the map (b, c, h, w) and the features (b, c)."""
        feature_map: Tensor = self.network.forward_features(pixels)  # type: ignore[operator]
        return feature_map, feature_map.mean((2, 3))
