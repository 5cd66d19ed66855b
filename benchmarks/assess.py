"""What does a trusted answer cost, beside single passes and beside writing it down in PyTorch?

One picture, everything: eight views, calibration, gate, 30 dropout samples, prediction set, heat
map. Three measurements in turn, in one run, on the same threads. Told is processor time, the
median of several rounds, and the median of their ratios: other work on the machine lengthens the
clock's time, and that of long work more than that of short, which is also why one pass is timed as
an eighth of eight, and makes it slow for seconds at a time.

passes    eight forward passes of one view through ONNX Runtime, one after the other
dermx     `Model.assess` on an RGB array: cut, scale, eight views, and all the arithmetic
pytorch   the straightforward composition: 8 forward passes for the views, 30 with dropout switched
          on, one forward and backward for Grad-CAM, and the same calibration and set in NumPy

    python benchmarks/assess.py [--model BUNDLE] [--run RUN …] [--threads 1] [--rounds 45]

Of a model made of several networks at equal shares, each of PyTorch's passes goes through all of
them. They have the weights of the RUNs (`best.safetensors`) where these are named, one a network,
and the answer is then compared with ours; else weights drawn at random, which cost the same time.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import timm
import torch
from safetensors.torch import load_file
from threadpoolctl import threadpool_limits

from dermx.assess import Model
from dermx.data.phantom import draw_phantom
from dermx.errors import InputError
from dermx.model.bundle import load_bundle
from dermx.preprocess.normalize import normalize
from dermx.preprocess.pipeline import prepare
from dermx.preprocess.views import eight_views
from dermx.trust.uncertainty import SAMPLES, mutual_information, predictive_entropy
from dermx.trust.verdict import Trust


class Composition:
    """A trusted answer as one would write it with PyTorch and hooks."""

    def __init__(self, model: Model, trust: Trust, runs: Sequence[Path]) -> None:
        self.model, self.trust = model, trust
        names = member_names(model.bundle.architecture)
        if runs and len(runs) != len(names):
            raise InputError(f"{len(runs)} runs named for the networks {', '.join(names)}")
        self.networks = torch.nn.ModuleList(
            timm.create_model(name, num_classes=len(model.bundle.codes), drop_rate=0.2)
            for name in names
        )
        for network, run in zip(self.networks, runs, strict=False):
            network.load_state_dict(load_file(run / "best.safetensors"))
        self.networks.eval()
        heads = torch.stack([network.get_classifier().bias.detach() for network in self.networks])
        made = torch.from_numpy(model.bundle.bias) - heads.mean(dim=0)  # `dermx ensemble --adjust`
        self.offset = made if runs else torch.zeros_like(made)

    def logits(self, views: torch.Tensor) -> torch.Tensor:
        """Mean of the networks, (n, classes)."""
        logits = torch.stack([network(views) for network in self.networks]).mean(dim=0)
        return logits + self.offset

    def assess(self, picture: np.ndarray) -> np.ndarray:
        """Do everything; the calibrated probabilities are returned."""
        spec = self.model.bundle.preprocess
        pixels, _ = prepare(picture, spec)
        views = torch.from_numpy(eight_views(normalize(pixels, spec.mean, spec.std)))
        with torch.no_grad():
            logits = torch.cat([self.logits(view[None]) for view in views])
            for module in self.networks.modules():  # Monte Carlo: only dropout is in training mode
                if isinstance(module, torch.nn.Dropout):
                    module.train()
            for network in self.networks:
                network.training = True
            sampled = torch.cat([self.logits(views[:1]) for _ in range(SAMPLES)])
            self.networks.eval()
        probs = self.trust.calibration.probs(logits.mean(dim=0, keepdim=True).numpy())
        dropped = self.trust.calibration.probs(sampled.numpy())
        predictive_entropy(dropped), mutual_information(dropped)
        self.trust.sets.contain(probs)
        self.heat_map(views[:1], int(logits.mean(dim=0).argmax()))
        return np.asarray(probs[0])

    def heat_map(self, view: torch.Tensor, answer: int) -> np.ndarray:
        """Grad-CAM by backpropagation."""
        maps = [network.forward_features(view) for network in self.networks]
        for one in maps:
            one.retain_grad()
        pairs = zip(self.networks, maps, strict=True)
        sum(network.forward_head(one) for network, one in pairs)[0, answer].backward()
        weighted = [(one.grad.mean(dim=(2, 3), keepdim=True) * one).sum(dim=1) for one in maps]
        return torch.stack(weighted).mean(dim=0).relu()[0].detach().numpy()


def member_names(architecture: str) -> list[str]:
    """Names of the networks that a model is made of.

    >>> member_names("2 x mobilenetv2_100 + tf_efficientnet_lite0, int8")
    ['mobilenetv2_100', 'mobilenetv2_100', 'tf_efficientnet_lite0']
    """
    names = []
    for part in architecture.split(" + "):
        count, times, name = part.partition(",")[0].rpartition(" x ")  # ", int8": the same network
        names += [name] * (int(count) if times else 1)
    return names


def timed(work: dict[str, Callable[[], object]], rounds: int) -> dict[str, np.ndarray]:
    """Milliseconds of each in every round, all in turn; two more rounds before warm up."""
    taken: dict[str, list[float]] = {name: [] for name in work}
    for name in list(work) * (rounds + 2):
        started = time.process_time()
        work[name]()
        taken[name].append(1000 * (time.process_time() - started))
    return {name: np.array(times[2:]) for name, times in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="a model's folder; default: the shipped one")
    parser.add_argument(
        "--run", type=Path, nargs="*", default=[], help="the runs it came from, for its weights"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=45)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    threadpool_limits(given.threads)  # NumPy's too: threads that wait spin, and count as work
    cv2.setNumThreads(given.threads)
    model = Model(load_bundle(given.model), given.threads)
    if model.trust is None:
        parser.error(f"{model.bundle.folder} has no trust parts; dermx trust RUN makes them")
    picture = draw_phantom(0).picture
    pixels, _ = prepare(picture, model.bundle.preprocess)
    theirs = Composition(model, model.trust, given.run)

    def ours() -> np.ndarray:
        answer = model.assess(picture)
        answer.heatmap()
        return np.array(list(answer.probabilities.values()))

    if given.run:
        difference = np.abs(ours() - theirs.assess(picture)).max()
        print(f"largest difference of a probability: {difference:.1e}")
    found = timed(
        {
            "passes": lambda: [model.session.run(pixels[None]) for _ in range(8)],
            "dermx": ours,
            "pytorch": lambda: theirs.assess(picture),
        },
        given.rounds,
    )
    height, width = picture.shape[:2]
    print(f"{model.bundle.name}, one picture of {width} x {height}, {given.threads} threads")
    for name, milliseconds in found.items():
        print(f"{name:<8} {np.median(milliseconds):8.1f} ms")
    passes = np.median(8 * found["dermx"] / found["passes"])
    times = np.median(found["pytorch"] / found["dermx"])
    print(f"dermx costs {passes:.2f} passes")
    print(f"dermx costs 1 / {times:.1f} of pytorch")


if __name__ == "__main__":
    main()
