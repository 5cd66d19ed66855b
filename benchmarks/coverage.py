"""Do the intervals of `dermx longitudinal` hold what they promise? Simulated studies, known truth.

Each study is drawn by `simulate_study` and analysed by the very functions that the command calls.
Printed per setting and method: how often the 95 % interval holds the true effect, how often a
comparison without effect has p < 0.05, how often any of them has after Holm's correction, and how
often the intervals of single patients hold the patient's own true change.

    python benchmarks/coverage.py                  # 500 studies a setting, all settings
    python benchmarks/coverage.py --studies 1000 --seed 2 --settings none alike --methods default
"""

import argparse
import math
import time
from collections import Counter
from dataclasses import replace

import numpy as np

from dermx.longitudinal.effects import ModelConfig, StudyEffects, treatment_effects
from dermx.longitudinal.mixed import FitError
from dermx.longitudinal.noise import fit_noise
from dermx.longitudinal.patient import own_changes
from dermx.longitudinal.simulate import SHIPPED_STUDY, StudyConfig, simulate_study

SHIPPED = SHIPPED_STUDY
METHODS = {
    "default": ModelConfig(),
    "bootstrap": ModelConfig(errors="bootstrap", n_boot=499),
    "own responses": ModelConfig(random="treatment"),
}
ALIKE = replace(SHIPPED, response_sd=0.0, drift_sd=0.0)
SETTINGS = {
    "shipped": (SHIPPED, "as the shipped study: days 0.6 correlated, patients respond differently"),
    "none": (replace(SHIPPED, effects=(0.0, 0.0, 0.0)), "the same without any effect"),
    "alike": (replace(ALIKE, effects=(0.0, 0.0, 0.0)), "no effect, all patients alike, no drift"),
    "memory": (replace(ALIKE, autocorrelation=0.9), "days 0.9 correlated, all patients alike"),
    "independent": (replace(ALIKE, autocorrelation=0.0), "days independent, all patients alike"),
    "gaps": (
        replace(SHIPPED, missing=0.4, days=(10, 28, 40)),
        "40 % of days missing, 10, 28 and 40 days",
    ),
    "five": (replace(SHIPPED, patients=5), "5 patients"),
    "floor": (replace(SHIPPED, level=9.0), "level 9: many days at the score 0"),
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--studies", type=int, default=500)
    options.add_argument("--settings", nargs="*", default=list(SETTINGS), choices=list(SETTINGS))
    options.add_argument("--seed", type=int, default=1)
    options.add_argument(
        "--methods", nargs="*", default=["default", "bootstrap"], choices=list(METHODS)
    )
    given = options.parse_args()
    methods = {name: METHODS[name] for name in given.methods}
    heads = ["setting", "method", "studies", "interval holds the truth", "p < 0.05 without effect",
             "any after Holm", "mean width"]  # fmt: skip
    print("| " + " | ".join(heads) + " |\n|" + "---|" * len(heads))
    for name in given.settings:
        measure(name, *SETTINGS[name], methods, given.studies, given.seed)


def measure(
    name: str,
    config: StudyConfig,
    text: str,
    methods: dict[str, ModelConfig],
    studies: int,
    seed: int,
) -> None:
    started = time.process_time()
    effects = np.asarray(config.effects)
    truth = np.array([*effects[1:], *(
        effects[k] - effects[j] for j in range(1, len(effects)) for k in range(j + 1, len(effects))
    )])  # fmt: skip
    kept: dict[str, list[np.ndarray]] = {name: [] for name in [*methods, "plain"]}
    own: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    at_limit = days = 0
    for study in range(studies):
        drawn = simulate_study(config, np.random.default_rng([seed, study]))
        at_limit, days = at_limit + drawn.at_limit, days + len(drawn.visits)
        for method, model in methods.items():
            try:
                found = treatment_effects(drawn.visits, model)
            except FitError:
                refused[method] += 1
                continue
            kept[method].append(_rows(found))
            if method == "default":
                kept["plain"].append(_plain_rows(found))
        for change in own_changes(drawn.visits, fit_noise(drawn.visits)):
            i = drawn.visits.patients.index(change.patient)
            k = drawn.visits.treatments.index(change.treatment)
            own["all"] += 1
            own["held"] += change.low <= drawn.own_changes[i, k] <= change.high
            right = np.sign(change.estimate) == np.sign(drawn.own_changes[i, k])
            own["said"] += change.verdict != "no clear change yet"
            own["wrong way"] += change.verdict != "no clear change yet" and not right
    print(f"| **{name}**: {text} | | | | | | |")
    for method, rows in kept.items():
        if rows:
            print(_line(method, np.stack(rows), truth))
    print(
        f"| | own changes of single patients | {studies} | {own['held'] / own['all']:.3f} | "
        f"{own['said'] / own['all']:.2f} said clear, {own['wrong way']} of {own['all']} "
        "the wrong way | | |"
    )
    print(
        f"<!-- {name}: {at_limit / days:.1%} of days at a limit; refused: {dict(refused)}; "
        f"{time.process_time() - started:.0f} s of one CPU -->",
        flush=True,
    )


def _rows(found: StudyEffects) -> np.ndarray:
    return np.array([(e.low, e.high, e.p, e.p_adjusted) for e in found.effects])


def _plain_rows(found: StudyEffects) -> np.ndarray:
    return np.array([(e.plain_low, e.plain_high, e.plain_p, math.nan) for e in found.effects])


def _line(method: str, rows: np.ndarray, truth: np.ndarray) -> str:
    """One method's row; rows is (studies, comparisons, 4)."""
    low, high, p, adjusted = np.moveaxis(rows, 2, 0)
    held = ((low <= truth) & (truth <= high)).mean(axis=0)
    none = truth == 0
    false = (p[:, none] < 0.05).mean(axis=0)
    family = math.nan if np.isnan(adjusted).any() else (adjusted[:, none] < 0.05).any(axis=1).mean()
    cells = [
        " / ".join(f"{share:.3f}" for share in held),
        " / ".join(f"{share:.3f}" for share in false),
        "" if math.isnan(family) or not none.any() else f"{family:.3f}",
        f"{(high - low).mean():.2f}",
    ]
    return f"| | {method} | {len(rows)} | " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
