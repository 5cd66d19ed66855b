"""May this answer be believed? Everything in this package composed, for one picture at a time.

The mean features of the eight views, and nothing else of the picture, become: calibrated
probabilities, a score of strangeness, the scatter under dropout, a set of classes, the chance of
malignancy, and the decision whether to answer.

The answer stays the model's own, the class with the highest mean logit, so that figures of `dermx
evaluate` are about what is answered; calibration says how often such an answer is right. It takes
back what oversampling did to the class shares, so another class can be more probable than the
answer: then confidence is low, and the case is not answered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from dermx.diagnoses import BY_CODE, MALIGNANT
from dermx.errors import BundleError, DermxError, InputError
from dermx.model.bundle import Bundle, TrustParts
from dermx.trust.calibration import Calibration
from dermx.trust.conformal import Sets
from dermx.trust.gate import KNOWN, NO_LESION, Admission, Gate
from dermx.trust.referral import Rule
from dermx.trust.uncertainty import SAMPLES, dropout_logits, mutual_information, predictive_entropy

if TYPE_CHECKING:
    from jaxtyping import Float, Float32

FORMAT: Final = 1
SEE_SOMEBODY: Final = "Please have a dermatologist look at it."
NAMED_AT_MOST: Final = 3  # classes in a message


@dataclass(frozen=True, kw_only=True)
class Screening:
    """From which P(mel) + P(bcc) + P(akiec) on somebody should look."""

    threshold: float  # in [0, 1]
    sensitivity: float  # wanted, on the cases it was fitted on

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise InputError(f"the referral's threshold must be in [0, 1], got {self.threshold}")


@dataclass(frozen=True, kw_only=True)
class Dropout:
    """How the scatter is measured."""

    rate: float
    samples: int = SAMPLES
    seed: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Trust:
    """What `dermx trust` fitted for one model."""

    codes: tuple[str, ...]
    views: int  # 1 or 8: what all was fitted on
    calibration: Calibration
    gate: Gate | None  # None: nothing is known about strangers, all are let in
    dropout: Dropout
    sets: Sets
    rule: Rule
    screening: Screening
    facts: Mapping[str, Any]  # what it was fitted on, for people

    @classmethod
    def of(cls, bundle: Bundle) -> Self | None:
        """Read what a bundle has; None where `dermx trust` has not been run on it.

        Raises:
            BundleError: The parts are of a newer format, incomplete, or for other classes.
        """
        if bundle.trust is None:
            return None
        made = cls.from_parts(bundle.trust.settings, bundle.trust.arrays)
        if made.codes != bundle.codes:
            raise BundleError(
                f"the trust parts are for {', '.join(made.codes)}, the model answers "
                f"{', '.join(bundle.codes)}; fit them again: dermx trust RUN"
            )
        return made

    def to_parts(self) -> TrustParts:
        """Return JSON settings and arrays, from which `from_parts` makes the same."""
        gate, arrays = (None, {}) if self.gate is None else self.gate.to_parts()
        settings = {
            "format": FORMAT,
            "codes": list(self.codes),
            "views": self.views,
            "calibration": self.calibration.to_dict(),
            "gate": gate,
            "dropout": asdict(self.dropout),
            "sets": self.sets.to_dict(),
            "rule": self.rule.to_dict(),
            "screening": asdict(self.screening),
            "facts": dict(self.facts),
        }
        return TrustParts(settings, arrays)

    @classmethod
    def from_parts(cls, settings: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Self:
        """Make it from what `to_parts` returned.

        Raises:
            BundleError: The format is newer, or a part is missing.
        """
        written = settings.get("format")
        if written != FORMAT:
            raise BundleError(
                f"the trust parts have format {written!r}, this dermx reads {FORMAT}; "
                "upgrade dermx, or fit them again: dermx trust RUN"
            )
        try:
            gate = settings["gate"]
            return cls(
                codes=tuple(str(code) for code in settings["codes"]),
                views=int(settings["views"]),
                calibration=Calibration.from_dict(settings["calibration"]),
                gate=None if gate is None else Gate.from_parts(gate, arrays),
                dropout=Dropout(**settings["dropout"]),
                sets=Sets.from_dict(settings["sets"]),
                rule=Rule.from_dict(settings["rule"]),
                screening=Screening(**settings["screening"]),
                facts=dict(settings["facts"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BundleError(
                f"the trust parts are incomplete: {error}; fit them again: dermx trust RUN"
            ) from error
        except DermxError as error:
            raise BundleError(f"{error}; fit the trust parts again: dermx trust RUN") from error


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """What is known about n answers, as arrays."""

    answers: np.ndarray  # class indices
    probs: Float[np.ndarray, "n classes"]  # calibrated
    confidence: Float[np.ndarray, " n"]  # calibrated probability of the answer
    strangeness: Float[np.ndarray, " n"]
    is_ood: np.ndarray
    unsure: np.ndarray  # let in by the gate, but too much like another condition to be answered
    reasons: list[str]  # of the gate
    entropy: Float[np.ndarray, " n"]  # predictive, nats
    information: Float[np.ndarray, " n"]  # mutual, nats
    inside: np.ndarray  # (n, classes): the prediction sets
    malignant: Float[np.ndarray, " n"]  # P(mel) + P(bcc) + P(akiec)
    refer: np.ndarray
    abstain: np.ndarray


def judge(
    trust: Trust,
    features: Float32[np.ndarray, "n c"],
    weight: Float32[np.ndarray, "classes c"],
    bias: Float32[np.ndarray, " classes"],
) -> Judged:
    """Judge answers: the same arithmetic for one picture and for a whole part.

    Args:
        trust: Fitted for this model.
        features: Means over the views that `trust` was fitted on.
        weight: Of the model's linear layer.
        bias: Of the model's linear layer.
    """
    logits = np.asarray(features @ weight.T + bias, np.float32)
    probs = trust.calibration.probs(logits)
    answers = logits.argmax(axis=1)
    confidence = probs[np.arange(len(probs)), answers]
    entropy, information = scatter(trust, features, weight, bias)
    inside = trust.sets.contain(probs)
    inside[np.arange(len(probs)), answers] = True
    none = np.zeros(len(probs), bool)
    admission = Admission(none.astype(float), none, none, [KNOWN] * len(probs))
    if trust.gate is not None:
        admission = trust.gate.admit(features, logits)
    malignant = probs[:, [code in MALIGNANT for code in trust.codes]].sum(axis=1)
    malignant = np.minimum(malignant, 1.0)  # as the threshold's scores: rounding may pass 1
    abstain = trust.rule.abstain(
        confidence,
        is_ood=admission.rejected | admission.unsure,
        set_size=inside.sum(axis=1),
        information=information,
    )
    return Judged(
        answers=answers,
        probs=probs,
        confidence=confidence,
        strangeness=admission.score,
        is_ood=admission.rejected,
        unsure=admission.unsure,
        reasons=admission.reasons,
        entropy=entropy,
        information=information,
        inside=inside,
        malignant=malignant,
        refer=malignant >= trust.screening.threshold,
        abstain=abstain,
    )


def scatter(
    trust: Trust,
    features: Float32[np.ndarray, "n c"],
    weight: Float32[np.ndarray, "classes c"],
    bias: Float32[np.ndarray, " classes"],
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Predictive entropy and mutual information under dropout, nats, of calibrated answers."""
    drop = trust.dropout
    sampled = np.empty((len(features), 2))
    for row, one in zip(sampled, features, strict=True):
        logits = dropout_logits(
            one, weight, bias, rate=drop.rate, samples=drop.samples, seed=drop.seed
        )
        probs = trust.calibration.probs(logits)
        row[:] = predictive_entropy(probs), mutual_information(probs)
    return sampled[:, 0], sampled[:, 1]


def trust_keys(trust: Trust, judged: Judged) -> dict[str, Any]:
    """Return the trust keys of `dermx predict --json` for the first of the judged answers.

    Args:
        trust: What judged it.
        judged: Of one picture.
    """
    codes = [code for code, inside in zip(trust.codes, judged.inside[0], strict=True) if inside]
    codes.sort(key=lambda code: -judged.probs[0, trust.codes.index(code)])
    refer, abstain = bool(judged.refer[0]), bool(judged.abstain[0])
    answer = trust.codes[int(judged.answers[0])]
    return {
        "predictive_entropy": float(judged.entropy[0]),
        "mutual_information": float(judged.information[0]),
        "ood_score": float(judged.strangeness[0]),
        "is_ood": bool(judged.is_ood[0]),
        "prediction_set": codes,
        "malignancy": {"probability": float(judged.malignant[0]), "refer": refer},
        "abstain": abstain,
        "message": message(
            answer,
            float(judged.confidence[0]),
            codes,
            is_ood=bool(judged.is_ood[0]),
            abstain=abstain,
            refer=refer,
            reason=judged.reasons[0],
        ),
    }


def message(
    answer: str,
    confidence: float,
    likely: list[str],
    *,
    is_ood: bool,
    abstain: bool,
    refer: bool,
    reason: str | None = None,
) -> str:
    """Say in one or two plain sentences what a lay person should know.

    Args:
        answer: Code of the answer.
        confidence: Calibrated.
        likely: Codes of the prediction set, the most probable first.
        is_ood: The picture is of none of the kinds that are known.
        abstain: The model doesn't answer.
        refer: Malignancy is too probable to leave it at that.
        reason: Of the gate, where it turned the picture away.
    """
    if is_ood:
        what = (
            "This does not look like a picture of a skin lesion"
            if reason == NO_LESION
            else "This does not look like any of the conditions this model knows"
        )
        return f"{what}, so there is no answer. If you worry about your skin, see a dermatologist."
    if abstain:
        names = _either([BY_CODE[code].name for code in likely[:NAMED_AT_MOST]])
        more = " or something else" if len(likely) > NAMED_AT_MOST else ""
        if len(likely) < 2:
            return f"The model is not sure that this is {_named(answer)}. {SEE_SOMEBODY}"
        return f"The model is not sure: it could be {names}{more}. {SEE_SOMEBODY}"
    right = round(100 * min(max(confidence, 0.01), 0.99))
    said = f"Most likely {_named(answer)}: of 100 such answers about {right} are right."
    if not refer:
        return said
    return f"{said} Skin cancer or a precursor can't be ruled out: please see a dermatologist."


def _named(code: str) -> str:
    return BY_CODE[code].name


def _either(names: list[str]) -> str:
    return " or ".join(names) if len(names) < 3 else f"{', '.join(names[:-1])} or {names[-1]}"
