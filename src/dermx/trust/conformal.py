"""Which classes can't be excluded? Sets that hold the truth in a wanted share of cases.

Split conformal prediction: scores of the true class on cases that did not train the model give
thresholds; a class whose score is not above its threshold is in the set. "marginal" keeps the
promise on average over all cases, "class" for the cases of every class, with a threshold for each.

Limits: the promise holds for cases drawn like the calibration cases, on average over such
calibration sets, and not under shift (arXiv:2506.18162). Pictures of one lesion are alike, so n
pictures of fewer lesions promise less exactly than n lesions would; `margin` takes that up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, Self, get_args

import numpy as np

from dermx.errors import InputError
from dermx.records import check_cases

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

Score = Literal["lac", "aps", "raps"]
Per = Literal["marginal", "class"]
SCORES: Final[tuple[Score, ...]] = get_args(Score)
FREE: Final = 2  # classes of a set that RAPS does not charge for
CHARGE: Final = 0.05  # of RAPS, per class after these


@dataclass(frozen=True, kw_only=True, eq=False)
class Sets:
    """A fitted rule that makes sets of classes."""

    score: Score
    per: Per
    coverage: float  # wanted share of cases whose set holds the truth
    thresholds: Float[np.ndarray, " classes"]  # NaN for a class that had no case
    cases: Int[np.ndarray, " classes"]  # that they were fitted on

    def contain(self, probs: Float[np.ndarray, "n classes"]) -> Bool[np.ndarray, "n classes"]:
        """Which classes are in each case's set; the most probable one always is.

        That no set is empty costs nothing but size: coverage only grows by it.
        """
        inside = conformity_scores(probs, self.score) <= self.thresholds
        inside[np.arange(len(probs)), probs.argmax(axis=1)] = True
        return np.asarray(inside)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "score": self.score,
            "per": self.per,
            "coverage": self.coverage,
            "thresholds": [None if np.isnan(t) else float(t) for t in self.thresholds],
            "cases": [int(count) for count in self.cases],
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Self:
        """Invert `to_dict`."""
        if content["score"] not in SCORES or content["per"] not in get_args(Per):
            raise InputError(f"no sets by {content['score']!r} per {content['per']!r}")
        known = [math.nan if t is None else float(t) for t in content["thresholds"]]
        return cls(
            score=content["score"],
            per=content["per"],
            coverage=float(content["coverage"]),
            thresholds=np.array(known),
            cases=np.array(content["cases"], np.int64),
        )


def fit_sets(
    probs: Float[np.ndarray, "n classes"],
    labels: Int[np.ndarray, " n"],
    *,
    coverage: float = 0.9,
    score: Score = "lac",
    per: Per = "class",
    margin: float = 0.0,
    groups: Sequence[str] | None = None,
    codes: Sequence[str] | None = None,
) -> Sets:
    """Fit thresholds on cases that neither trained nor will test the model.

    Args:
        probs: Calibrated class probabilities.
        labels: True class indices.
        coverage: Wanted share of cases whose set holds the truth.
        score: "lac" makes the smallest sets, "aps" and "raps" adapt them more to hard cases.
        per: "class" promises the coverage in each class, "marginal" only on average.
        margin: Standard errors by which the fitted share lies above `coverage`, for the chance
            that these cases are easier than others; 0 is plain split conformal.
        groups: Lesion or patient of each case; the standard error counts these. Cases when None.
        codes: Names of the classes, for the error.

    Raises:
        InputError: The coverage is not in (0, 1), or a class has cases, but too few: with n cases
            no more than n / (n + 1) can be promised. Nothing is guessed for such a class. One
            without any case has no threshold, and is in a set only where it is the most probable.

    Source: Sadinle, Lei, Wasserman 2019 (LAC, arXiv:1609.00451); Romano, Sesia, Candes 2020 (APS,
    arXiv:2006.02544); Angelopoulos et al. 2021 (RAPS, arXiv:2009.14193); Vovk 2012 (per class).
    """
    check_cases(probs, labels)
    if not 0 < coverage < 1:
        raise InputError(f"coverage must be between 0 and 1, got {coverage}")
    classes = probs.shape[1]
    names = [str(k) for k in range(classes)] if codes is None else list(codes)
    members = (
        np.arange(len(labels)) if groups is None else np.unique(groups, return_inverse=True)[1]
    )
    of_truth = conformity_scores(probs, score)[np.arange(len(labels)), labels]
    counts = np.bincount(labels, minlength=classes)
    parts = [labels == k for k in range(classes)] if per == "class" else [labels >= 0] * classes
    if few := [
        f"{name} ({part.sum()})"
        for name, part in zip(names, parts, strict=True)
        if 0 < part.sum() < needed_cases(coverage)
    ]:
        raise InputError(
            f"too few calibration cases for sets that hold the truth in {coverage:.0%}: "
            f"{', '.join(few)}; need {needed_cases(coverage)} of each class: fit on more cases "
            "(`dermx crossval` writes out-of-fold predictions), or promise less"
        )
    thresholds = np.full(classes, np.nan)
    for k, part in enumerate(parts):
        if part.any():
            extra = margin * math.sqrt(coverage * (1 - coverage) / len(np.unique(members[part])))
            # The margin goes up to the second worst case: one wrong label among few must not fill
            # every set. Of 9 to 18 cases, 90 % asks for the worst without any margin.
            most = max(coverage, (part.sum() - 1) / (part.sum() + 1))
            thresholds[k] = conformal_quantile(of_truth[part], min(most, coverage + extra))
    return Sets(score=score, per=per, coverage=coverage, thresholds=thresholds, cases=counts)


def conformity_scores(
    probs: Float[np.ndarray, "n classes"], score: Score
) -> Float[np.ndarray, "n classes"]:
    """How badly each class fits each case; 0 fits best.

    "lac": 1 minus its probability. "aps": the probability of all classes at least as likely, its
    own included, so that sets are not randomised. "raps": that, and a charge per rank above two.

    >>> conformity_scores(np.array([[0.5, 0.25, 0.25]]), "lac")
    array([[0.5 , 0.75, 0.75]])
    >>> conformity_scores(np.array([[0.25, 0.5, 0.25]]), "aps")
    array([[0.75, 0.5 , 1.  ]])
    """
    if score not in SCORES:
        raise InputError(f"no score {score!r}; known are {', '.join(SCORES)}")
    if score == "lac":
        return 1 - probs
    order = np.argsort(-probs, axis=1, kind="stable")
    sums = np.cumsum(np.take_along_axis(probs, order, axis=1), axis=1)
    if score == "raps":
        sums += CHARGE * np.maximum(np.arange(1, probs.shape[1] + 1) - FREE, 0)
    scores = np.empty_like(sums)
    np.put_along_axis(scores, order, sums, axis=1)
    return scores


def conformal_quantile(scores: Float[np.ndarray, " n"], coverage: float) -> float:
    """Return the smallest score that a new case stays at or below with the wanted chance.

    That is the ceil((n + 1) * coverage)-th smallest of n; the largest where that is beyond n.

    >>> conformal_quantile(np.array([0.1, 0.2, 0.3, 0.4]), 0.6)
    0.3
    """
    n = len(scores)
    rank = min(n, math.ceil((n + 1) * coverage - 1e-9))
    return float(np.sort(scores)[rank - 1])


def needed_cases(coverage: float) -> int:
    """Fewest cases that can promise the coverage.

    >>> needed_cases(0.9)
    9
    """
    return math.ceil(coverage / (1 - coverage) - 1e-9)


@dataclass(frozen=True, kw_only=True, eq=False)
class Coverage:
    """How often sets held the truth, in all and per class; NaN for a class without cases."""

    share: float
    size: float  # mean number of classes in a set
    of_class: Float[np.ndarray, " classes"]
    size_of_class: Float[np.ndarray, " classes"]  # mean size by true class
    cases: Int[np.ndarray, " classes"]


def coverage_of(inside: Bool[np.ndarray, "n classes"], labels: Int[np.ndarray, " n"]) -> Coverage:
    """Measure sets on cases that did not fit them."""
    classes = inside.shape[1]
    held = inside[np.arange(len(labels)), labels].astype(np.float64)
    sizes = inside.sum(axis=1).astype(np.float64)
    counts = np.bincount(labels, minlength=classes)
    with np.errstate(invalid="ignore"):
        shares, means = (np.bincount(labels, v, classes) / counts for v in (held, sizes))
    return Coverage(
        share=float(held.mean()),
        size=float(sizes.mean()),
        of_class=shares,
        size_of_class=means,
        cases=counts,
    )
