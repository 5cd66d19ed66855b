"""What more is known about the training pictures? How hard each is, and what a teacher says of it.

Both come from files that the settings name and are matched by the pictures' names. A teacher that
was trained on these pictures is too sure of them: use out-of-fold predictions or an ensemble's.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dermx.config import TrainConfig
from dermx.diagnoses import CODES
from dermx.errors import DataError
from dermx.records import Predictions, softmax

if TYPE_CHECKING:
    from jaxtyping import Float, Float32


@dataclass(frozen=True, kw_only=True, eq=False)
class Guide:
    """What is known about n pictures, in their order; None where nothing is."""

    difficulty: Float[np.ndarray, " n"] | None = None  # any scale, larger is harder
    teacher: Float32[np.ndarray, "n classes"] | None = None  # probabilities

    def digest(self, digest: str) -> str:
        """Return a digest of this and another digest; the other alone where nothing is known."""
        known = [part for part in (self.difficulty, self.teacher) if part is not None]
        if not known:
            return digest
        content = b"".join(str((a.shape, a.dtype)).encode() + a.tobytes() for a in known)
        return hashlib.sha256(digest.encode() + content).hexdigest()


def read_guide(settings: TrainConfig, images: Sequence[str]) -> Guide:
    """Read the files that `train.curriculum` and `train.teacher` name, where they name any.

    Args:
        settings: The names of the files.
        images: Names of the training pictures.

    Raises:
        DataError: A file is missing or malformed, or lacks one of the pictures.
    """
    return Guide(
        difficulty=read_scores(Path(settings.curriculum), images) if settings.curriculum else None,
        teacher=read_teacher(list(map(Path, settings.teacher)), images)
        if settings.teacher
        else None,
    )


def read_scores(path: Path, images: Sequence[str]) -> Float[np.ndarray, " n"]:
    """Read a CSV file with the columns `image` and `score`; pictures not asked for may be in it.

    Raises:
        DataError: The file can't be read, names a picture twice or lacks one, or a score is none.
    """
    scores: dict[str, float] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for row in csv.DictReader(file):
                if row["image"] in scores:
                    raise DataError(f"{path} has two scores of {row['image']}")
                scores[row["image"]] = float(row["score"])
    except OSError as error:
        raise DataError(f"can't read {path}: {error.strerror}") from error
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise DataError(f"{path} is not a table of image and score: {error}") from error
    _need(path, images, scores)
    values = np.array([scores[image] for image in images], dtype=np.float64)
    if not np.isfinite(values).all():
        raise DataError(f"{path} has a score that is no number, of {images[_first_odd(values)]}")
    return values


def read_teacher(paths: Sequence[Path], images: Sequence[str]) -> Float32[np.ndarray, "n classes"]:
    """Read the probabilities of files of predictions; pictures not asked for may be in them.

    Several teachers are one, as several networks are one model: the mean of their logits.

    Raises:
        DataError: A file is none, is of other classes, names a picture twice or lacks one, or
            holds something that is no number.
    """
    logits = np.mean([_read_logits(path, images) for path in paths], axis=0)
    return softmax(logits).astype(np.float32)


def _read_logits(path: Path, images: Sequence[str]) -> Float32[np.ndarray, "n classes"]:
    said = Predictions.load(path)
    if said.codes != CODES:
        raise DataError(f"{path} is of the classes {', '.join(said.codes)}, not of this model's")
    rows = {image: i for i, image in enumerate(said.images)}
    if len(rows) < len(said.images):
        raise DataError(f"{path} has {len(said.images) - len(rows)} pictures twice")
    _need(path, images, rows)
    logits = said.logits[[rows[image] for image in images]]
    if not np.isfinite(logits).all():
        raise DataError(f"{path} has logits that are no numbers, of {images[_first_odd(logits)]}")
    return logits


def _need(path: Path, images: Sequence[str], known: dict[str, float] | dict[str, int]) -> None:
    if missing := [image for image in images if image not in known]:
        raise DataError(f"{path} lacks {len(missing)} of the training pictures, e.g. {missing[0]}")


def _first_odd(values: np.ndarray) -> int:
    return int(np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(axis=1))[0])
