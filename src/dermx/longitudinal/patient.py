"""Is it better for this one patient, and if that isn't clear, how many more days would tell?

A patient's change is the difference of two means over days; its error counts that days hang
together (`noise`). With four patients or more it is shrunken towards the average change of all, as
far as patients are alike: how alike is estimated with its own uncertainty (a flat prior on the
spread, integrated over a grid), so no patient is called average because few were seen.

Limits: the interval is 95 % for one patient and one treatment; among thirty, one or two miss. A
change between phases has every cause that came with the phase, not only the treatment.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from dermx.longitudinal.noise import Noise
from dermx.longitudinal.visits import Visits, counted

if TYPE_CHECKING:
    from jaxtyping import Float, Int

Verdict = Literal["better", "worse", "no clear change yet"]
FEWEST_TO_SHRINK = 4  # patients; fewer say next to nothing about how alike patients are
MOST_DAYS = 365  # no longer wait is proposed


@dataclass(frozen=True, kw_only=True)
class OwnChange:
    """One patient's change on one treatment against the patient's own baseline, in points."""

    patient: str
    treatment: str
    baseline: float  # mean severity on baseline
    days: int  # with a severity on the treatment
    observed: float  # difference of the means
    observed_error: float
    estimate: float  # shrunken, where there are patients enough
    low: float
    high: float
    verdict: Verdict
    more_days: int | None  # on the treatment, to tell if it goes on so; None: won't, or told
    sentence: str


def own_changes(visits: Visits, noise: Noise, level: float = 0.95) -> list[OwnChange]:
    """Estimate every patient's change on every treatment; patients without baseline have none.

    Args:
        visits: One patient is enough.
        noise: Of these days.
        level: Of the intervals.
    """
    made = []
    for k in range(1, len(visits.treatments)):
        both = (visits.counts[:, 0] > 0) & (visits.counts[:, k] > 0)
        who = np.flatnonzero(both).tolist()
        if not who:
            continue
        days = [_days(visits, i, k) for i in who]
        observed = np.array([_difference(visits, i, k) for i in who])
        errors = np.array([_error(noise, day, kind) for day, kind in days])
        if len(who) < FEWEST_TO_SHRINK:
            half = _t_quantile(noise.df, level) * errors
            shown = np.stack([observed, observed - half, observed + half])
        else:
            shrinking = shrink(observed, errors, level)
            shown = np.stack([shrinking.estimate, shrinking.low, shrinking.high])
        for n, i in enumerate(who):
            wait = _Wait(noise, *days[n], level, observed, errors, n)
            made.append(_own(visits, i, k, shown[:, n], wait))
    return sorted(made, key=lambda own: visits.patients.index(own.patient))


@dataclass(frozen=True, kw_only=True)
class Shrinking:
    """Changes of several patients, each told by the others."""

    estimate: Float[np.ndarray, " patients"]  # posterior mean
    low: Float[np.ndarray, " patients"]
    high: Float[np.ndarray, " patients"]
    mean: float  # of all patients
    sd: float  # between patients, posterior mean


def shrink(
    observed: Float[np.ndarray, " patients"],
    errors: Float[np.ndarray, " patients"],
    level: float = 0.95,
) -> Shrinking:
    """Combine each patient's own change with what the others' say.

    The model: observed_i ~ N(change_i, error_i), change_i ~ N(mean, sd), with flat priors on the
    mean and the sd, the sd integrated over a grid.

    Args:
        observed: Changes; at least 4.
        errors: Their standard errors, above 0.
        level: Of the intervals.

    Source: Gelman et al., Bayesian Data Analysis, 3rd ed., section 5.4.
    """
    found = _posterior(observed, errors)
    reach = np.full(len(observed), np.abs(observed).max() + 10 * (errors.max() + found.tau[-1]))
    low, high = (_invert(found.below, reach, share) for share in ((1 - level) / 2, (1 + level) / 2))
    return Shrinking(
        estimate=found.density @ found.centre,
        low=low,
        high=high,
        mean=float(found.density @ found.mean),
        sd=float(found.density @ found.tau),
    )


@dataclass(frozen=True)
class _Posterior:
    """What is known of each patient's change: normals, mixed over the sd between patients."""

    tau: Float[np.ndarray, " grid"]  # points, the sd between patients
    density: Float[np.ndarray, " grid"]  # how probable it is; adds up to 1
    mean: Float[np.ndarray, " grid"]  # of all patients, given tau
    centre: Float[np.ndarray, "grid patients"]
    spread: Float[np.ndarray, "grid patients"]

    def below(self, value: Float[np.ndarray, " patients"]) -> Float[np.ndarray, " patients"]:
        """How probable it is that each patient's change is below a value."""
        from scipy.special import ndtr

        z = (value - self.centre) / np.maximum(self.spread, 1e-12)
        return np.asarray(self.density @ ndtr(z))


def _posterior(
    observed: Float[np.ndarray, " patients"], errors: Float[np.ndarray, " patients"]
) -> _Posterior:
    errors = np.maximum(errors, 1e-9)
    largest = 10 * max(float(np.std(observed, ddof=1)), float(errors.mean()))
    tau = np.linspace(0, 1, 401)[:, None] ** 2 * largest  # finer where it matters, near zero
    width = np.gradient(tau[:, 0])
    weight = 1 / (errors**2 + tau**2)  # (grid, patients)
    total = weight.sum(axis=1)
    mean = (weight * observed).sum(axis=1) / total
    log_density = 0.5 * (
        np.log(weight).sum(axis=1)
        - np.log(total)
        - (weight * (observed - mean[:, None]) ** 2).sum(axis=1)
    )
    density = width * np.exp(log_density - log_density.max())
    density /= density.sum()
    own = tau**2 * weight  # how much of a patient's own change is believed
    centre = own * observed + (1 - own) * mean[:, None]
    spread = np.sqrt(own * errors**2 + (1 - own) ** 2 / total[:, None])
    return _Posterior(tau[:, 0], density, mean, centre, spread)


@dataclass(frozen=True)
class _Wait:
    """What decides how many more days one patient's change needs."""

    noise: Noise
    day: Int[np.ndarray, " n"]
    kind: Int[np.ndarray, " n"]  # 0 baseline, 1 the treatment
    level: float
    observed: Float[np.ndarray, " patients"]  # of all who had the treatment
    errors: Float[np.ndarray, " patients"]
    place: int  # of this patient among them

    def tells(self, more: int) -> bool:
        """Whether the interval would leave 0 out, if the change stays as it was observed."""
        day = np.r_[self.day, self.day.max() + 1 + np.arange(more)]
        kind = np.r_[self.kind, np.ones(more, int)]
        errors = self.errors.copy()
        errors[self.place] = _error(self.noise, day, kind)
        if len(errors) < FEWEST_TO_SHRINK:
            half = _t_quantile(self.noise.df, self.level) * errors[self.place]
            return bool(abs(self.observed[self.place]) > half)
        below = _posterior(self.observed, errors).below(np.zeros(len(errors)))[self.place]
        return not (1 - self.level) / 2 <= below <= (1 + self.level) / 2

    def days(self) -> int | None:
        """How many more days tell, one fewer doesn't; None if a year doesn't.

        None, too, where it is told already and only the end of the scale speaks against it.
        """
        if self.tells(0) or not self.tells(MOST_DAYS):
            return None
        least, enough = 0, MOST_DAYS
        while enough - least > 1:
            middle = (least + enough) // 2
            least, enough = (least, middle) if self.tells(middle) else (middle, enough)
        return enough


def _own(
    visits: Visits,
    i: int,
    k: int,
    shown: Float[np.ndarray, " 3"],
    wait: _Wait,
) -> OwnChange:
    rows = visits.patient == i
    before = visits.severity[rows & (visits.treatment == 0)]
    # No change leads off the scale, however wide the interval.
    ends = visits.config.lowest - before.max(), visits.config.highest - before.min()
    estimate, low, high = map(float, np.clip(shown, *ends))
    verdict: Verdict = "no clear change yet"
    if low > 0 or high < 0:
        verdict = "better" if (estimate > 0) == visits.config.higher_is_better else "worse"
    more = wait.days() if verdict == "no clear change yet" else None
    baseline = float(before.mean())
    names = visits.patients[i], visits.treatments[k]
    return OwnChange(
        patient=names[0],
        treatment=names[1],
        baseline=baseline,
        days=int(visits.counts[i, k]),
        observed=float(wait.observed[wait.place]),
        observed_error=float(wait.errors[wait.place]),
        estimate=estimate,
        low=low,
        high=high,
        verdict=verdict,
        more_days=more,
        sentence=_sentence(
            names, (estimate, low, high), verdict, more, baseline, wait.level, visits
        ),
    )


def _sentence(
    names: tuple[str, str],
    change: tuple[float, float, float],
    verdict: Verdict,
    more: int | None,
    baseline: float,
    level: float,
    visits: Visits,
) -> str:
    """Say it to the patient: what, how much, how sure, and what next."""
    estimate, low, high = change
    head, unit = f"{names[0]}, {names[1]}: {verdict}.", visits.config.unit
    if verdict == "no clear change yet":
        between = (
            f"Compared with {visits.treatments[0]}, severity is somewhere between "
            f"{abs(low):.1f} {unit} lower and {abs(high):.1f} {unit} higher."
        )
        if more is None:
            wait = f"More days of {names[1]} alone would probably not tell."
        else:
            days = counted(more, "more day")
            wait = f"If it goes on like this, about {days} of {names[1]} would tell."
        return f"{head} {between} {wait}"
    near, far = sorted((abs(low), abs(high)))
    share = f", {abs(estimate) / baseline * 100:.0f} % of the level before" if baseline > 0 else ""
    way = "higher" if estimate > 0 else "lower"
    return (
        f"{head} Severity is {abs(estimate):.1f} {unit} {way} than on {visits.treatments[0]} "
        f"({level * 100:g} % interval {near:.1f} to {far:.1f}){share}."
    )


def _days(visits: Visits, i: int, k: int) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Days of a patient on baseline (0) or the treatment (1)."""
    rows = (visits.patient == i) & np.isin(visits.treatment, (0, k))
    return visits.day[rows], (visits.treatment[rows] > 0).astype(int)


def _difference(visits: Visits, i: int, k: int) -> float:
    rows = visits.patient == i
    on, before = (visits.severity[rows & (visits.treatment == kind)] for kind in (k, 0))
    return float(on.mean() - before.mean())


def _error(noise: Noise, day: Int[np.ndarray, " n"], kind: Int[np.ndarray, " n"]) -> float:
    """Standard error of the difference of the two means."""
    covariance = noise.mean_errors(day, kind, 2)
    return math.sqrt(max(float(np.array([-1, 1]) @ covariance @ np.array([-1, 1])), 0))


def _t_quantile(df: float, level: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(df, (1 + level) / 2))


def _invert(
    rising: Callable[[Float[np.ndarray, " n"]], Float[np.ndarray, " n"]],
    reach: Float[np.ndarray, " n"],
    share: float,
) -> Float[np.ndarray, " n"]:
    """Where each of several rising functions reaches a share, between -reach and reach."""
    low, high = -reach, reach
    for _ in range(60):
        middle = (low + high) / 2
        under = rising(middle) < share
        low, high = np.where(under, middle, low), np.where(under, high, middle)
    return np.asarray((low + high) / 2)
