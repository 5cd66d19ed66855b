"""Which optimisers of statsmodels' MixedLM can be trusted? The same simulated studies by each.

A fit is bad when its likelihood or standard errors are not finite, or its log likelihood is more
than 0.02 below the best of all finite ones. A random intercept, as in the default model.

    python benchmarks/optimisers.py --studies 100
"""

import argparse
import warnings
from dataclasses import replace

import numpy as np
import statsmodels
from statsmodels.regression.mixed_linear_model import MixedLM

from dermx.longitudinal.simulate import SHIPPED_STUDY, simulate_study
from dermx.longitudinal.visits import Visits

OPTIMISERS = ("lbfgs", "bfgs", "cg", "powell", "nm")
SETTINGS = {
    "as the shipped study": SHIPPED_STUDY,
    "no variance between patients": replace(
        SHIPPED_STUDY, patient_sd=0.0, response_sd=0.0, drift_sd=0.0, autocorrelation=0.0
    ),
}


def log_likelihood(visits: Visits, optimiser: str) -> float:
    """Of the REML fit; -inf where it is none."""
    x = np.stack([np.ones(len(visits)), visits.treatment == 1, visits.treatment == 2], axis=1)
    model = MixedLM(visits.severity, x.astype(float), visits.patient)
    try:
        fit = model.fit(method=[optimiser], maxiter=2000)
    except (np.linalg.LinAlgError, ValueError):
        return -np.inf
    sound = np.isfinite(fit.llf) and np.isfinite(fit.bse_fe).all() and fit.converged
    return float(fit.llf) if sound else -np.inf


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--studies", type=int, default=100)
    given = options.parse_args()
    warnings.simplefilter("ignore")
    print(f"bad fits of {given.studies}, statsmodels {statsmodels.__version__}\n")
    print(f"| | {' | '.join(OPTIMISERS)} |\n|---{'|---' * len(OPTIMISERS)}|")
    for name, config in SETTINGS.items():
        bad = np.zeros(len(OPTIMISERS), int)
        for study in range(given.studies):
            visits = simulate_study(config, np.random.default_rng([1, study])).visits
            found = np.array([log_likelihood(visits, optimiser) for optimiser in OPTIMISERS])
            bad += found < found.max() - 0.02
        print(f"| {name} | {' | '.join(map(str, bad))} |", flush=True)


if __name__ == "__main__":
    main()
