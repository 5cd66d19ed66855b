"""How long does an explanation take, beside pytorch-grad-cam for the same picture and model?

Both sides start from the same file and end with the class's map at the model's input size; they run
in turn, in one run, on the same threads; each figure is the best of `--repeats`. Ours is one pass
through ONNX Runtime and the closed form; theirs PyTorch, hooks, and a backward pass. The maps are
compared first. Then: what share of an assessment is the explanation, i.e. the maps of all classes
and the heat map of one on the whole picture?

    python benchmarks/explain.py [--run RUN | --networks NAME …] [--images DIR] [--count 16]

Without `--run`, networks with random weights (speed doesn't depend on them), several side by side
as `dermx ensemble` puts them; without `--images`, pictures of 600 x 450 pixels are drawn first.
Needs `dermx[train]` and `grad-cam`.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

from dermx.assess import Model
from dermx.config import PreprocessConfig, load_config
from dermx.data.files import list_pictures
from dermx.data.phantom import draw_phantom
from dermx.diagnoses import CODES
from dermx.explain.gradcam import class_maps, evidence, odds_maps
from dermx.model.bundle import Bundle, load_bundle, write_bundle
from dermx.model.merge import merge
from dermx.model.runtime import usable_cores
from dermx.predict import read_prepared
from dermx.preprocess.normalize import normalize
from dermx.train.cam import last_map
from dermx.train.export import head_arrays, to_onnx
from dermx.train.network import build_network, load_weights


class SideBySide(nn.Module):
    """What `dermx.model.merge` makes of several networks, in PyTorch."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.conv_head = nn.Identity()  # whose output is the whole feature map

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Mean logits of the networks."""
        maps = [network.forward_features(pixels) for network in self.networks]
        features = self.conv_head(torch.cat(maps, dim=1)).mean(dim=(2, 3))
        parts = features.split([one.shape[1] for one in maps], dim=1)
        heads = [network.get_classifier() for network in self.networks]
        logits = [head(part) for head, part in zip(heads, parts, strict=True)]
        return torch.stack(logits).mean(dim=0)


def of_run(run: Path) -> tuple[Bundle, nn.Module]:
    """A run's network as a bundle and in PyTorch."""
    config = load_config(run / "config.json")
    network = build_network(config.train.architecture, len(CODES), pretrained=False)
    network.load_state_dict(load_weights(run / "best.safetensors"))
    return load_bundle(run / "bundle"), network.eval()


def drawn(names: Sequence[str], side: int, folder: Path) -> tuple[Bundle, nn.Module]:
    """The same networks with random weights as one bundle and in PyTorch."""
    spec = PreprocessConfig(image_size=side)
    torch.manual_seed(0)
    networks, bundles = [], []
    for i, name in enumerate(names):
        network = build_network(name, len(CODES), pretrained=False)
        with torch.no_grad():  # spread the random logits, so that maps are more than rounding
            network.get_classifier().weight.normal_()
        exported = to_onnx(network, side)
        bundles.append(written(folder / str(i), name, spec, exported, *head_arrays(network)))
        networks.append(network.eval())
    if len(names) == 1:
        return bundles[0], networks[0]
    made = merge(bundles, np.full(len(names), 1 / len(names)))
    merged = written(
        folder / "merged", " + ".join(names), spec, made.network, made.weight, made.bias
    )
    return merged, SideBySide(networks).eval()


def written(
    folder: Path,
    name: str,
    spec: PreprocessConfig,
    network: bytes,
    weight: np.ndarray,
    bias: np.ndarray,
) -> Bundle:
    return write_bundle(
        folder, name=name, architecture=name, preprocess=spec,
        network_bytes=network, weight=weight, bias=bias, figures={}, card="",
    )  # fmt: skip


def best(work: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Seconds of each, the shortest of several rounds, in turn; the first round does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for name in list(work) * (repeats + 1):
        started = time.perf_counter()
        work[name]()
        seconds[name].append(time.perf_counter() - started)
    return {name: min(taken[1:]) for name, taken in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, help="a run's folder; default: random weights")
    parser.add_argument("--networks", nargs="+", default=["mobilenetv2_100"], metavar="NAME")
    parser.add_argument("--side", type=int, default=224, help="pixels of the networks' input")
    parser.add_argument("--images", type=Path, help="a folder of pictures; default: drawn ones")
    parser.add_argument("--count", type=int, default=16, help="pictures per round")
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(usable_cores())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle, network = (
            of_run(given.run) if given.run else drawn(given.networks, given.side, folder)
        )
        if given.images:
            paths = list_pictures([given.images])[: given.count]
        else:
            paths = [folder / f"{seed}.jpg" for seed in range(given.count)]
            for seed, path in enumerate(paths):
                Image.fromarray(draw_phantom(seed).picture).save(path, quality=92)
        measure(bundle, network, paths, given.repeats)


def measure(bundle: Bundle, network: nn.Module, paths: list[Path], repeats: int) -> None:
    model, spec = Model(bundle), bundle.preprocess
    size = (spec.image_size, spec.image_size)
    layer = [dict(network.named_modules())[last_map(network, torch.zeros(1, 3, *size))]]

    def ours(path: Path) -> np.ndarray:
        maps, features = model.session.run(read_prepared(path, spec).pixels[None])
        answer = int(model.session.logits(features)[0].argmax())
        return cv2.resize(class_maps(maps[0], bundle.weight)[answer], size)

    with GradCAM(model=network, target_layers=layer) as library:

        def theirs(path: Path, target: int | None = None) -> np.ndarray:
            pixels = normalize(read_prepared(path, spec).pixels[None], spec.mean, spec.std)
            targets = None if target is None else [ClassifierOutputTarget(target)]
            return library(input_tensor=torch.from_numpy(pixels), targets=targets)[0]

        gaps = []
        for path in paths:
            mine, other = ours(path), theirs(path)
            lifted = (mine - mine.min()) / max(float((mine - mine.min()).max()), 1e-9)
            gaps.append(float(np.abs(lifted - other).max()))
        print(f"{bundle.name}, {len(paths)} pictures, {usable_cores()} cores; "
              f"largest difference of two maps {max(gaps):.1e}")  # fmt: skip
        seconds = best(
            {
                "dermx": lambda: [ours(path) for path in paths],
                "pytorch-grad-cam": lambda: [theirs(path) for path in paths],
            },
            repeats,
        )
    for name, taken in seconds.items():
        print(f"picture to map  {name:<17} {1000 * taken / len(paths):7.2f} ms")
    print(f"picture to map  dermx is {seconds['pytorch-grad-cam'] / seconds['dermx']:.1f} "
          "times as fast")  # fmt: skip

    weight = bundle.map_weight
    passed = [model.session.run(read_prepared(path, spec).pixels[None]) for path in paths]
    said = [(maps, model.session.logits(features)[0]) for maps, features in passed]
    answers = [model.assess(path) for path in paths]
    parts = best(
        {
            "assess": lambda: [model.assess(path) for path in paths],
            "maps": lambda: [odds_maps(evidence(maps, weight), z) for maps, z in said],
            "heat map": lambda: [answer.heatmap() for answer in answers],
        },
        repeats,
    )
    each = {name: 1000 * taken / len(paths) for name, taken in parts.items()}
    print(f"an assessment   {each['assess']:.2f} ms, of it all classes' maps {each['maps']:.3f} ms "
          f"({each['maps'] / (each['assess'] - each['maps']):.1%} on top of the rest)")  # fmt: skip
    print(f"a heat map on the whole picture {each['heat map']:.3f} ms more: maps and heat map add "
          f"{(each['maps'] + each['heat map']) / (each['assess'] - each['maps']):.1%}")  # fmt: skip


if __name__ == "__main__":
    main()
