"""What do age, sex and place on the body add to the picture? A small head on the logits.

The picture's logits, times one scale, plus a table's row for each thing that is known about the
patient. What is not known adds nothing: every column is centred on the cases that the head was
fitted on, so a missing value is the average one. How a diagnosis was made (`dx_type`) is never
used: it leaks the label. Acne is left alone: its photographs come without these facts, and "facts
are known" must not become a sign against it.

Fit on pictures that the network was not trained on (out-of-fold or validation predictions): on its
own training pictures the network looks so sure that nothing is left to add. Whose patients these
are matters more than for pictures; another clinic sees other ages.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import numpy as np

from dermx.errors import InputError
from dermx.records import Case, write_whole

if TYPE_CHECKING:
    from jaxtyping import Float, Int

AGES: Final = (20.0, 35.0, 50.0, 65.0, 80.0)  # years; between them the table is interpolated
SEXES: Final = ("female", "male")
SITES: Final = (
    *("abdomen", "acral", "back", "chest", "ear", "face", "foot", "genital", "hand"),
    *("lower extremity", "neck", "scalp", "trunk", "upper extremity"),
)
UNMOVED: Final = ("acne",)  # classes whose pictures come without metadata


@dataclass(frozen=True, kw_only=True)
class Patient:
    """What is known about who the picture is of; None where it is not."""

    age: float | None = None  # years
    sex: str | None = None  # "female" or "male"
    site: str | None = None  # where on the body, in HAM10000's words

    def __post_init__(self) -> None:
        if self.age is not None and not 0 <= self.age <= 120:
            raise InputError(f"age must be 0 to 120 years, got {self.age:g}")
        if self.sex is not None and self.sex not in SEXES:
            raise InputError(f"sex must be {' or '.join(SEXES)}, got {self.sex!r}")

    @classmethod
    def of(cls, case: Case) -> Self:
        """Take what a case's table knows; an unheard-of sex or site counts as not known."""
        return cls(age=case.age, sex=case.sex if case.sex in SEXES else None, site=case.site)


@dataclass(frozen=True, kw_only=True, eq=False)
class MetadataHead:
    """Picture and patient to logits."""

    codes: tuple[str, ...]
    sites: tuple[str, ...]  # that have a column; others count as not known
    centre: Float[np.ndarray, " columns"]  # of the cases it was fitted on
    table: Float[np.ndarray, "columns classes"]  # added logits, natural logarithms of odds
    scale: float  # of the picture's logits
    bias: Float[np.ndarray, " classes"]

    def logits(
        self, logits: Float[np.ndarray, "n classes"], patients: Sequence[Patient]
    ) -> Float[np.ndarray, "n classes"]:
        """Fuse the picture's logits with what is known about each patient."""
        if len(logits) != len(patients):
            raise InputError(f"{len(logits)} pictures, but {len(patients)} patients")
        columns = encode(patients, self.sites, self.centre)
        return np.asarray(self.scale * logits + self.bias + columns @ self.table)

    def save(self, path: Path) -> None:
        """Write JSON, whole or not at all."""
        content = {
            name: value.tolist() if isinstance(value, np.ndarray) else value
            for name, value in asdict(self).items()
        }
        with write_whole(path) as file:
            file.write((json.dumps(content, indent=1) + "\n").encode())


def raw_columns(
    patients: Sequence[Patient], sites: Sequence[str]
) -> Float[np.ndarray, "n columns"]:
    """Ages as hats around `AGES`, sex as -1 or 1, sites as 0 or 1; NaN where it is not known."""
    columns = np.full((len(patients), len(AGES) + 1 + len(sites)), np.nan)
    hats = np.eye(len(AGES))
    for row, patient in zip(columns, patients, strict=True):
        if patient.age is not None:
            row[: len(AGES)] = [np.interp(patient.age, AGES, hat) for hat in hats]
        if patient.sex is not None:
            row[len(AGES)] = 2 * SEXES.index(patient.sex) - 1
        if patient.site in sites:
            row[len(AGES) + 1 :] = [patient.site == site for site in sites]
    return columns


def encode(
    patients: Sequence[Patient], sites: Sequence[str], centre: Float[np.ndarray, " columns"]
) -> Float[np.ndarray, "n columns"]:
    """Centred columns; 0 where a value is not known."""
    return np.asarray(np.nan_to_num(raw_columns(patients, sites) - centre))


def fit_metadata(
    logits: Float[np.ndarray, "n classes"],
    patients: Sequence[Patient],
    labels: Int[np.ndarray, " n"],
    codes: tuple[str, ...],
    *,
    penalty: float = 10.0,
    balance: float = 0.5,
    fewest: int = 20,
    picture: bool = True,
) -> MetadataHead:
    """Fit a head by penalised maximum likelihood, which is convex.

    Args:
        logits: Of pictures that the network was not trained on.
        patients: One per picture.
        labels: True class indices, all known.
        codes: Classes in the order of the logits.
        penalty: Half of this times the sum of the squared table is added to the log loss summed
            over the cases; 0 trusts every cell of it.
        balance: A case weighs its class's count to minus this, mean 1: 0 gives the probabilities of
            the cases fitted on, 1 those of classes that are all as frequent.
        fewest: A site with fewer cases gets no column.
        picture: With False the logits are left out: what the metadata alone would say.

    Raises:
        InputError: There is not one patient and one label per picture, or a label is not known.
    """
    from scipy.optimize import minimize  # comes with dermx[train]; using a head needs NumPy alone

    n, k = logits.shape
    if not n == len(patients) == len(labels) or n == 0 or labels.min() < 0:
        raise InputError(
            f"need one patient and one known label per picture, got {n} pictures, "
            f"{len(patients)} patients, {len(labels)} labels"
        )
    sites = tuple(site for site in SITES if sum(p.site == site for p in patients) >= fewest)
    raw = raw_columns(patients, sites)
    known = ~np.isnan(raw)
    centre = np.where(known, raw, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    columns = np.nan_to_num(raw - centre)
    moved = np.array([code not in UNMOVED for code in codes])
    truth = np.eye(k)[labels]
    weight = (np.bincount(labels, minlength=k)[labels, None].astype(np.float64)) ** -balance
    weight /= weight.mean()
    shape = (columns.shape[1], k)

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        scale, bias, table = flat[0], flat[1 : k + 1], flat[k + 1 :].reshape(shape)
        total = scale * logits * picture + bias + columns @ table
        total -= total.max(axis=1, keepdims=True)
        log_probs = total - np.log(np.exp(total).sum(axis=1, keepdims=True))
        error = weight * (np.exp(log_probs) - truth)
        value = -(weight * log_probs * truth).sum() + penalty / 2 * (table**2).sum()
        by_table = (columns.T @ error + penalty * table) * moved
        by_scale = (error * logits).sum() * picture
        return float(value), np.concatenate([[by_scale], error.sum(axis=0), by_table.ravel()])

    start = np.zeros(1 + k + columns.shape[1] * k)
    start[0] = 1.0
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 2000})
    return MetadataHead(
        codes=codes,
        sites=sites,
        centre=centre,
        table=found.x[k + 1 :].reshape(shape),
        scale=float(found.x[0]) * picture,
        bias=found.x[1 : k + 1],
    )
