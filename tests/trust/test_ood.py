"""Scores agree with pytorch-ood's on the same arrays, and with cases worked by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dermx.errors import InputError
from dermx.records import Predictions
from dermx.trust.ood import (
    energy,
    fit_detectors,
    fit_knn,
    fit_mahalanobis,
    fit_vim,
    gen,
    msp,
)

WEIGHT = np.random.default_rng(3).normal(size=(8, 16)).astype(np.float32)
BIAS = np.linspace(-1, 1, 8).astype(np.float32)


def cases(n: int, seed: int, spread: float = 1.0) -> Predictions:
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 8
    features = (rng.normal(0, spread, (n, 16)) + np.eye(8, 16)[labels] * 4).astype(np.float32)
    return Predictions(
        images=[str(i) for i in range(n)],
        groups=[str(i) for i in range(n)],
        labels=labels,
        logits=(features @ WEIGHT.T + BIAS).astype(np.float32),
        features=features,
    )


KNOWN, NEW = cases(400, 0), cases(50, 1, 3.0)


def test_logit_scores_agree_with_pytorch_ood() -> None:
    detectors = pytest.importorskip("pytorch_ood.detector")
    torch = pytest.importorskip("torch")
    logits = torch.tensor(NEW.logits)
    theirs = detectors.MaxSoftmax.score(logits).numpy()  # minus the highest probability
    np.testing.assert_allclose(msp(NEW.logits) - 1, theirs, atol=1e-6)
    theirs = detectors.EnergyBased.score(logits).numpy()
    np.testing.assert_allclose(energy(NEW.logits), theirs, rtol=1e-5)
    mild = NEW.logits / 8  # theirs keeps probabilities 1e-7 away from 0 and 1
    theirs = detectors.GEN.score(torch.tensor(mild)).numpy()  # the mean over the classes
    np.testing.assert_allclose(gen(mild) / 8, theirs, rtol=1e-4)


def test_feature_scores_agree_with_pytorch_ood() -> None:
    detectors = pytest.importorskip("pytorch_ood.detector")
    torch = pytest.importorskip("torch")
    x, y = torch.tensor(KNOWN.features).double(), torch.tensor(KNOWN.labels)
    z = torch.tensor(NEW.features).double()
    ours = fit_mahalanobis(KNOWN, shrinkage=0.0).score(NEW.features, NEW.logits)
    theirs = detectors.Mahalanobis(None).fit_features(x.float(), y).predict_features(z.float())
    # Theirs halves the distance and doesn't divide the scatter by the number of cases.
    np.testing.assert_allclose(ours / 2 / 400, theirs.numpy(), rtol=1e-3)
    ours = fit_mahalanobis(KNOWN, relative=True, shrinkage=0.0).score(NEW.features, NEW.logits)
    theirs = detectors.RMD(None).fit_features(x.float(), y).predict_features(z.float())
    np.testing.assert_allclose(np.corrcoef(ours, theirs.numpy())[0, 1], 1, atol=1e-6)
    ours = fit_knn(KNOWN, 5).score(NEW.features, NEW.logits)
    theirs = detectors.KNN(None, k=5).fit_features(x, y).predict_features(z).numpy()
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    vim = detectors.ViM(None, 6, torch.tensor(WEIGHT), torch.tensor(BIAS))
    theirs = vim.fit_features(x, y).predict_features(z).numpy()
    ours = fit_vim(KNOWN, WEIGHT, BIAS, 6).score(NEW.features, NEW.logits)
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3)


def test_mahalanobis_of_one_class_by_hand() -> None:
    # Deviations (±2, 0), (0, ±1): variances 2 and 0.5, so (2, 1) lies 2 + 2 from the mean.
    features = np.array([[2, 0], [-2, 0], [0, 1], [0, -1]], np.float32)
    known = Predictions(
        images=list("abcd"), groups=list("abcd"), labels=np.zeros(4, int),
        logits=np.zeros((4, 8), np.float32), features=features,
    )  # fmt: skip
    detector = fit_mahalanobis(known, shrinkage=0.0)
    one = np.array([[2.0, 1.0]])
    assert detector.score(one, np.zeros((1, 8))) == pytest.approx([4.0])
    # Shrunk all the way, the covariance is a sphere of variance 1.25.
    sphere = fit_mahalanobis(known, shrinkage=1.0)
    assert sphere.score(one, np.zeros((1, 8))) == pytest.approx([5 / 1.25])


def test_neither_the_order_of_known_cases_nor_a_class_without_any_changes_a_distance() -> None:
    some = KNOWN.select(np.flatnonzero(~np.isin(KNOWN.labels, [2, 7])))
    mixed = some.select(np.random.default_rng(4).permutation(len(some.labels)))
    for relative in (False, True):
        one, other = (
            fit_mahalanobis(part, relative=relative, shrinkage=0.1).score(NEW.features, NEW.logits)
            for part in (some, mixed)
        )
        np.testing.assert_allclose(one, other, rtol=1e-6)
    # By hand: within-class covariance, its inverse, the nearest of six means.
    means = {k: some.features[some.labels == k].mean(axis=0) for k in np.unique(some.labels)}
    within = some.features - np.stack([means[k] for k in some.labels])
    inverse = np.linalg.inv(within.T.astype(float) @ within / len(within))
    apart = [
        ((NEW.features - m) @ inverse * (NEW.features - m)).sum(axis=1) for m in means.values()
    ]
    found = fit_mahalanobis(mixed, shrinkage=0.0).score(NEW.features, NEW.logits)
    np.testing.assert_allclose(found, np.min(apart, axis=0), rtol=1e-3)


@given(st.floats(-50, 50), st.integers(0, 2**16))
def test_confidence_ignores_a_shift_of_all_logits_and_energy_follows_it(
    shift: float, seed: int
) -> None:
    logits = np.random.default_rng(seed).normal(0, 3, (5, 8))
    np.testing.assert_allclose(msp(logits + shift), msp(logits), atol=1e-9)
    np.testing.assert_allclose(gen(logits + shift), gen(logits), atol=1e-9)
    np.testing.assert_allclose(energy(logits + shift), energy(logits) - shift, atol=1e-9)


@given(st.permutations(range(20)))
def test_the_order_of_cases_changes_no_score(order: list[int]) -> None:
    one = NEW.select(np.arange(20))
    for name, detector in DETECTORS.items():
        scores = detector.score(one.features, one.logits)
        shuffled = detector.score(one.features[order], one.logits[order])
        np.testing.assert_allclose(shuffled, scores[order], rtol=1e-9, atol=1e-9, err_msg=name)


DETECTORS = fit_detectors(KNOWN, WEIGHT, BIAS)


def test_every_distance_is_higher_for_what_lies_far_off() -> None:
    far = np.full((1, 16), -40.0, np.float32)
    logits = far @ WEIGHT.T + BIAS
    for name in ("Mahalanobis", "kNN"):
        known = DETECTORS[name].score(KNOWN.features, KNOWN.logits)
        assert DETECTORS[name].score(far, logits)[0] > np.quantile(known, 0.99), name


def test_distances_need_labels_neighbours_and_dimensions() -> None:
    unlabelled = Predictions(
        images=["a"], groups=["a"], labels=np.array([-1]), logits=KNOWN.logits[:1],
        features=KNOWN.features[:1],
    )  # fmt: skip
    with pytest.raises(InputError, match="no case has a label"):
        fit_mahalanobis(unlabelled)
    with pytest.raises(InputError, match=r"from 1 to 400 neighbours .* got 401"):
        fit_knn(KNOWN, 401)
    with pytest.raises(InputError, match="from 1 to 15 dimensions, got 16"):
        fit_vim(KNOWN, WEIGHT, BIAS, 16)
