"""Score a drawn test set with ISIC's own scorer and store what it says.

isic-challenge-scoring 5.6.0 needs Python < 3.13 and pandas < 3, so it gets its own environment;
run from the repository's root:

    python3.11 -m venv /tmp/isic
    /tmp/isic/bin/pip install isic-challenge-scoring==5.6.0 "pandas<3" jaxtyping
    PYTHONPATH=src /tmp/isic/bin/python tests/reference/isic_scoring.py

The cases are stored with the numbers, so the comparison does not depend on a random generator.
No acne answer and no tie is among them: ISIC's classes have no acne, and its scorer counts a tie
as wrong.
"""

import json
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
from isic_challenge_scoring.classification import ClassificationMetric, ClassificationScore

from dermx.diagnoses import BY_CODE, CODES, ISIC_COLUMNS
from dermx.records import softmax
from dermx.report import write_isic_csv

OUT = Path(__file__).with_suffix(".json")


def main() -> None:
    rng = np.random.default_rng(20181)
    n = 240
    labels = rng.choice(7, n, p=[0.55, 0.12, 0.12, 0.08, 0.05, 0.04, 0.04])
    logits = rng.normal(size=(n, 8)).round(3)
    logits[np.arange(n), labels] += 1.5
    seven = logits[:, :7]
    logits[:, CODES.index("acne")] = seven.max(axis=1) - rng.uniform(0.5, 6, n)
    logits = logits.round(3)
    best = np.sort(logits, axis=1)[:, -2:]
    assert CODES[7] == "acne"
    assert (logits.argmax(axis=1) < 7).all()
    assert (best[:, 0] < best[:, 1]).all()
    images = [f"ISIC_9{i:06d}" for i in range(n)]
    with tempfile.TemporaryDirectory() as folder:
        truth, answers = Path(folder, "truth.csv"), Path(folder, "answers.csv")
        rows = [
            ",".join([image, *(str(float(BY_CODE[CODES[label]].isic == c)) for c in ISIC_COLUMNS)])
            for image, label in zip(images, labels, strict=True)
        ]
        truth.write_text("\n".join([",".join(["image", *ISIC_COLUMNS]), *rows]) + "\n")
        write_isic_csv(softmax(logits), images, answers)
        found = ClassificationScore.from_file(
            truth, answers, ClassificationMetric.BALANCED_ACCURACY
        )
    content = {
        "scorer": f"isic-challenge-scoring {version('isic-challenge-scoring')}",
        "balanced_accuracy": float(found.overall),
        "auc": {c: float(found.per_category.at[c, "auc"]) for c in ISIC_COLUMNS},
        "macro_auc": float(found.macro_average["auc"]),
        "labels": labels.tolist(),
        "logits": logits.tolist(),
    }
    OUT.write_text(json.dumps(content) + "\n")
    print({k: v for k, v in content.items() if k not in ("labels", "logits")})


if __name__ == "__main__":
    main()
