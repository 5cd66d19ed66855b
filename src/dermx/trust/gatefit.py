"""How is the gate fitted, and how strange would it find what it has not seen?

Linear discriminant analysis: one mean per group, one covariance for all, shrunk. Nothing is
searched for, so a hundred strangers are enough, and the result depends on no random start.

Thresholds are set on cases and strangers that were left out: in each of five folds, one fifth of
the lesions and patients and one fifth of the diseases. What is asked of the gate is how it meets a
disease it was never shown; judged on diseases it was fitted on, it looks nearly perfect.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from dermx.diagnoses import BY_CODE
from dermx.errors import InputError
from dermx.records import Predictions
from dermx.trust.gate import STRANGERS, Gate, groups_of, log_odds

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

ACCEPTANCE: Final = 0.95
LET_IN: Final = 0.10  # of the strangers that get an answer of a source
SHRINKAGE: Final = 0.02  # chosen on left-out diseases; 0.01 to 0.1 differ by less than chance
FOLDS: Final = 5
ENOUGH: Final = 20  # judged cases that a class needs to have a say in the threshold


@dataclass(frozen=True, kw_only=True, eq=False)
class CrossFitted:
    """What gates say that knew neither the case or stranger nor its kin."""

    odds: Float[np.ndarray, " n"]  # of each judged case: log odds of being a stranger
    # Of each stranger that could be compared: share of known cases less strange.
    levels: Float[np.ndarray, " pictures"]
    answered: Int[np.ndarray, " pictures"]  # source of the answer that each of these gets
    kinds: tuple[str, ...]  # of these


def fit_gate(
    known: Predictions,
    strangers: Predictions,
    kinds: Sequence[str],
    judged: Predictions,
    *,
    acceptance: float = ACCEPTANCE,
    let_in: float = LET_IN,
    shrinkage: float = SHRINKAGE,
    crossed: CrossFitted | None = None,
) -> Gate:
    """Fit the gate of one model.

    Args:
        known: Labelled cases to fit on, one row per view. Cases of `judged` may be among them:
            where those are judged, their group is left out.
        strangers: Pictures of none of the classes, one row per view, of no disease or photograph
            that a report will use; `groups` names the disease, or the photograph.
        kinds: Of each row of strangers: "clinical", "everyday" or "drawn".
        judged: Labelled cases as they will be met in use, e.g. the mean of eight views; they set
            the thresholds. Nothing of the test part.
        acceptance: Share of each class with at least 20 judged cases to let in, in (0, 1]; one
            standard error is added.
        let_in: Share of the clinical strangers that get an answer of one source which may be
            answered without a warning, in [0, 1]; what lies above is `unsure`.
        shrinkage: Share of the covariance replaced by a sphere of the same trace, in (0, 1].
        crossed: From `cross_fit` on the same arguments, if it is known already.

    Raises:
        InputError: A share is out of its range, a kind is unknown, or a group has no case.
    """
    check_shares(acceptance, let_in)
    if not 0 < shrinkage <= 1:
        raise InputError(f"shrinkage must be in (0, 1], got {shrinkage:g}")
    groups = groups_of(known.codes, kinds)
    weight, bias = _fit_layer(known, strangers, kinds, groups, shrinkage)
    if crossed is None:
        crossed = cross_fit(known, strangers, kinds, judged, shrinkage=shrinkage)
    sources = _sources(known.codes, groups)
    offsets, cautions = [], []
    for source in range(sources.max() + 1):
        fair = _rightly(judged, sources, source)
        if not fair.any():
            raise InputError(f"no judged case of {groups[source]} to set a threshold with")
        whose = [judged.groups[int(i)] for i in np.flatnonzero(fair)]
        offset = _offset(crossed.odds[fair], judged.labels[fair], whose, acceptance)
        levels = crossed.levels[
            (crossed.answered == source) & (np.array(crossed.kinds) == "clinical")
        ]
        level = np.quantile(levels, let_in, method="lower") if len(levels) else 1.0
        offsets.append(offset)
        cautions.append(min(0.0, np.quantile(crossed.odds[fair], level, method="lower") - offset))
    return Gate(
        codes=known.codes,
        groups=groups,
        acceptance=acceptance,
        weight=weight.astype(np.float32),
        bias=bias.astype(np.float32),
        offsets=np.array(offsets, np.float32),
        cautions=np.array(cautions, np.float32),
    )


def check_shares(acceptance: float, let_in: float) -> None:
    """Refuse shares that `fit_gate` can't take, before anything is predicted.

    Raises:
        InputError: One is out of its range.
    """
    if not (0 < acceptance <= 1 and 0 <= let_in <= 1):
        raise InputError(
            f"acceptance must be in (0, 1] and let_in in [0, 1], got {acceptance:g} and {let_in:g}"
        )


def cross_fit(
    known: Predictions,
    strangers: Predictions,
    kinds: Sequence[str],
    judged: Predictions,
    *,
    folds: int = FOLDS,
    shrinkage: float = SHRINKAGE,
) -> CrossFitted:
    """Judge every case and stranger by a gate fitted without its group; see `fit_gate`.

    Cases are judged by gates that know all strangers, as the final one does. Strangers are judged
    by gates that know neither them nor a fifth of the cases, and compared with these: log odds
    of different gates are not comparable, levels are. A stranger is left out where its fold has
    no known case to compare with, as with fewer acne patients than folds.

    Raises:
        InputError: There are too few groups or diseases to leave some out, or no clinical stranger
            with an answer of a source can be compared.
    """
    groups = groups_of(known.codes, kinds)
    sources = _sources(known.codes, groups)
    count = sources.max() + 1
    pictures, first = by_picture(strangers)
    met = tuple(kinds[i] for i in first)
    mine = _deal(judged.groups, sources[judged.labels], folds)
    theirs = _deal(pictures.groups, [groups.index(kind) for kind in met], folds)
    fold_of = dict(zip(judged.groups, mine, strict=True))
    fold_of_stranger = dict(zip(pictures.groups, theirs, strict=True))
    cases_at = np.array([fold_of.get(group, -1) for group in known.groups])
    views_at = np.array([fold_of_stranger[group] for group in strangers.groups])
    odds, levels = np.empty(len(mine)), np.full(len(theirs), np.nan)
    answered = sources[pictures.logits.argmax(axis=1)]
    for fold in range(folds):
        cases, here = known.select(cases_at != fold), judged.select(mine == fold)
        says = sources[here.logits.argmax(axis=1)]
        layer = _fit_layer(cases, strangers, kinds, groups, shrinkage)
        odds[mine == fold] = log_odds(here.features, says, *layer, count)
        if not (theirs == fold).any():
            continue
        rest = [kind for kind, at in zip(kinds, views_at, strict=True) if at != fold]
        layer = _fit_layer(cases, strangers.select(views_at != fold), rest, groups, shrinkage)
        compared = log_odds(here.features, says, *layer, count)
        out = np.flatnonzero(theirs == fold)
        strange = log_odds(pictures.features[out], answered[out], *layer, count)
        for source in range(count):
            beside = compared[_rightly(here, sources, source)]
            one = answered[out] == source
            if len(beside):  # few patients don't reach every fold
                levels[out[one]] = (beside[None] < strange[one, None]).mean(axis=1)
    kept = np.flatnonzero(~np.isnan(levels))
    _check_compared(answered, np.array(met) == "clinical", kept, groups)
    return CrossFitted(
        odds=odds, levels=levels[kept], answered=answered[kept], kinds=tuple(met[i] for i in kept)
    )


def by_picture(views: Predictions) -> tuple[Predictions, Int[np.ndarray, " pictures"]]:
    """Return the mean over each picture's rows, and the first row of each, in order."""
    index: dict[str, int] = {}
    picture = np.array([index.setdefault(image, len(index)) for image in views.images], int)
    first = np.unique(picture, return_index=True)[1]
    counts = np.bincount(picture)[:, None]
    features = np.zeros((len(index), views.features.shape[1]))
    logits = np.zeros((len(index), views.logits.shape[1]))
    np.add.at(features, picture, views.features)
    np.add.at(logits, picture, views.logits)
    means = Predictions(
        images=list(index),
        groups=[views.groups[i] for i in first],
        labels=views.labels[first],
        logits=(logits / counts).astype(np.float32),
        features=(features / counts).astype(np.float32),
        codes=views.codes,
    )
    return means, first


def discriminant(
    x: Float[np.ndarray, "n c"],
    groups: Int[np.ndarray, " n"],
    shrinkage: float,
    spread: Sequence[int],
) -> tuple[Float[np.ndarray, "c groups"], Float[np.ndarray, " groups"]]:
    """Linear discriminant analysis with equal priors: weight and bias of each group's logit.

    Args:
        x: Features.
        groups: Index of each row's group, all of 0 to the highest present.
        shrinkage: Share of each group's covariance replaced by a sphere of the same trace.
        spread: Groups whose covariances are averaged; drawings, say, have one of their own.

    Returns:
        Such that `x @ weight + bias` are the groups' log probabilities, up to a constant per row.
    """
    means = np.stack([x[groups == group].mean(axis=0) for group in range(groups.max() + 1)])
    covariance = np.zeros((x.shape[1], x.shape[1]))
    for group in spread:
        centered = x[groups == group] - means[group]
        covariance += centered.T @ centered / len(centered) / len(spread)
    sphere = np.trace(covariance) / len(covariance)
    covariance *= 1 - shrinkage
    covariance[np.diag_indices_from(covariance)] += shrinkage * sphere
    weight = np.linalg.solve(covariance, means.T)
    return weight, -0.5 * (means * weight.T).sum(axis=1)


def _fit_layer(
    known: Predictions,
    strangers: Predictions,
    kinds: Sequence[str],
    groups: tuple[str, ...],
    shrinkage: float,
) -> tuple[np.ndarray, np.ndarray]:
    if unknown := sorted(set(kinds) - set(STRANGERS)):
        raise InputError(f"unknown kind of stranger {unknown[0]!r}; known: {', '.join(STRANGERS)}")
    source = _sources(known.codes, groups)[known.labels]
    index = np.concatenate([source, np.array([groups.index(kind) for kind in kinds], int)])
    lacking = [group for i, group in enumerate(groups) if not (index == i).any()]
    if lacking or not kinds:
        what = ", ".join(lacking) or "any stranger"
        raise InputError(f"no picture of {what} is left to fit the gate on; give more of them")
    x = np.concatenate([known.features, strangers.features]).astype(np.float64)
    photographs = [i for i, group in enumerate(groups) if group != "drawn"]
    return discriminant(x, index, shrinkage, photographs)


def _check_compared(
    answered: Int[np.ndarray, " pictures"],
    clinical: Bool[np.ndarray, " pictures"],
    kept: Int[np.ndarray, " some"],
    groups: tuple[str, ...],
) -> None:
    for source in np.unique(answered[clinical]):
        if source not in answered[kept][clinical[kept]]:
            raise InputError(
                f"too few judged cases of {groups[source]}: no fold has both one that is answered "
                "as such and a clinical stranger that is; give more patients or lesions"
            )


def _rightly(
    cases: Predictions, sources: Int[np.ndarray, " classes"], source: int
) -> Bool[np.ndarray, " n"]:
    """Cases of a source that get an answer of this source."""
    truth, answered = sources[cases.labels], sources[cases.logits.argmax(axis=1)]
    return np.asarray((truth == source) & (answered == source))


def _offset(
    odds: Float[np.ndarray, " n"],
    labels: Int[np.ndarray, " n"],
    groups: Sequence[str],
    acceptance: float,
) -> float:
    """The log odds that let in the wanted share of every class that has enough cases.

    A threshold on all cases would be that of the naevi and reject the rare classes. As with
    prediction sets, one standard error is added, counted in lesions or patients: few tell little
    about the strangest twentieth of those to come.
    """
    inside = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    big = [one for one in inside if len(one) >= ENOUGH] or [np.arange(len(odds))]
    levels = []
    for one in big:
        error = np.sqrt(acceptance * (1 - acceptance) / len({groups[int(i)] for i in one}))
        share = min(acceptance + error, 1.0)
        levels.append(np.quantile(odds[one], share, method="higher"))
    return float(max(levels))


def _sources(codes: Sequence[str], groups: Sequence[str]) -> Int[np.ndarray, " classes"]:
    return np.array([groups.index(BY_CODE[code].source) for code in codes])


def _deal(
    groups: Sequence[str], strata: Sequence[int] | np.ndarray, folds: int
) -> Int[np.ndarray, " n"]:
    """Fold of each row: within a stratum, whole groups from the largest, to the emptiest fold."""
    fold_of: dict[str, int] = {}
    for stratum in sorted(set(map(int, strata))):
        inside = [g for g, s in zip(groups, strata, strict=True) if s == stratum]
        sizes = Counter(g for g in inside if g not in fold_of)
        if len(sizes) < 2:
            raise InputError(
                f"need at least 2 groups or diseases of a kind to leave one out, got {len(sizes)}"
            )
        held = [0] * folds
        for group, size in sorted(sizes.items(), key=lambda item: (-item[1], item[0])):
            fold = held.index(min(held))
            fold_of[group] = fold
            held[fold] += size
    return np.array([fold_of[group] for group in groups])
