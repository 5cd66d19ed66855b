"""What of a finished run can go? What commands make again, and what only training goes on from."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

from dermx.config import load_config
from dermx.errors import DataError
from dermx.model.bundle import INDEX
from dermx.runs import read_history, require_run
from dermx.train.cache import leftovers
from dermx.workflow.training import CHECKPOINT

# Predictions are made again by the next command that needs them, `ood/gate.npz` is not among them.
STORED: Final = ("evaluation/*/*.npz", "evaluation/*/*.key", "ood/*_[18].npz", "ood/*_[18].key")
SPARE: Final = (CHECKPOINT, "cache", *STORED)


def prune_run(run: Path, *, say: Callable[[str], None] = print) -> None:
    """Remove what a deployment does not need, also in the folds of a cross-validation.

    The model, its weights, settings, tables, figures and pages stay; so do the out-of-fold
    predictions of a cross-validation. Training can't be resumed afterwards.

    Args:
        run: Folder written by `train_run`, `crossval_run`, `ensemble_run` or `quantize_run`.
        say: Shows what was removed, and how much that frees.

    Raises:
        DataError: The folder is not a run's, or its training is not over.
    """
    require_run(run)
    runs = [run, *sorted(path.parent for path in run.glob("fold-*/cases.csv"))]
    for one in runs:
        _require_finished(one)
    found = [path for one in runs for pattern in SPARE for path in sorted(one.glob(pattern))]
    freed = 0
    for path in [*found, *leftovers(run)]:
        if path.exists():  # else it went with a folder
            size = _size(path)
            shutil.rmtree(path) if path.is_dir() else path.unlink()
            say(f"{path}: removed, {size / 1e6:.1f} MB")
            freed += size
    say(f"{run}: {freed / 1e6:.1f} MB freed" if freed else f"{run}: nothing to remove")


def _require_finished(run: Path) -> None:
    epochs = load_config(run / "config.json").train.epochs
    going_on = (run / CHECKPOINT).is_file() and len(read_history(run)) < epochs
    if going_on or not (run / "bundle" / INDEX).is_file():
        raise DataError(
            f"{run} is not finished, and would lose what it goes on from; "
            "end its training first: --resume"
        )


def _size(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
