"""Which eight conditions does dermx know, and in which order are they?

The order of `CODES` is the order of the logits in every model, file and plot.
"""

from dataclasses import dataclass
from typing import Final, Literal

Behaviour = Literal["benign", "premalignant", "malignant"]


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """One condition: its code, its name for people, and how dangerous it is."""

    code: str  # as in HAM10000's `dx` column; "acne" is the eighth
    name: str
    behaviour: Behaviour
    isic: str | None  # column name in ISIC 2018 Task 3 files; acne has none
    source: Literal["dermoscopy", "clinical photograph"]  # of the training pictures


DIAGNOSES: Final[tuple[Diagnosis, ...]] = (
    Diagnosis(
        code="nv", name="melanocytic naevus", behaviour="benign", isic="NV", source="dermoscopy"
    ),
    Diagnosis(code="mel", name="melanoma", behaviour="malignant", isic="MEL", source="dermoscopy"),
    Diagnosis(
        code="bkl", name="benign keratosis", behaviour="benign", isic="BKL", source="dermoscopy"
    ),
    Diagnosis(
        code="bcc",
        name="basal cell carcinoma",
        behaviour="malignant",
        isic="BCC",
        source="dermoscopy",
    ),
    Diagnosis(
        code="akiec",
        name="actinic keratosis or Bowen's disease",
        behaviour="premalignant",
        isic="AKIEC",
        source="dermoscopy",
    ),
    Diagnosis(
        code="vasc", name="vascular lesion", behaviour="benign", isic="VASC", source="dermoscopy"
    ),
    Diagnosis(code="df", name="dermatofibroma", behaviour="benign", isic="DF", source="dermoscopy"),
    Diagnosis(
        code="acne", name="acne", behaviour="benign", isic=None, source="clinical photograph"
    ),
)

CODES: Final[tuple[str, ...]] = tuple(d.code for d in DIAGNOSES)
DERMOSCOPIC: Final[tuple[str, ...]] = tuple(d.code for d in DIAGNOSES if d.source == "dermoscopy")
MALIGNANT: Final[tuple[str, ...]] = tuple(d.code for d in DIAGNOSES if d.behaviour != "benign")
ISIC_COLUMNS: Final[tuple[str, ...]] = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")
BY_CODE: Final[dict[str, Diagnosis]] = {d.code: d for d in DIAGNOSES}
