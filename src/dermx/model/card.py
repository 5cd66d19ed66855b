"""What should someone know before they use a model? Its card, in Markdown, from what was measured.

Sections follow Mitchell et al. 2019 (arXiv:1810.03993).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from dermx.config import Config
from dermx.diagnoses import DIAGNOSES

HEADLINE = {
    "balanced_accuracy_dermoscopic": "Balanced accuracy, the seven dermoscopic classes",
    "balanced_accuracy": "Balanced accuracy, all eight classes",
    "accuracy": "Accuracy",
    "macro_f1": "Macro F1",
    "recall_mel": "Melanoma recall",
    "malignant_auroc": "AUROC for malignant or pre-malignant (mel, bcc, akiec)",
}


_AUDITED = "What `dermx audit` found on the test part:\n\n"
_NOT_AUDITED = "Not audited yet: run `dermx audit RUN`, then `dermx export RUN --out BUNDLE`."
_PLAIN = "The probabilities are a softmax without calibration."
_TRUSTED = (
    "Probabilities are calibrated, strange pictures turned away and unsure cases not answered: fitted on pictures of the\n"
    "  same sources, so on others expect confidence to be too high, and see docs/RESULTS.md for where it breaks."
)


def model_card(
    config: Config,
    figures: Mapping[str, Any],
    facts: Mapping[str, str],
    *,
    findings: Sequence[str] = (),
    trusted: bool = False,
) -> str:
    """Write the card.

    Args:
        config: All settings of the run.
        figures: "cases", "groups" and "scores" of `metrics.json` on the test part; empty where
            nothing was measured yet.
        facts: What the result depends on, by name.
        findings: What an audit of the test part found, in sentences.
        trusted: The bundle has trust parts.
    """
    spec = config.preprocess
    classes = "\n".join(
        f"| `{d.code}` | {d.name} | {d.behaviour} | {d.source} |" for d in DIAGNOSES
    )
    known = "\n".join(f"- {name}: {value}" for name, value in facts.items())
    found = "\n".join(f"- {line}" for line in findings)
    return f"""# Model card: {config.train.architecture}, eight skin conditions

**Research and education, not a medical device.** It must not decide about a person's care.

## What it does
Takes one picture ({spec.image_size} × {spec.image_size} pixels after scaling and cutting the centre square) and gives
probabilities for eight conditions and a feature map, from which the heat maps are computed.

| code | condition | behaviour | trained on |
|---|---|---|---|
{classes}

## Intended use
A baseline for research, teaching, and trying decision-support ideas. Not for diagnosis, triage or self-examination.

## Figures
{_figures(figures)}

## What it leans on
{_AUDITED + found if findings else _NOT_AUDITED}

## Limits
- **Acne comes from clinical photographs, the other seven from dermoscopy.** The model can tell them apart by the kind of picture:
  expect it to call clinical photographs of other skin diseases, and everyday photographs, acne.
- Seven of the classes come from two clinics (Vienna, Queensland); other cameras, skin types and sites lower the accuracy.
- Dark skin is hardly represented. A condition outside the eight can't be named.
- {_TRUSTED if trusted else _PLAIN}

## Training data
HAM10000 (Tschandl, Rosendahl, Kittler, Sci. Data 5:180161, 2018; CC BY-NC 4.0) and clinical photographs of acne, split by lesion and by patient;
duplicates stay in one part. Started from ImageNet-1k weights.

{known}

## Licence of the weights
CC BY-NC 4.0, with the HAM10000 attribution above.
"""


def _figures(figures: Mapping[str, Any]) -> str:
    if not figures:
        return "Not measured yet: run `dermx evaluate RUN`, then `dermx export RUN --out BUNDLE`."
    scores = figures["scores"]
    rows = "\n".join(
        f"| {name} | {scores[key]['value']:.3f} "
        f"| {scores[key]['low']:.3f} to {scores[key]['high']:.3f} |"
        for key, name in HEADLINE.items()
        if key in scores and scores[key]["value"] is not None
    )
    return (
        f"On {figures['cases']} held-out pictures of {figures['groups']} lesions or patients, none "
        "of them seen in training, answered from one view; 95 % intervals resample lesions.\n\n"
        f"| figure | value | 95 % interval |\n|---|---|---|\n{rows}"
    )
