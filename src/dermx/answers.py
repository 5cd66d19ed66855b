"""What do the answers for many pictures look like as a table? One form for every door."""

import csv
import io
from collections.abc import Sequence

from dermx.diagnoses import CODES
from dermx.predict import Failure
from dermx.records import Assessment

Answer = Assessment | Failure

TRUST_COLUMNS = (
    "predictive_entropy",
    "mutual_information",
    "ood_score",
    "is_ood",
    "prediction_set",
    "malignancy",
    "refer",
    "abstain",
    "message",
)


def as_csv(answers: Sequence[Answer], codes: Sequence[str] = CODES) -> str:
    """Return a header and a row per picture; what is not known of a picture stays empty.

    Args:
        answers: In the order of the rows; a picture that can't be read has only its error.
        codes: The model's classes, a column each; trust columns follow where there are any.
    """
    trusted = any(isinstance(answer, Assessment) and answer.trust for answer in answers)
    more = TRUST_COLUMNS if trusted else ()
    columns = ["image", "prediction", "confidence", *codes, *more, "error"]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(map(_row, answers))
    return text.getvalue()


def _row(answer: Answer) -> dict[str, object]:
    """Cells by column: a set as codes with spaces between, truth as 1 or 0."""
    if isinstance(answer, Failure):
        return {"image": _plain(answer.image), "error": _plain(answer.message)}
    row = {
        "image": _plain(answer.image),
        "prediction": answer.prediction,
        "confidence": answer.confidence,
        **answer.probabilities,
        **answer.trust,
    }
    if answer.trust:
        danger = answer.trust["malignancy"]
        row |= {
            "prediction_set": " ".join(answer.trust["prediction_set"]),
            "malignancy": danger["probability"],
            "refer": danger["refer"],
        }
    return {key: int(value) if isinstance(value, bool) else value for key, value in row.items()}


def _plain(text: str) -> str:
    """Keep a spreadsheet from taking a file's name for a formula.

    >>> _plain("=1+1.jpg")
    "'=1+1.jpg"
    """
    return f"'{text}" if text[:1] in tuple("=+-@\t\r") else text
