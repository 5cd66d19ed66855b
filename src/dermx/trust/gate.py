"""Is this a picture of the kind the answer was learnt from? Two questions, kept apart.

1. Is it a skin-lesion picture at all? Everyday photographs, drawings, noise are not.
2. Is it a clinical photograph of something that is none of the eight? Acne was learnt from
   clinical photographs and the other seven from dermoscopy, so a network has learnt "photograph"
   where we want "acne", and distances alone don't find rosacea strange.

A linear layer on the features tells four groups apart (dermoscopy, acne, another clinical
photograph, no lesion), and the group that must be right is that of the answer: a nevus must look
like dermoscopy, acne like acne. Beside it stands the distance to the known cases, for what no
picture used in fitting looks like. A gate has seen some strangers only; `dermx ood` reports on
diseases and photographs that it has not seen.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from jaxtyping import Bool, Float, Float32

from dermx.diagnoses import BY_CODE
from dermx.errors import BundleError, InputError
from dermx.records import Predictions

FORMAT: Final = 1
NO_LESION, OTHER = "no lesion", "other condition"  # kinds of strangers, and reasons
KNOWN: Final = "known"
ACCEPTANCE: Final = 0.95


@dataclass(frozen=True, kw_only=True, eq=False)
class Gate:
    """What decides whether a picture is answered; small enough to travel with a model."""

    codes: tuple[str, ...]  # of the logits
    acceptance: float  # share of known cases that was to be accepted
    threshold: float  # a score above it is a stranger
    center: Float32[np.ndarray, " c"]
    scale: Float32[np.ndarray, " c"]
    weight: Float32[np.ndarray, "c 4"]  # to dermoscopy, acne's kind, other condition, no lesion
    bias: Float32[np.ndarray, " 4"]
    offsets: Float32[np.ndarray, " 2"]  # log odds at the threshold: dermoscopy, clinical

    def score(
        self, features: Float[np.ndarray, "n c"], logits: Float[np.ndarray, "n classes"]
    ) -> Float[np.ndarray, " n"]:
        """How strange each case is for the answer it gets; above `threshold` it is a stranger.

        Args:
            features: Of the network the gate was fitted for, single views or their mean.
            logits: Only the class with the highest counts, so calibration changes nothing.

        Raises:
            InputError: The arrays don't fit the gate.
        """
        self._check(features, logits)
        groups = self._groups(features)
        group = self._group_of(logits)
        known = groups[np.arange(len(groups)), group]
        return np.asarray(np.logaddexp(groups[:, 2], groups[:, 3]) - known - self.offsets[group])

    def rejects(
        self, features: Float[np.ndarray, "n c"], logits: Float[np.ndarray, "n classes"]
    ) -> Bool[np.ndarray, " n"]:
        """Whether each case is a stranger."""
        return np.asarray(self.score(features, logits) > self.threshold)

    def reasons(
        self, features: Float[np.ndarray, "n c"], logits: Float[np.ndarray, "n classes"]
    ) -> list[str]:
        """For each case "known", "no lesion" or "other condition"."""
        groups = self._groups(features)
        named = np.where(groups[:, 3] > groups[:, 2], NO_LESION, OTHER)
        return [str(n) for n in np.where(self.rejects(features, logits), named, KNOWN)]

    def to_parts(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return JSON settings and arrays, from which `from_parts` makes the same gate."""
        settings = {
            "format": FORMAT,
            "codes": list(self.codes),
            "acceptance": self.acceptance,
            "threshold": self.threshold,
        }
        names = ("center", "scale", "weight", "bias", "offsets")
        return settings, {f"gate_{name}": getattr(self, name) for name in names}

    @classmethod
    def from_parts(cls, settings: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Self:
        """Make a gate of what `to_parts` returned; other arrays may lie beside its own.

        Raises:
            BundleError: The format is another, or a part is missing.
        """
        if settings.get("format") != FORMAT:
            raise BundleError(
                f"the gate has format {settings.get('format')!r}, this dermx reads {FORMAT}; "
                "fit it again: dermx ood RUN"
            )
        names = ("center", "scale", "weight", "bias", "offsets")
        try:
            return cls(
                codes=tuple(str(code) for code in settings["codes"]),
                acceptance=float(settings["acceptance"]),
                threshold=float(settings["threshold"]),
                **{name: np.asarray(arrays[f"gate_{name}"], np.float32) for name in names},
            )
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(f"the gate lacks a part: {error}; dermx ood RUN makes it") from error

    def _groups(self, features: np.ndarray) -> Float[np.ndarray, "n 4"]:
        x = (features - self.center) / self.scale
        return np.asarray(x.astype(np.float64) @ self.weight + self.bias)

    def _group_of(self, logits: np.ndarray) -> np.ndarray:
        return np.array([_is_clinical(code) for code in self.codes], int)[logits.argmax(axis=1)]

    def _check(self, features: np.ndarray, logits: np.ndarray) -> None:
        wanted = (len(self.center), len(self.codes))
        if features.ndim != 2 or logits.ndim != 2 or (features.shape[1], logits.shape[1]) != wanted:
            raise InputError(
                f"the gate takes features (n, {wanted[0]}) and logits (n, {wanted[1]}), "
                f"got {features.shape} and {logits.shape}; it belongs to another model"
            )


def fit_gate(
    known: Predictions,
    strangers: Predictions,
    kinds: Sequence[str],
    holdout: Predictions,
    *,
    acceptance: float = ACCEPTANCE,
    strength: float = 1e-3,
) -> Gate:
    """Fit the gate of one model.

    Args:
        known: Labelled cases of the training part.
        strangers: Pictures of none of the classes, of diseases and photographs that no report
            will use.
        kinds: Of each stranger, `NO_LESION` or `OTHER`.
        holdout: Labelled cases of the validation part; they set the threshold.
        acceptance: Share of the holdout cases to accept, within dermoscopic and clinical ones.
        strength: Inverse penalty of the linear layer (scikit-learn's C).

    Raises:
        InputError: A group has no case, or the acceptance is not in (0, 1].
    """
    from sklearn.linear_model import LogisticRegression  # only fitting needs it

    if not 0 < acceptance <= 1:
        raise InputError(f"acceptance must be in (0, 1], got {acceptance}")
    clinical = np.array([_is_clinical(code) for code in known.codes], int)
    x = np.concatenate([known.features, strangers.features]).astype(np.float64)
    groups = np.concatenate(
        [clinical[known.labels], [3 if kind == NO_LESION else 2 for kind in kinds]]
    )
    if lacking := sorted(set(range(4)) - set(groups.tolist())):
        names = ("dermoscopy", "acne", OTHER, NO_LESION)
        raise InputError(f"no case of {', '.join(names[g] for g in lacking)} to fit the gate on")
    center, scale = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-6)
    layer = LogisticRegression(C=strength, class_weight="balanced", max_iter=2000)
    layer.fit((x - center) / scale, groups)
    raw = Gate(
        codes=known.codes,
        acceptance=acceptance,
        threshold=0.0,
        center=center.astype(np.float32),
        scale=scale.astype(np.float32),
        weight=layer.coef_.T.astype(np.float32),
        bias=layer.intercept_.astype(np.float32),
        offsets=np.zeros(2, np.float32),
    )
    scores = raw.score(holdout.features, holdout.logits)
    answered = clinical[holdout.logits.argmax(axis=1)]
    offsets = [np.quantile(scores[answered == group], acceptance) for group in (0, 1)]
    return Gate(**{**vars(raw), "offsets": np.array(offsets, np.float32)})


def _is_clinical(code: str) -> bool:
    return BY_CODE[code].source != "dermoscopy"
