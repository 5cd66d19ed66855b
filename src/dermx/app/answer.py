"""What is said about one uploaded picture, and what is said first?

Pure: bytes and an `Assessment` in, words and pixels out; Streamlit is not needed to test it. The
order is fixed: a referral comes first whatever else holds, then what the model doesn't know, and
only without either a diagnosis in bold. A value that the model doesn't give is not invented.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Semaphore
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from dermx.app import texts
from dermx.assess import Model
from dermx.diagnoses import BY_CODE, MALIGNANT
from dermx.errors import PictureError
from dermx.preprocess.pipeline import resize
from dermx.preprocess.reading import ReadLimits, read_picture
from dermx.records import Assessment

if TYPE_CHECKING:
    from jaxtyping import UInt8

LONGEST: Final = 640  # pixels of a shown picture's longer side

Kind = Literal["refer", "unfamiliar", "unsure", "answer"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Answered:
    """One picture with its answer; nothing of the file is kept but pixels to look at."""

    id: str  # of the upload; the same file given twice has two
    name: str  # of the file, as the visitor knows it
    assessment: Assessment
    shown: UInt8[np.ndarray, "h w 3"]  # upright, at most `LONGEST` pixels
    drawn: bool = False  # by this program, as an example


@dataclass(frozen=True, kw_only=True)
class Given:
    """One file that a visitor gave."""

    id: str
    name: str
    data: bytes
    drawn: bool = False  # by this program, as an example


@dataclass(frozen=True)
class Notice:
    """One statement about a picture; the first of several is the most important."""

    kind: Kind
    title: str
    text: str


def answer_picture(given: Given, model: Model, limits: ReadLimits, gate: Semaphore) -> Answered:
    """Read and assess one file.

    The file is decoded twice, once as the model's recipe wants it and once to be looked at, so
    that the page's answer is the one of `dermx predict`.

    Args:
        given: The file.
        model: An opened model.
        limits: What is refused before it is decoded.
        gate: Held while pixels are decoded, so that many visitors don't need much memory.

    Raises:
        PictureError: One sentence that begins with the name.
    """
    try:
        with gate:
            picture = read_picture(given.data, min_side=LONGEST, limits=limits)
            assessment = model.assess(given.data)
            shown = _fit(picture.pixels)
    except PictureError as error:
        raise PictureError(refusal(given.name, error)) from error
    return Answered(
        id=given.id, name=given.name, assessment=assessment, shown=shown, drawn=given.drawn
    )


def refusal(name: str, error: PictureError) -> str:
    """Say why a file is refused, by its name.

    >>> refusal("a.jpg", PictureError("the picture is empty (0 bytes)"))
    'a.jpg is empty (0 bytes).'
    """
    reason = " ".join(str(error).split()).removeprefix("the picture ").rstrip(".")
    return f"{name} {reason}."


def notices(assessment: Assessment) -> list[Notice]:
    """Say what matters about a picture, most important first.

    Args:
        assessment: Its `trust` may hold any of the keys of `dermx predict --json`, or none.

    Returns:
        A referral if there is one; then that the picture is unlike those learned from, or that
        the model is unsure, and why; a diagnosis only when none of these two holds.
    """
    trust = assessment.trust
    said: list[Notice] = []
    if malignancy(trust).get("refer"):
        strange = bool(trust.get("is_ood"))
        title = texts.REFER_TITLE_UNFAMILIAR if strange else texts.REFER_TITLE
        text = texts.REFER_UNFAMILIAR if strange else texts.REFER
        shown = percent(malignant_probability(assessment))
        said.append(Notice("refer", title, text.format(probability=shown)))
    message = str(trust.get("message") or "")
    if trust.get("is_ood"):
        said.append(Notice("unfamiliar", texts.UNFAMILIAR_TITLE, message or texts.UNFAMILIAR))
    elif trust.get("abstain"):
        said.append(Notice("unsure", texts.UNSURE_TITLE, message or texts.UNSURE))
    else:
        said.append(Notice("answer", _diagnosis(assessment), message or _meaning(assessment)))
    return said


def answers(assessment: Assessment) -> bool:
    """Whether the model stands by a diagnosis; False where it abstains."""
    return not (assessment.trust.get("is_ood") or assessment.trust.get("abstain"))


def malignancy(trust: Mapping[str, Any]) -> Mapping[str, Any]:
    """The probability and the referral, empty where the model has no such part."""
    found = trust.get("malignancy")
    return found if isinstance(found, Mapping) else {}


def malignant_probability(assessment: Assessment) -> float:
    """Probability of a malignant or pre-malignant condition, in [0, 1].

    The model's own, or else the sum over these classes.
    """
    given = malignancy(assessment.trust).get("probability")
    if given is not None:
        return float(given)
    return sum(p for code, p in assessment.probabilities.items() if code in MALIGNANT)


def ranked(assessment: Assessment) -> list[tuple[str, float]]:
    """Codes with their probabilities, likeliest first."""
    return sorted(assessment.probabilities.items(), key=lambda item: -item[1])


def not_ruled_out(assessment: Assessment) -> Sequence[str]:
    """Codes of the prediction set.

    Empty where the model has no such part, and for a picture unlike those it was made for.
    """
    if assessment.trust.get("is_ood"):
        return []
    return [str(code) for code in assessment.trust.get("prediction_set") or ()]


def percent(probability: float) -> str:
    r"""Whole percents; never a rounded 0 % or 100 % that claims certainty.

    >>> percent(0.834), percent(0.9971), percent(0.0004)
    ('83\xa0%', '> 99\xa0%', '< 1\xa0%')
    """
    if probability > 0.99:
        return "> 99\u00a0%"
    return "< 1\u00a0%" if probability < 0.01 else f"{probability:.0%}".replace("%", "\u00a0%")


def _diagnosis(assessment: Assessment) -> str:
    name = BY_CODE[assessment.prediction].name
    return f"{name[0].upper()}{name[1:]}, {percent(assessment.confidence)}"


def _meaning(assessment: Assessment) -> str:
    diagnosis = BY_CODE[assessment.prediction]
    return texts.MEANING[diagnosis.behaviour]


def _fit(pixels: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    factor = LONGEST / max(pixels.shape[:2])
    if factor >= 1:
        return pixels
    height, width = (max(1, round(side * factor)) for side in pixels.shape[:2])
    return resize(pixels, (height, width))
