"""Dropout on the features is dropout in the network; entropies are those of SciPy."""

import numpy as np
import pytest

from dermx.errors import InputError
from dermx.records import softmax
from dermx.trust.uncertainty import (
    dropout_logits,
    entropy,
    expected_entropy,
    mutual_information,
    predictive_entropy,
)


def test_entropies_agree_with_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    probs = softmax(np.random.default_rng(0).standard_normal((6, 4, 5)) * 3)
    np.testing.assert_allclose(entropy(probs), stats.entropy(probs, axis=-1), atol=1e-12)
    total = stats.entropy(probs.mean(axis=1), axis=-1)
    each = stats.entropy(probs, axis=-1).mean(axis=1)
    np.testing.assert_allclose(predictive_entropy(probs), total, atol=1e-12)
    np.testing.assert_allclose(expected_entropy(probs), each, atol=1e-12)
    np.testing.assert_allclose(mutual_information(probs), total - each, atol=1e-12)


def test_samples_that_agree_have_no_mutual_information_whatever_their_entropy() -> None:
    unsure = np.tile([0.5, 0.5], (10, 1))
    assert mutual_information(unsure) == pytest.approx(0)
    assert predictive_entropy(unsure) == pytest.approx(np.log(2))


def test_samples_that_are_sure_of_different_classes_have_nothing_else() -> None:
    sure = np.eye(4)
    assert mutual_information(sure) == pytest.approx(np.log(4))
    assert expected_entropy(sure) == pytest.approx(0)


def test_it_is_equal_in_distribution_to_running_the_network_again() -> None:
    """PyTorch with dropout switched on before its linear layer, 4,000 times, against ours."""
    torch = pytest.importorskip("torch")
    stats = pytest.importorskip("scipy.stats")
    torch.manual_seed(0)
    layer = torch.nn.Sequential(torch.nn.Dropout(0.2), torch.nn.Linear(40, 3)).train()
    features = torch.rand(40)
    with torch.no_grad():
        again = layer(features.expand(4000, 40)).numpy()
    weight, bias = layer[1].weight.detach().numpy(), layer[1].bias.detach().numpy()
    ours = dropout_logits(features.numpy(), weight, bias, rate=0.2, samples=4000)
    for k in range(3):  # same shape, not only same mean and spread
        assert stats.ks_2samp(again[:, k], ours[:, k]).pvalue > 0.01
    for first, second in ((0, 1), (1, 2)):
        theirs = np.corrcoef(again[:, first], again[:, second])[0, 1]
        assert np.corrcoef(ours[:, first], ours[:, second])[0, 1] == pytest.approx(theirs, abs=0.06)


def test_no_dropout_is_the_plain_answer_and_the_same_seed_the_same_masks() -> None:
    rng = np.random.default_rng(3)
    features = rng.random(10).astype(np.float32)
    weight, bias = rng.random((4, 10)).astype(np.float32), rng.random(4).astype(np.float32)
    plain = dropout_logits(features, weight, bias, rate=0, samples=3)
    np.testing.assert_allclose(plain, np.tile(weight @ features + bias, (3, 1)), rtol=1e-6)
    first, second = (dropout_logits(features, weight, bias, rate=0.5) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert (first != dropout_logits(features, weight, bias, rate=0.5, seed=1)).any()


def test_a_rate_of_one_drops_everything_and_is_refused() -> None:
    one = np.ones(2, np.float32)
    with pytest.raises(InputError, match=r"rate in \[0, 1\) and a sample, got 1.0 and 30"):
        dropout_logits(one, one[None], np.zeros(1, np.float32), rate=1.0)
    with pytest.raises(InputError, match=r"got 0\.5 and 0"):
        dropout_logits(one, one[None], np.zeros(1, np.float32), rate=0.5, samples=0)
