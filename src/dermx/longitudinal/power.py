"""How many patients and days would see an effect of this size? Answered by simulated studies.

Each cell of the plan is a design: so many patients, so many days of baseline and as many of one
treatment. Studies are drawn with the noise, memory, missing days and differences between patients
of the study at hand and analysed by the very function that analyses real ones, with the model of
the study at hand; power is the share of them in which the effect has p < 0.05.

Limits: it is as good as the study at hand tells these quantities; with ten patients, how
differently patients respond is known only roughly.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from dermx.errors import ConfigError, InputError
from dermx.longitudinal.effects import FEWEST_PATIENTS, ModelConfig, treatment_effects
from dermx.longitudinal.mixed import FitError
from dermx.longitudinal.patient import FEWEST_TO_SHRINK, shrink
from dermx.longitudinal.simulate import StudyConfig, simulate_study
from dermx.longitudinal.study import TreatmentStudy


@dataclass(frozen=True, kw_only=True)
class PlanConfig:
    """Which designs are tried, and for which effect."""

    effect: float  # points against baseline; for the better, whatever its sign
    patients: tuple[int, ...] = (5, 10, 15, 20, 30)
    days: tuple[int, ...] = (7, 14, 28)  # of each of the two phases
    studies: int = 200  # simulated per design
    seed: int = 0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.effect) and self.effect != 0):
            raise ConfigError(f"the effect to plan for must be a number but 0, got {self.effect}")
        if not self.patients or min(self.patients) < FEWEST_PATIENTS:
            raise ConfigError(f"need at least {FEWEST_PATIENTS} patients, got {self.patients}")
        if not self.days or min(self.days) < 2:
            raise ConfigError(f"need at least 2 days a phase, got {self.days}")
        if self.studies < 20:
            raise ConfigError(f"need at least 20 simulated studies, got {self.studies}")


@dataclass(frozen=True, kw_only=True)
class PowerCell:
    """One design and the share of its studies that see the effect."""

    patients: int
    days: int  # of each phase
    effect: float  # points
    power: float
    low: float  # 95 % interval from the number of simulated studies (Wilson)
    high: float
    studies: int


def design_like(study: TreatmentStudy) -> StudyConfig:
    """Return a design of two phases whose quantities are those of this study.

    Its effect is one point for the better: near an end of the scale the way matters.

    Raises:
        InputError: Too few patients to know how differently patients respond.
    """
    if study.model is None or len(study.visits.patients) < FEWEST_TO_SHRINK:
        raise InputError(
            f"planning needs a study of at least {FEWEST_TO_SHRINK} patients, got "
            f"{len(study.visits.patients)}: how differently patients respond decides"
        )
    visits = study.visits
    recorded = len(visits)
    return StudyConfig(
        treatments=(visits.treatments[0], "treatment"),
        effects=(0.0, 1.0 if visits.config.higher_is_better else -1.0),
        days=(14, 14),
        level=float(visits.severity[visits.treatment == 0].mean()),
        patient_sd=math.sqrt(float(study.model.fit.psi[0, 0])),
        response_sd=_response_sd(study),
        drift_sd=0.0,  # a drift is part of what the patients' changes differ by
        noise_sd=study.noise.sd,
        autocorrelation=study.noise.rho,
        missing=visits.missing / (visits.missing + visits.left_out + recorded),
        lowest=visits.config.lowest,
        highest=visits.config.highest,
        decimals=3,
    )


def plan(
    design: StudyConfig,
    config: PlanConfig,
    model: ModelConfig | None = None,
    progress: Callable[[Sequence[tuple[int, int]]], Iterator[tuple[int, int]]] = iter,
) -> list[PowerCell]:
    """Simulate every design of the plan.

    Args:
        design: Of two phases, e.g. `design_like(study)`; its effect says which way is better.
        config: Effect, patients, days.
        model: How each simulated study is analysed.
        progress: Hands on the designs, each of patients and days, and may show how far it is.
    """
    effect = math.copysign(config.effect, design.effects[1])
    model = model or ModelConfig()
    designs = [(patients, days) for days in config.days for patients in config.patients]
    cells = []
    for patients, days in progress(designs):
        wanted = replace(design, patients=patients, days=(days, days), effects=(0.0, effect))
        seen = 0
        for n in range(config.studies):
            rng = np.random.default_rng([config.seed, patients, days, n])
            seen += _sees(wanted, model, rng)
        share = seen / config.studies
        low, high = wilson(seen, config.studies)
        cells.append(
            PowerCell(
                patients=patients,
                days=days,
                effect=effect,
                power=share,
                low=low,
                high=high,
                studies=config.studies,
            )
        )
    return cells


def plan_sentence(cells: Sequence[PowerCell], unit: str, wanted: float = 0.8) -> str:
    """Say which designs see the effect so often; more days only where that saves patients."""
    effect = abs(cells[0].effect)
    enough, fewest = [], math.inf
    for days in sorted({cell.days for cell in cells}):
        found = [c.patients for c in cells if c.days == days and c.power >= wanted]
        if found and min(found) < fewest:
            fewest = min(found)
            enough.append(f"{fewest} patients with {days} days a phase")
    head = f"To see an effect of {effect:g} {unit} in {wanted * 100:.0f} % of studies:"
    return f"{head} {', or '.join(enough) if enough else 'more patients than any design here'}."


def wilson(count: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Interval of a share.

    >>> [round(end, 4) for end in wilson(8, 10)]
    [0.4902, 0.9433]
    """
    share, weight = count / n, z**2 / n
    centre = (share + weight / 2) / (1 + weight)
    half = z / (1 + weight) * math.sqrt(share * (1 - share) / n + weight / (4 * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def _sees(design: StudyConfig, model: ModelConfig, rng: np.random.Generator) -> bool:
    """Whether one simulated study finds its effect; one that can't be analysed doesn't."""
    try:
        (effect,) = treatment_effects(simulate_study(design, rng).visits, model).effects
    except (FitError, InputError, ConfigError):  # the last: too few days are not left out
        return False
    return effect.p < 1 - model.level and effect.estimate * design.effects[1] > 0


def _response_sd(study: TreatmentStudy) -> float:
    """How differently patients respond: quadratic mean over treatments."""
    sizes = []
    for treatment in study.visits.treatments[1:]:
        own = [change for change in study.patients if change.treatment == treatment]
        if len(own) >= FEWEST_TO_SHRINK:
            observed = np.array([change.observed for change in own])
            sizes.append(shrink(observed, np.array([c.observed_error for c in own])).sd)
    return float(np.sqrt(np.mean(np.square(sizes)))) if sizes else 0.0
