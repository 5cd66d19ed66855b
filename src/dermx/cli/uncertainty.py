"""What does `dermx uncertainty` show? How much answers scatter, a row per picture."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import typer

from dermx.cli.predict import gather
from dermx.errors import PictureError
from dermx.model.bundle import load_bundle
from dermx.model.runtime import Session
from dermx.predict import forward
from dermx.preprocess.views import VIEWS
from dermx.trust.calibration import Calibration, uncalibrated
from dermx.trust.uncertainty import (
    dropout_logits,
    expected_entropy,
    mutual_information,
    predictive_entropy,
)
from dermx.trust.verdict import Trust

COLUMNS = {
    "predictive_entropy": "entropy",
    "expected_entropy": "expected",
    "mutual_information": "information",
    "views_mutual_information": "information over views",
}


def show_uncertainty(
    paths: Sequence[Path],
    model: Path | None,
    samples: int,
    rate: float | None,
    *,
    as_json: bool = False,
) -> int:
    """Print the scatter of each picture's answer; 1 is returned where one can't be read."""
    rows = list(scattered(gather(paths), model, samples, rate))
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    else:
        read = [row for row in rows if "error" not in row]
        table = [["picture", "prediction", *COLUMNS.values()]] + [
            [row["image"], row["prediction"], *(f"{row[key]:.4f}" for key in COLUMNS)]
            for row in read
        ]
        widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
        for row in table:
            line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            typer.echo(line.rstrip())
        typer.echo("entropies in nats; information: how much the samples disagree")
    failures = [row for row in rows if "error" in row]
    for row in failures:
        typer.echo(f"unreadable: {row['error']}", err=True)
    return 1 if failures else 0


def scattered(
    pictures: Sequence[Path], model: Path | None, samples: int, rate: float | None
) -> Iterator[dict[str, Any]]:
    """Answer each picture as `dermx predict` does, under dropout and in its eight views."""
    bundle = load_bundle(model)
    trust = Trust.of(bundle)
    calibration = uncalibrated(len(bundle.codes)) if trust is None else trust.calibration
    if rate is None:
        rate = 0.2 if trust is None else trust.dropout.rate
    whole = trust is not None and trust.views > 1  # else `dermx predict` answers by one view
    session = Session(bundle)
    for picture, answer in zip(pictures, forward(session, pictures, views=VIEWS), strict=True):
        if isinstance(answer, PictureError):
            yield {"image": str(picture), "error": str(answer)}
        else:
            features = answer.features if whole else answer.views[0]
            code = bundle.codes[int(session.logits(features[None]).argmax())]
            found = _scatter(session, features, answer.views, calibration, samples, rate)
            yield {"image": str(picture), "prediction": code, **found}


def _scatter(
    session: Session,
    features: np.ndarray,
    views: np.ndarray,
    calibration: Calibration,
    samples: int,
    rate: float,
) -> dict[str, float]:
    bundle = session.bundle
    dropped = calibration.probs(
        dropout_logits(features, bundle.weight, bundle.bias, rate=rate, samples=samples)
    )
    seen = calibration.probs(session.logits(views))
    return {
        "predictive_entropy": float(predictive_entropy(dropped)),
        "expected_entropy": float(expected_entropy(dropped)),
        "mutual_information": float(mutual_information(dropped)),
        "views_mutual_information": float(mutual_information(seen)),
    }
