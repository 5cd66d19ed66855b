"""What crosses from one stage to the next: a case, the predictions of many, the answer for one."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

import numpy as np

from dermx.diagnoses import CODES
from dermx.errors import DataError, InputError

if TYPE_CHECKING:
    from jaxtyping import Float, Float32, Int


@dataclass(frozen=True, kw_only=True)
class Case:
    """One picture and what is known about it.

    How a diagnosis was made (HAM10000's `dx_type`) is left out on purpose: it leaks the label.
    """

    image: str  # identifier, unique in a table: the file name without its ending
    path: Path
    diagnosis: str | None  # a code of `dermx.diagnoses.CODES`; None where the truth is not known
    lesion: str  # identifier of the lesion or, for clinical photographs, of the patient
    group: str  # cases of one group never come apart: lesion, duplicates, the same patient
    source: str  # "ham10000", "dermnet", "isic2018", "folder"
    age: float | None = None  # years
    sex: str | None = None  # "female" or "male"
    site: str | None = None  # where on the body


@dataclass(frozen=True, kw_only=True)
class View:
    """The part of the upright picture that the model saw, as fractions of its sides.

    It may reach beyond the picture, where that was padded.
    """

    left: float = 0.0
    top: float = 0.0
    width: float = 1.0
    height: float = 1.0

    def paste(
        self, values: Float[np.ndarray, "h w"], size: tuple[int, int]
    ) -> Float32[np.ndarray, "height width"]:
        """Enlarge a map of the viewed part into the whole picture; 0 where the model saw nothing.

        Args:
            values: A coarse map over the viewed part, any range.
            size: Height and width of the whole picture, pixels.

        Returns:
            The map at the picture's size, bilinear between the cells' centres.
        """
        import cv2  # here, so that tables of records don't need it

        height, width = size
        top, bottom = round(self.top * height), round((self.top + self.height) * height)
        left, right = round(self.left * width), round((self.left + self.width) * width)
        whole = np.zeros((height, width), np.float32)
        y0, y1, x0, x1 = max(top, 0), min(bottom, height), max(left, 0), min(right, width)
        if y1 > y0 and x1 > x0:
            large = cv2.resize(
                values.astype(np.float32),
                (right - left, bottom - top),
                interpolation=cv2.INTER_LINEAR,
            )
            whole[y0:y1, x0:x1] = large[y0 - top : y1 - top, x0 - left : x1 - left]
        return whole


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """What one model said about n cases; everything past the forward pass reads only this.

    One `.npz` file without pickled objects. `labels` is -1 where the truth is not known.
    """

    images: Sequence[str]  # n identifiers
    groups: Sequence[str]  # n; the unit that intervals resample: lesion or patient
    labels: Int[np.ndarray, " n"]
    logits: Float32[np.ndarray, "n classes"]
    features: Float32[np.ndarray, "n features"]
    codes: tuple[str, ...] = CODES
    views: Float32[np.ndarray, "n v classes"] | None = None  # logits of each view, where several

    def __post_init__(self) -> None:
        n = len(self.images)
        lengths = {len(self.groups), len(self.labels), len(self.logits), len(self.features)}
        if lengths != {n}:
            raise InputError(f"need one row per case, got {n} images and lengths {sorted(lengths)}")
        if self.logits.ndim != 2 or self.logits.shape[1] != len(self.codes):
            raise InputError(f"logits have shape {self.logits.shape}, need (n, {len(self.codes)})")
        if self.views is not None and self.views.shape[::2] != self.logits.shape:
            raise InputError(
                f"views have shape {self.views.shape}, need ({n}, views, {len(self.codes)})"
            )

    @property
    def probs(self) -> Float[np.ndarray, "n classes"]:
        """Softmax of the logits, not calibrated; rows sum to 1."""
        return softmax(self.logits)

    def select(self, keep: np.ndarray) -> Self:
        """Return the cases picked by a boolean mask or by indices."""
        index = np.arange(len(self.images))[keep]
        return type(self)(
            images=[self.images[i] for i in index],
            groups=[self.groups[i] for i in index],
            labels=self.labels[index],
            logits=self.logits[index],
            features=self.features[index],
            codes=self.codes,
            views=None if self.views is None else self.views[index],
        )

    def save(self, path: Path) -> None:
        """Write one `.npz` file, whole or not at all."""
        parts: dict[str, Any] = {
            "images": np.array(self.images, dtype=np.str_),
            "groups": np.array(self.groups, dtype=np.str_),
            "labels": self.labels,
            "logits": self.logits,
            "features": self.features,
            "codes": np.array(self.codes, dtype=np.str_),
        }
        if self.views is not None:
            parts["views"] = self.views
        with write_whole(path) as file:
            np.savez(file, **parts)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file written by `save`.

        Raises:
            DataError: The file is missing, damaged or lacks a part.
        """
        try:
            with np.load(path, allow_pickle=False) as parts:
                return cls(
                    images=[str(name) for name in parts["images"]],
                    groups=[str(name) for name in parts["groups"]],
                    labels=parts["labels"],
                    logits=parts["logits"],
                    features=parts["features"],
                    codes=tuple(str(code) for code in parts["codes"]),
                    views=parts.get("views"),
                )
        except Exception as error:  # a damaged archive raises a dozen kinds
            raise DataError(f"{path} is not a predictions file: {error}") from error


@dataclass(frozen=True, kw_only=True, eq=False)
class Assessment:
    """The answer for one picture."""

    image: str  # what was assessed: a path, or "picture" for pixels
    size: tuple[int, int]  # height and width of the upright picture, pixels
    probabilities: Mapping[str, float]  # over the eight codes; sums to 1
    view: View
    maps: Float32[np.ndarray, "classes h w"]  # `odds_maps`: per class, each scaled to [0, 1]
    notes: tuple[str, ...] = ()  # what was done to read the picture, e.g. "first of 12 frames used"
    trust: Mapping[str, Any] = field(
        default_factory=dict
    )  # filled where the bundle has trust parts
    answer: str | None = None  # code, where the answer is not chosen by `probabilities`

    @property
    def prediction(self) -> str:
        """Code of the answer: the class of the highest logit.

        Calibration can make another class more probable than the answer; confidence is then low.
        """
        return self.answer or max(self.probabilities, key=self.probabilities.__getitem__)

    @property
    def confidence(self) -> float:
        """Probability of the predicted class, in [0, 1]."""
        return self.probabilities[self.prediction]

    def heatmap(self, code: str | None = None) -> Float32[np.ndarray, "height width"]:
        """Where the model looked for one class, on the upright picture.

        Args:
            code: One of the eight codes; the predicted class when None.

        Returns:
            Values in [0, 1], 0 outside the part that the model saw.

        Raises:
            InputError: The code is not one of the model's.
        """
        codes = list(self.probabilities)
        code = self.prediction if code is None else code
        if code not in codes:
            raise InputError(f"no class {code!r}; the classes are {', '.join(codes)}")
        return self.view.paste(self.maps[codes.index(code)], self.size)

    def to_dict(self) -> dict[str, Any]:
        """Return the keys of `dermx predict --json`."""
        return {
            "image": self.image,
            "prediction": self.prediction,
            "confidence": self.confidence,
            "probabilities": dict(self.probabilities),
            **self.trust,
        }


def softmax(logits: Float[np.ndarray, "n classes"]) -> Float[np.ndarray, "n classes"]:
    """Logits to probabilities along the last axis, in float64 and without overflow."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    weights = np.exp(shifted)
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True))


def check_cases(values: Float[np.ndarray, "n classes"], labels: Int[np.ndarray, " n"]) -> None:
    """Refuse what no figure can be made of.

    Raises:
        InputError: There is no case, not one label per case, an unknown label, or NaN.
    """
    if len(values) != len(labels) or len(labels) == 0 or values.ndim != 2:
        raise InputError(f"need one label per case, got {values.shape} and {len(labels)} labels")
    if labels.min() < 0 or labels.max() >= values.shape[1]:
        raise InputError(
            f"labels must be 0 to {values.shape[1] - 1}, got {labels.min()} to {labels.max()}"
        )
    if not np.isfinite(values).all():
        raise InputError("logits or probabilities hold NaN or infinity; the model diverged")


class write_whole:  # noqa: N801 - used like `open`
    """Open a file for writing that appears under its name only when it is complete.

    The bytes go to a temporary file in the same folder, renamed at the end; after an error the
    old file, if there was one, is untouched. A file that is replaced hands on its mode: who could
    not read the old one can't read the new one. A link stays one: what it points to is written. A
    device or a pipe can't be replaced, so it is written to as the bytes come.

    >>> with write_whole(Path("numbers.txt")) as file:  # doctest: +SKIP
    ...     file.write(b"1 2 3")
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    def __enter__(self) -> IO[bytes]:
        self.temporary: Path | None = None
        if self.path.exists() and not self.path.is_file():
            self.file: IO[bytes] = self.path.open("wb")
            return self.file
        self.path = Path(os.path.realpath(self.path))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.path.with_name(f".dermx-{os.urandom(4).hex()}")
        self.file = fresh.open("xb")  # with the mode of any new file
        self.temporary = fresh
        with suppress(OSError):  # there is no old file, or its system has no modes
            fresh.chmod(stat.S_IMODE(self.path.stat().st_mode))
        return self.file

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            self.file.close()
            if kind is None and self.temporary:
                self.temporary.replace(self.path)
        finally:  # also where the last bytes had no room
            if self.temporary:
                self.temporary.unlink(missing_ok=True)
