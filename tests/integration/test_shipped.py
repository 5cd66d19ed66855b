"""The model in the package is the one whose figures are published."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import dermx
from dermx.cli.main import main
from dermx.data.catalog import build_catalog
from dermx.data.dermnet import read_dermnet_acne
from dermx.data.ham10000 import read_ham10000
from dermx.data.split import load_published_groups, load_published_split
from dermx.diagnoses import CODES
from dermx.evaluate.metrics import score
from dermx.model.bundle import SHIPPED, load_bundle
from dermx.predict import predict_cases
from dermx.trust.verdict import Trust

REPOSITORY = Path(__file__).parents[2]
EXAMPLES = REPOSITORY / "examples"
HEADLINE = ("balanced_accuracy_dermoscopic", "accuracy", "recall_mel", "macro_f1")


def test_it_answers_every_example_picture(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(EXAMPLES), "--json"]) == 0
    answers = json.loads(capsys.readouterr().out)
    assert len(answers) == len(list(EXAMPLES.glob("*.jpg"))) >= 4
    for answer in answers:
        assert set(answer["probabilities"]) == set(CODES)
        assert sum(answer["probabilities"].values()) == pytest.approx(1)
        assert answer["confidence"] == answer["probabilities"][answer["prediction"]]


def test_its_heat_map_lies_on_the_original_picture() -> None:
    model = dermx.load_model()
    answer = model.assess(EXAMPLES / "drawn_naevus.jpg")
    heat = answer.heatmap()
    assert heat.shape == answer.size == (450, 600)
    assert heat.max() == pytest.approx(1, abs=0.05)
    assert heat[:, :70].max() == heat[:, -70:].max() == 0  # outside the centre square


def test_it_is_small_and_names_its_licence() -> None:
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 20 * 2**20
    assert "CC BY-NC 4.0" in (SHIPPED / "card.md").read_text(encoding="utf-8")


def test_the_model_card_in_the_docs_is_the_one_in_the_bundle() -> None:
    card = (SHIPPED / "card.md").read_text(encoding="utf-8")
    assert (REPOSITORY / "docs" / "MODEL_CARD.md").read_text(encoding="utf-8") == card


@pytest.mark.parametrize("page", ["README.md", "docs/RESULTS.md", "docs/MODEL_CARD.md"])
@pytest.mark.parametrize("name", HEADLINE)
def test_the_published_figures_are_those_of_the_bundle(page: str, name: str) -> None:
    value = load_bundle().figures["scores"][name]["value"]
    assert f"{value:.3f}" in (REPOSITORY / page).read_text(encoding="utf-8")


@pytest.mark.data
@pytest.mark.slow
def test_the_published_figures_come_out_again_on_the_test_part(real_data: Path) -> None:
    parts, groups = load_published_split(), load_published_groups()
    cases = read_ham10000(real_data / "ham10000") + read_dermnet_acne(real_data / "dermnet")
    test = [
        replace(case, group=groups[case.image])
        for case in build_catalog(cases)
        if parts[case.image] == "test"
    ]
    predictions, failures = predict_cases(load_bundle(), test)
    assert failures == []
    assert len(np.unique(predictions.groups)) == load_bundle().figures["groups"]
    published = load_bundle().figures["scores"]
    found = score(predictions).values
    for name in HEADLINE:  # another processor may round a close case the other way
        assert found[name] == pytest.approx(published[name]["value"], abs=0.005)


def test_it_says_whether_to_believe_it() -> None:
    answer = dermx.predict_with_trust(EXAMPLES / "drawn_naevus.jpg")
    assert answer["prediction"] in answer["prediction_set"]
    assert answer["confidence"] == answer["probabilities"][answer["prediction"]]
    assert 0 <= answer["mutual_information"] <= answer["predictive_entropy"]
    blank = dermx.predict_with_trust(np.full((450, 600, 3), 255, np.uint8))
    assert blank["is_ood"]
    assert blank["abstain"]
    assert blank["message"].startswith("This does not look like")


def test_its_trust_parts_promise_what_the_results_say() -> None:
    trust = Trust.of(load_bundle())
    assert trust is not None
    assert trust.gate is not None
    assert (trust.views, trust.sets.per, trust.sets.coverage) == (8, "class", 0.9)
    page = (REPOSITORY / "docs" / "RESULTS.md").read_text(encoding="utf-8")
    assert f"{trust.screening.threshold:.3f}" in page
    losses = trust.facts["log_loss_left_out"]
    assert trust.calibration.method == min(losses, key=lambda name: losses[name])
    assert f"{losses[trust.calibration.method]:.3f}" in page
