"""What is there to show about a study? Effects, patients, notes and the data of every picture.

One object that the page, the files and the command line all read, so they show the same figures.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from dermx.errors import DermxError
from dermx.longitudinal.diagnostics import Diagnostics, diagnose
from dermx.longitudinal.effects import (
    FEWEST_PATIENTS,
    Effect,
    ModelConfig,
    StudyEffects,
    treatment_effects,
)
from dermx.longitudinal.noise import Noise, fit_noise
from dermx.longitudinal.patient import OwnChange, own_changes
from dermx.longitudinal.visits import Visits, counted, notes_on

if TYPE_CHECKING:
    from jaxtyping import Float

CLEAR = 0.05  # Holm-adjusted p below which a difference is called clear


@dataclass(frozen=True, kw_only=True)
class Variant:
    """The same comparisons by another model."""

    name: str
    config: ModelConfig
    effects: tuple[Effect, ...]  # empty where the model could not be fitted
    reason: str = ""  # why not


@dataclass(frozen=True, kw_only=True)
class TreatmentStudy:
    """Everything that is known about one table of visits."""

    visits: Visits  # as used: without the days left out
    config: ModelConfig
    noise: Noise
    patients: tuple[OwnChange, ...]
    effects: tuple[Effect, ...]  # empty with fewer than three patients
    model: StudyEffects | None
    diagnostics: Diagnostics | None
    variants: tuple[Variant, ...]
    notes: tuple[str, ...]  # what a reader must know, most important first

    @property
    def sentences(self) -> tuple[str, ...]:
        """The average effects in words, one sentence each."""
        return tuple(effect_sentence(effect, self.visits, self.config) for effect in self.effects)

    def points(self) -> dict[str, list[Any]]:
        """Columns of one row per day, for a picture.

        `fitted` is the patient's own level on that treatment, `average` the level if the patient
        responded like the average (None with fewer than three patients).
        """
        v = self.visits
        average = self.average_levels()
        return {
            "patient": [v.patients[i] for i in v.patient],
            "day": v.day.tolist(),
            "treatment": [v.treatments[k] for k in v.treatment],
            "severity": v.severity.tolist(),
            "fitted": self.own_levels().tolist(),
            "average": [None] * len(v) if average is None else average.tolist(),
        }

    def own_levels(self) -> Float[np.ndarray, " n"]:
        """The patient's own level on each day: mean of baseline plus the shrunken change."""
        v = self.visits
        sums = np.zeros(v.counts.shape)
        np.add.at(sums, (v.patient, v.treatment), v.severity)
        levels = sums / np.maximum(v.counts, 1)
        for own in self.patients:
            i, k = v.patients.index(own.patient), v.treatments.index(own.treatment)
            levels[i, k] = own.baseline + own.estimate
        return np.asarray(levels[v.patient, v.treatment])

    def average_levels(self) -> Float[np.ndarray, " n"] | None:
        """The mixed model's line: the patient's level and the average effects."""
        return None if self.diagnostics is None else self.diagnostics.fitted

    def phases(self) -> list[dict[str, Any]]:
        """Each run of days on one treatment: patient, treatment, first and last day."""
        v = self.visits
        starts = np.flatnonzero(v.changes)
        ends = np.r_[starts[1:], len(v)] - 1
        return [
            {
                "patient": v.patients[v.patient[a]],
                "treatment": v.treatments[v.treatment[a]],
                "first_day": int(v.day[a]),
                "last_day": int(v.day[b]),
            }
            for a, b in zip(starts, ends, strict=True)
        ]

    def to_dict(self) -> dict[str, Any]:
        """Every number, for programs; what is undefined or infinite is None."""
        fit = None if self.model is None else self.model.fit
        content = {
            "unit": self.visits.config.unit,
            "higher_is_better": self.visits.config.higher_is_better,
            "patients": len(self.visits.patients),
            "days": len(self.visits),
            "missing_days": self.visits.missing,
            "model": asdict(self.config),
            "effects": [asdict(effect) for effect in self.effects],
            "sentences": list(self.sentences),
            "own_changes": [asdict(own) for own in self.patients],
            "autocorrelation": self.noise.rho,
            "noise_sd": self.noise.sd,
            "icc": None if fit is None else fit.icc,
            "boundary": None if fit is None else fit.boundary,
            "trend_per_week": None if self.model is None else self.model.trend_per_week,
            "variants": [
                {"name": v.name, "reason": v.reason, "effects": [asdict(e) for e in v.effects]}
                for v in self.variants
            ],
            "notes": list(self.notes),
        }
        return {key: _plain(value) for key, value in content.items()}


def study_of(visits: Visits, config: ModelConfig | None = None) -> TreatmentStudy:
    """Analyse visits in every way that is shown.

    Args:
        visits: One patient is enough for the patient's own change; effects need three.
        config: The model; a variant changes one part of it.

    Raises:
        FitError: The model itself can't be fitted; a variant that can't is named instead.
    """
    config = config or ModelConfig()
    used = visits.without_first_days(config.skip_days) if config.skip_days else visits
    notes = notes_on(replace(visits, left_out=used.left_out))  # days left out are no gaps
    noise = fit_noise(used)
    model = diagnostics = None
    variants: tuple[Variant, ...] = ()
    if len(visits.patients) >= FEWEST_PATIENTS:
        model = treatment_effects(visits, config)
        diagnostics = diagnose(model, noise)
        notes += diagnostics.notes
        variants = tuple(_variants(visits, config))
    else:
        notes.append(
            f"Average effects need at least {FEWEST_PATIENTS} patients; with "
            f"{counted(len(visits.patients), 'patient')} there is only each patient's own change."
        )
    return TreatmentStudy(
        visits=used,
        config=config,
        noise=noise,
        patients=tuple(own_changes(used, noise, config.level)),
        effects=() if model is None else model.effects,
        model=model,
        diagnostics=diagnostics,
        variants=variants,
        notes=tuple(notes),
    )


def effect_sentence(effect: Effect, visits: Visits, config: ModelConfig) -> str:
    """Say one comparison in words."""
    unit = visits.config.unit
    if effect.hangs_on_one:
        return (
            f"{effect.name}: no average effect; it hangs on one patient alone, so see that "
            "patient's own change."
        )
    if not effect.p_adjusted < CLEAR and not effect.low <= 0 <= effect.high:
        return (
            f"{effect.name}: no clear difference; the {config.level * 100:g} % interval, "
            f"{signed(effect.low)} to {signed(effect.high)} {unit}, leaves 0 out, but not after "
            f"Holm's correction for several comparisons ({p_text(effect.p_adjusted)})."
        )
    if not effect.p_adjusted < CLEAR:
        return (
            f"{effect.name}: no clear difference; between {signed(effect.low)} and "
            f"{signed(effect.high)} {unit} ({p_text(effect.p_adjusted)} after Holm's correction)."
        )
    better = (effect.estimate > 0) == visits.config.higher_is_better
    return (
        f"{effect.name}: {'better' if better else 'worse'}, {signed(effect.estimate)} {unit} "
        f"on average ({config.level * 100:g} % interval {signed(effect.low)} to "
        f"{signed(effect.high)}, {p_text(effect.p_adjusted)} after Holm's correction)."
    )


def p_text(p: float) -> str:
    """Write a p value with two digits, and no false zero."""
    return "p < 0.0001" if p < 1e-4 else f"p = {p:.2g}"


def signed(change: float) -> str:
    """Write a change with its sign, one decimal and a real minus."""
    return f"{change:+.1f}".replace("-", "\N{MINUS SIGN}")


def _variants(visits: Visits, config: ModelConfig) -> list[Variant]:
    plain = replace(config, errors="plain")
    wanted = {
        "robust errors by patient": replace(config, errors="robust"),
        "bootstrap of patients": replace(config, errors="bootstrap"),
        "plain mixed model": plain,
        "own response of each patient": replace(config, random="treatment"),
        "with a straight trend over days": replace(config, trend=True),
        "without the first 7 days of a treatment": replace(config, skip_days=7),
    }
    made = []
    for name, variant in wanted.items():
        if variant == config:
            continue
        try:
            effects = treatment_effects(visits, variant).effects
        except DermxError as error:
            made.append(Variant(name=name, config=variant, effects=(), reason=str(error)))
            continue
        made.append(Variant(name=name, config=variant, effects=effects))
    return made


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
