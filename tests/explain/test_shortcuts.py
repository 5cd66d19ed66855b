"""Comparisons of changed with unchanged pictures, worked by hand."""

import numpy as np
import pytest

from dermx.diagnoses import CODES
from dermx.errors import InputError
from dermx.evaluate.intervals import bootstrap, percentile_interval, resampled
from dermx.explain.shortcuts import answers, called, compare
from dermx.model.bundle import Bundle
from dermx.model.runtime import Session
from dermx.records import Predictions


def predicted(
    answered: list[str], truth: list[str], groups: list[str] | None = None
) -> Predictions:
    logits = np.zeros((len(answered), len(CODES)), np.float32)
    for row, code in zip(logits, answered, strict=True):
        row[CODES.index(code)] = 1
    return Predictions(
        images=[f"picture{i}" for i in range(len(truth))],
        groups=groups or [f"lesion{i}" for i in range(len(truth))],
        labels=np.array([CODES.index(code) for code in truth]),
        logits=logits,
        features=np.zeros((len(truth), 2), np.float32),
    )


TRUTH = ["nv", "nv", "mel", "mel"]


def test_a_change_by_hand() -> None:
    before = predicted(["nv", "nv", "mel", "nv"], TRUTH)
    after = predicted(["mel", "nv", "nv", "nv"], TRUTH)
    found = compare("paint", before, after, n_boot=200)
    one_of_three = predicted(["mel", "nv", "nv", "nv"], ["nv", "nv", "nv", "mel"])
    assert compare("paint", one_of_three, one_of_three, n_boot=5).called_mel[0] == pytest.approx(
        1 / 3
    )
    assert (found.cases, found.lesions, found.classes) == (4, 4, 2)
    assert found.figures["accuracy"][0] == 0.25
    assert found.figures["balanced_accuracy_dermoscopic"][0] == 0.25
    assert found.figures["recall_mel"][0] == 0
    assert found.drops["accuracy"][0] == 0.5
    assert found.drops["recall_mel"][0] == 0.5
    assert found.other_answers[0] == 0.5
    assert found.called_mel[0] == 0.5  # one of the two naevi


def test_intervals_are_those_of_the_bootstrap_and_lesions_count_once() -> None:
    rng = np.random.default_rng(1)
    truth = [CODES[i] for i in rng.integers(0, 3, 40)]  # nv, mel, bkl
    before, after = (
        predicted(
            [c if rng.random() < 0.7 else "nv" for c in truth],
            truth,
            [f"lesion{i // 2}" for i in range(40)],
        )
        for _ in range(2)
    )
    found = compare("paint", before, after, n_boot=60, seed=3)
    ends = bootstrap(after, n_boot=60, seed=3)
    assert (found.lesions, found.classes) == (20, 3)
    for name, (_, low, high) in found.figures.items():
        assert (low, high) == pytest.approx(ends[name]), name
    one, other = (resampled(part, n_boot=60, seed=3)["accuracy"] for part in (before, after))
    assert found.drops["accuracy"][1:] == pytest.approx(percentile_interval(one - other))
    benign = np.array(truth) != "mel"
    called_so = after.logits.argmax(axis=1)[benign] == CODES.index("mel")
    assert found.called_mel[0] == pytest.approx(called_so.mean())


def test_no_change_has_no_drop_and_no_width() -> None:
    before = predicted(["nv", "mel", "mel", "nv"], TRUTH)
    found = compare("none", before, before, n_boot=200)
    assert set(found.drops.values()) == {(0.0, 0.0, 0.0)}
    assert found.other_answers == (0, 0, 0)


def test_the_drop_is_paired_so_narrower_than_its_parts() -> None:
    rng = np.random.default_rng(0)
    truth = ["nv", "mel"] * 50
    answered = [c if rng.random() < 0.6 else "bkl" for c in truth]
    changed = ["bkl", "bkl", *answered[2:]]  # two of a hundred change
    found = compare("little", predicted(answered, truth), predicted(changed, truth))
    drop, own = found.drops["accuracy"], found.figures["accuracy"]
    assert drop[2] - drop[1] < (own[2] - own[1]) / 2


def test_other_cases_are_refused() -> None:
    before = predicted(["nv", "nv", "mel", "nv"], TRUTH)
    with pytest.raises(InputError, match="paint: the changed cases are not those as taken"):
        compare("paint", before, before.select(np.array([1, 0, 2, 3])))


def test_a_share_where_all_or_none_did_has_the_exact_open_end() -> None:
    stats = pytest.importorskip("scipy.stats")
    names = [f"patient{i}" for i in range(12)]
    for hits, end in ((12, "low"), (0, "high")):
        exact = stats.binomtest(hits, 12).proportion_ci(0.95, method="exact")
        found = called("x", np.arange(12) < hits, names).share
        assert found[1 if end == "low" else 2] == pytest.approx(getattr(exact, end))
    assert called("x", np.arange(12) < 6, names).share[0] == 0.5


def test_patients_count_once_in_the_exact_end() -> None:
    ten_of_one = called("x", np.ones(10, bool), ["a"] * 10)
    assert (ten_of_one.pictures, ten_of_one.patients) == (10, 1)
    assert ten_of_one.share == (1, 0.025, 1)


def test_every_variant_keeps_its_place_whatever_the_batch(tiny_bundle: Bundle) -> None:
    session = Session(tiny_bundle, threads=1)
    rng = np.random.default_rng(0)
    cases = [tuple(rng.integers(0, 256, (3, 32, 32, 3), np.uint8)) for _ in range(5)]
    alone = [[session.run(pixels[None])[1][0] for pixels in case] for case in cases]
    for batch_size in (1, 2, 16):
        found = answers(session, cases, batch_size=batch_size)
        np.testing.assert_allclose(found, np.swapaxes(alone, 0, 1), atol=1e-6)
    with pytest.raises(InputError, match="no case to answer"):
        answers(session, [])
    with pytest.raises(InputError, match="every case needs the same variants"):
        answers(session, [cases[0], cases[1][:2]])
