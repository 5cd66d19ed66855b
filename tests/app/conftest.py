"""What tests of the page share: pictures in bytes, stub answers, and the page on a drawn model."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dermx.app import settings
from dermx.data.phantom import draw_phantom
from dermx.diagnoses import CODES
from dermx.model.bundle import Bundle
from dermx.records import Assessment, View

TRUST = {
    "predictive_entropy": 0.9,
    "mutual_information": 0.04,
    "ood_score": 0.3,
    "is_ood": False,
    "prediction_set": ["nv", "mel"],
    "malignancy": {"probability": 0.14, "refer": False},
    "abstain": False,
    "message": "Most likely melanocytic naevus: of 100 such answers about 53 are right.",
}


@pytest.fixture(scope="session")
def phantom_jpeg() -> bytes:
    return encoded(draw_phantom(3, size=(150, 200), diagnosis="nv").picture)


@pytest.fixture
def assessed() -> Callable[..., Assessment]:
    """An answer that leans to nv, with any trust keys."""

    def make(**trust: Any) -> Assessment:
        probs = dict(zip(CODES, (0.6, 0.1, 0.1, 0.05, 0.05, 0.05, 0.03, 0.02), strict=True))
        maps = np.zeros((len(CODES), 2, 2), np.float32)
        maps[0] = [[0, 0.2], [0.5, 1]]
        return Assessment(
            image="picture",
            size=(60, 80),
            probabilities=probs,
            view=View(left=0.125, width=0.75),
            maps=maps,
            trust=trust,
        )

    return make


@pytest.fixture
def config(tiny_bundle: Bundle) -> Iterator[settings.PageConfig]:
    """Settings with the drawn-up model, in use for one test."""
    before = settings.current()
    settings.use(settings.PageConfig(model=str(tiny_bundle.folder)))
    yield settings.current()
    settings.use(before)


def encoded(pixels: np.ndarray, kind: str = "JPEG", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def red(height: int = 60, width: int = 80) -> np.ndarray:
    return np.full((height, width, 3), (255, 0, 0), np.uint8)


PAGE = Path(settings.__file__).with_name("page.py")
