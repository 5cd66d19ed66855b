"""How is one model trained? `fit` reads top to bottom.

It stands on accelerate, so `accelerate launch` and `torchrun` run it over several processes
unchanged; each then sees its share of every global batch.
"""

from __future__ import annotations

import copy
import ctypes
import json
import platform
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState
from timm.layers import convert_sync_batchnorm  # type: ignore[attr-defined]
from torch import Tensor, nn

from dermx.config import Config, TrainConfig
from dermx.errors import ConfigError
from dermx.model.runtime import usable_cores
from dermx.records import write_whole
from dermx.train.cache import PixelCache
from dermx.train.checkpoint import Progress, load_checkpoint, save_checkpoint, save_tensors
from dermx.train.dataset import EpochBatches, TrainSet, load_batches
from dermx.train.guide import Guide
from dermx.train.losses import ClassLoss
from dermx.train.mix import draw_mixture, mix, partners
from dermx.train.network import Standardize, build_network, choose_precision
from dermx.train.processes import join_processes, processes_here, require_shares
from dermx.train.sampling import epoch_counts
from dermx.train.stages import parameter_groups, staged_rate, start_stage

if TYPE_CHECKING:
    from jaxtyping import Float32, Int, UInt8

Score: TypeAlias = (
    "Callable[[Int[np.ndarray, ' n'], Float32[np.ndarray, 'n classes']], dict[str, float]]"
)


class Track(Protocol):
    """Shows progress over what it hands on."""

    def __call__(self, items: Iterable[Any], what: str, total: int, unit: int = 1) -> Iterable[Any]:
        """Hand on `total` items, each worth `unit` pictures, under the heading `what`."""
        ...


def quiet(items: Iterable[Any], what: str, total: int, unit: int = 1) -> Iterable[Any]:
    """Show nothing."""
    return items


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Decoded pictures of one part with their class indices and what else is known of them."""

    cache: PixelCache
    labels: Int[np.ndarray, " n"]
    guide: Guide = field(default_factory=Guide)


def fit(
    train: Pictures,
    val: Pictures,
    config: Config,
    out: Path,
    *,
    n_classes: int,
    score: Score,
    init: Path | None = None,
    pretrained: bool = True,
    resume: bool = False,
    digest: str = "",
    track: Track = quiet,
    say: Callable[[str], None] = print,
) -> Progress:
    """Train one network and keep its averaged weights in `out/best.safetensors`.

    Args:
        train: Pictures at least as large as the input, any shape.
        val: Finished inputs, (s, s, 3) each, made by `dermx.preprocess.pipeline.prepare`.
        config: All settings.
        out: Where `checkpoint.safetensors`, `best.safetensors` and `history.jsonl` go.
        n_classes: Number of logits.
        score: Labels and logits to figures; unless the last epoch is kept, the one with the largest
            "balanced_accuracy" is.
        init: Starting weights; see `build_network`.
        pretrained: Without `init`, download ImageNet weights; else start at random.
        resume: Go on from the last finished epoch, where there is one; `init` is then not read.
        digest: What the run depends on; resuming with another one is refused.
        track: Shows progress within an epoch.
        say: Shows one line per epoch.

    Raises:
        ConfigError: The batch can't be split, or a resumed run has other settings, or these ask
            for a curriculum or a teacher that the training pictures don't come with; or training
            diverged.
    """
    settings = config.train
    check_guide(train, settings, n_classes)
    digest = train.guide.digest(digest)
    staged = settings.head_epochs > 0 or settings.frozen_layers > 0
    accelerator = make_accelerator(settings.precision, staged=staged)
    device, world = accelerator.device, accelerator.num_processes
    require_shares(settings.batch_size, world)
    keep_freed_memory()
    torch.set_float32_matmul_precision("high")  # TF32 for what is left in fp32
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(settings.seed)

    saved = out / "checkpoint.safetensors"
    resume = resume and saved.is_file()  # it has all weights: none to start from are fetched
    network = build_network(
        settings.architecture,
        n_classes,
        dropout=settings.dropout,
        init=None if resume else init,
        pretrained=pretrained and not resume,
    ).to(device)
    if world > 1 and device.type == "cuda":
        network = synchronized(network)
    average = copy.deepcopy(network).eval().requires_grad_(False)
    optimizer = make_optimizer(network, settings, device)
    standardize = Standardize(config.preprocess.mean, config.preprocess.std).to(device)
    batches = EpochBatches(
        train.labels,
        settings,
        difficulty=train.guide.difficulty,
        rank=accelerator.process_index,
        world=world,
    )
    stream = load_batches(  # goes on while an epoch is validated and saved
        TrainSet(train.cache, config.augment, spec=config.preprocess, seed=settings.seed),
        batches,
        workers=loader_processes(settings.workers, device),
        pin_memory=device.type == "cuda",
    )

    progress = Progress(digest=digest)
    if resume:
        progress = load_checkpoint(saved, network, average, optimizer, digest=digest)
        if accelerator.is_main_process:  # killed between the two files, it lacks a row
            write_history(out / "history.jsonl", progress.history)
        if accelerator.scaler is not None and progress.scaler:
            accelerator.scaler.load_state_dict(progress.scaler)
        say(f"resumed after epoch {progress.epoch} of {settings.epochs}")
    model, optimizer = accelerator.prepare(network, optimizer)
    followed, weights = averaged(average, network), list(model.parameters())

    class_counts = np.bincount(train.labels, minlength=n_classes)
    drawn = epoch_counts(class_counts, settings, len(train.labels))
    class_loss = ClassLoss(settings, drawn).to(device)
    per_epoch, batches.first = batches.per_epoch, progress.epoch
    for epoch in range(progress.epoch, settings.epochs):
        seed_epoch(settings.seed, epoch, accelerator.process_index)
        order = [[draw.picture for draw in batch] for batch in batches.of(epoch)]  # the loader's
        # Of the whole epoch: at each batch, the host would have to wait for the GPU to send them.
        labels: Int[Tensor, "steps b"] = torch.from_numpy(train.labels[order]).to(device)
        answers = None
        if train.guide.teacher is not None:
            answers = torch.from_numpy(train.guide.teacher[order]).to(device)
        model.train()
        start_stage(
            network, head_only=epoch < settings.head_epochs, frozen_layers=settings.frozen_layers
        )
        losses = torch.zeros(per_epoch, device=device)
        started = time.perf_counter()
        what = f"epoch {epoch + 1}/{settings.epochs}"
        pictures = track(islice(stream, per_epoch), what, per_epoch, batches.batch_size)
        for i, pixels in enumerate(pictures):
            rate = staged_rate(epoch * per_epoch + i, per_epoch=per_epoch, settings=settings)
            for group in optimizer.param_groups:
                group["lr"] = rate * group.get("lr_scale", 1.0)
            pixels = pixels.to(device, non_blocking=True)  # (b, s, s, 3) uint8
            inputs, own = mix(standardize(pixels), draw_mixture(settings, epoch, i))
            logits = model(inputs).float()  # (b, classes), made in the precision asked for
            truth, taught = labels[i], None if answers is None else answers[i]
            loss = class_loss(logits, truth, taught)
            if own < 1:
                others = None if taught is None else partners(taught)
                loss = own * loss + (1 - own) * class_loss(logits, partners(truth), others)
            optimizer.zero_grad(set_to_none=True)
            accelerator.backward(loss)
            if settings.clip_norm:
                accelerator.clip_grad_norm_(weights, settings.clip_norm)
            optimizer.step()
            progress.averaged_steps += 1
            update_average(followed, settings.ema_decay, progress.averaged_steps)
            losses[i] = loss.detach()
        mean_loss = float(accelerator.reduce(losses.mean(), "mean"))
        seconds = time.perf_counter() - started

        if accelerator.is_main_process:
            logits = predict(average, standardize, val.cache, settings.batch_size)
            if not np.isfinite(logits).all():
                raise ConfigError(
                    f"training diverged in epoch {epoch + 1}: answers are no numbers any more; "
                    f"try a train.learning_rate below {settings.learning_rate:g}"
                )
            figures = score(val.labels, logits)
            val_loss = F.cross_entropy(torch.from_numpy(logits), torch.from_numpy(val.labels))
            row = {
                "epoch": epoch + 1,
                "learning_rate": rate,
                "train_loss": mean_loss,
                "val_loss": float(val_loss),
                **{f"val_{name}": value for name, value in figures.items()},
                "images_per_second": per_epoch * batches.batch_size / seconds,
                "seconds": time.perf_counter() - started,
                **peak_memory(device),
            }
            progress.epoch = epoch + 1
            progress.history.append(row)
            progress.scaler = accelerator.scaler.state_dict() if accelerator.scaler else {}
            if settings.keep == "last" or figures["balanced_accuracy"] > progress.best_score:
                progress.best_score, progress.best_epoch = figures["balanced_accuracy"], epoch + 1
                save_tensors(out / "best.safetensors", average.state_dict(), {"epoch": what})
            save_checkpoint(saved, network, average, optimizer, progress)
            write_history(out / "history.jsonl", progress.history)
            say(describe(row, settings.epochs))
        accelerator.wait_for_everyone()
    return progress


def make_optimizer(
    network: nn.Module, settings: TrainConfig, device: torch.device
) -> torch.optim.AdamW:
    """AdamW over `parameter_groups`.

    On a GPU it is one kernel for many weights, and skips steps of infinite gradients there, where
    the gradient scaler would otherwise have to wait for the GPU to tell, at every step.
    """
    groups = parameter_groups(network, settings)
    fused = True if device.type == "cuda" else None
    return torch.optim.AdamW(groups, lr=settings.learning_rate, fused=fused)


def check_guide(train: Pictures, settings: TrainConfig, n_classes: int) -> None:
    """See that the pictures come with what the settings ask for.

    Raises:
        ConfigError: They don't.
    """
    difficulty, teacher = train.guide.difficulty, train.guide.teacher
    for name, part in (("curriculum", difficulty), ("teacher", teacher)):
        if bool(getattr(settings, name)) != (part is not None):
            state = "is missing" if part is None else "was given, but not asked for"
            raise ConfigError(f"what train.{name} tells of the training pictures {state}")
    n = len(train.labels)
    for found, wanted in ((difficulty, (n,)), (teacher, (n, n_classes))):
        if found is not None and found.shape != wanted:
            raise ConfigError(f"a guide of shape {found.shape} doesn't fit, need {wanted}")


def make_accelerator(wanted: str, *, staged: bool = False) -> Accelerator:
    """Join the processes of the run, one or many, in the precision that suits the device.

    Args:
        wanted: See `choose_precision`.
        staged: Some weights have no gradient at times; several processes must look out for that.
    """
    precision = choose_precision(wanted, join_processes().device)
    AcceleratorState._reset_state()  # else a second run in one process keeps the first's precision
    return Accelerator(
        mixed_precision="no" if precision == "fp32" else precision,
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=staged)],
    )


def seed_epoch(seed: int, epoch: int, process: int) -> None:
    """Begin dropout's draws of an epoch: epochs stand on their own, and so do processes."""
    apart = process * 2_654_435_761  # by the golden ratio of 2**32: a CPU's draws heed 32 bits only
    torch.manual_seed(seed * 1_000_003 + epoch + apart)


def synchronized(network: nn.Module) -> nn.Module:
    """Let batch normalisation see the batches of all GPUs, not each its share.

    By timm's own conversion: PyTorch's drops the activation that timm's layers have in them.
    """
    found: nn.Module = convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
    return found


def loader_processes(wanted: int, device: torch.device) -> int:
    """Count the processes that load pictures.

    Changing a picture takes 0.4 ms, a CPU's training step 25 ms of it: there, processes only get
    in the way. A GPU is a hundred times as fast and needs several; the processes of one machine
    share its cores.
    """
    if wanted >= 0:
        return wanted
    return 0 if device.type == "cpu" else max(1, min(8, usable_cores() // processes_here()))


class Averaged(NamedTuple):
    """The tensors of a running average beside those that it follows, in the same order."""

    slow: list[Tensor]
    fast: list[Tensor]
    slow_counts: list[Tensor]  # of batches, by BatchNorm: copied, as they are no averages
    fast_counts: list[Tensor]


def averaged(average: nn.Module, network: nn.Module) -> Averaged:
    """Find the tensors once: looking 300 up at every step takes longer than to average them."""
    pairs = list(zip(average.state_dict().values(), network.state_dict().values(), strict=True))
    moved = [pair for pair in pairs if pair[0].is_floating_point()]
    counts = [pair for pair in pairs if not pair[0].is_floating_point()]
    return Averaged(
        [slow for slow, _ in moved],
        [fast for _, fast in moved],
        [slow for slow, _ in counts],
        [fast for _, fast in counts],
    )


@torch.no_grad()
def update_average(tensors: Averaged, decay: float, step: int) -> None:
    """Move the running average towards the network, faster in the first steps.

    Args:
        tensors: The slow ones are changed in place; BatchNorm statistics are averaged too.
        decay: In [0, 1); 0 copies.
        step: Steps done, this one included.
    """
    keep = min(decay, (1 + step) / (10 + step)) if decay else 0.0
    # A few kernels for all: a GPU has moved one weight before it is asked for the next.
    torch._foreach_lerp_(tensors.slow, tensors.fast, 1 - keep)
    if tensors.slow_counts:
        torch._foreach_copy_(tensors.slow_counts, tensors.fast_counts)


@torch.no_grad()
def predict(
    network: nn.Module, standardize: nn.Module, cache: PixelCache, batch_size: int
) -> Float32[np.ndarray, "n classes"]:
    """Logits of finished inputs, in fp32 as at deployment, or TF32 on a GPU that has it."""
    device = next(network.parameters()).device
    network.eval()
    logits = []
    for start in range(0, len(cache), batch_size):
        stop = min(start + batch_size, len(cache))
        pixels: UInt8[Tensor, "b s s 3"] = torch.from_numpy(
            np.stack([cache[i] for i in range(start, stop)])
        )
        logits.append(network(standardize(pixels.to(device))).float().cpu().numpy())
    return np.concatenate(logits)


def peak_memory(device: torch.device) -> dict[str, float]:
    """Largest memory so far in MiB: of the process, and on the GPU where there is one."""
    peak = {}
    if sys.platform != "win32":  # which has no such module
        import resource

        unit = 2**20 if sys.platform == "darwin" else 2**10  # ru_maxrss is in bytes there
        peak["peak_memory_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    if device.type == "cuda":
        peak["peak_gpu_memory_mib"] = torch.cuda.max_memory_allocated(device) / 2**20
    return peak


def write_history(path: Path, rows: list[dict[str, float]]) -> None:
    """Write one JSON object per line and epoch."""
    with write_whole(path) as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows).encode())


def describe(row: dict[str, float], epochs: int) -> str:
    """Return one line for people."""
    return (
        f"epoch {row['epoch']:.0f}/{epochs}: loss {row['train_loss']:.3f}, "
        f"validation loss {row['val_loss']:.3f}, "
        f"balanced accuracy {row['val_balanced_accuracy']:.3f}, "
        f"{row['images_per_second']:.0f} images/s, {row['seconds']:.0f} s"
    )


def keep_freed_memory() -> None:
    """Tell glibc to keep freed memory instead of handing it back after every step.

    A CPU's training step frees and asks for hundreds of MiB; page faults then cost up to half of
    the time. Does nothing where there is no glibc.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    trim_threshold, top_pad, mmap_threshold = -1, -2, -3  # names in malloc.h
    for option, value in ((trim_threshold, 2**31 - 1), (top_pad, 2**28), (mmap_threshold, 2**30)):
        libc.mallopt(option, value)
