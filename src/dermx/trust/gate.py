"""Is this a picture of the kind the answer was learnt from? Two questions, kept apart.

1. Is it a skin-lesion picture at all? Everyday photographs and drawings are not.
2. Is it a clinical photograph of something that is none of the eight? Acne was learnt from
   clinical photographs and the other seven from dermoscopy, so a network has learnt "photograph"
   where we want "acne", and no distance in its features finds rosacea strange.

A second linear layer on the features tells dermoscopy, the known clinical photographs, other
conditions, everyday photographs and drawings apart. The group that must be right is that of the
answer: a naevus must look like dermoscopy, acne like acne. The layer is linear, so what it says of
the mean of several views is the mean of what it says of each; the score, its log odds, is not.

A gate has seen some strangers only. `dermx ood` reports on diseases and photographs that it has
not seen, and `dermx.trust.gatefit` sets its thresholds with diseases left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from dermx.diagnoses import BY_CODE
from dermx.errors import BundleError, InputError

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Float32, Int

FORMAT: Final = 1
KNOWN, NO_LESION, OTHER = "known", "no lesion", "other condition"  # what a gate says
# Kinds of strangers, and the reason that each stands for.
STRANGERS: Final[dict[str, str]] = {"clinical": OTHER, "everyday": NO_LESION, "drawn": NO_LESION}
_ARRAYS: Final = ("weight", "bias", "offsets", "cautions")


@dataclass(frozen=True, eq=False)
class Admission:
    """What a gate says of n cases."""

    # Log odds of "a stranger" against "of the answer's source", less those at which the wanted
    # share of known cases is let in.
    score: Float[np.ndarray, " n"]
    rejected: Bool[np.ndarray, " n"]  # strangers, of a score above 0
    # Let in, but too much like another condition to be answered. For acne this is the strip where
    # rosacea lies as well; for dermoscopy, easily told from photographs, it is empty or thin.
    unsure: Bool[np.ndarray, " n"]
    reasons: list[str]  # "known", "no lesion" or "other condition"


@dataclass(frozen=True, kw_only=True, eq=False)
class Gate:
    """What decides whether a picture is answered; 48 KB as shipped, so it travels with a model."""

    codes: tuple[str, ...]  # of the logits
    groups: tuple[str, ...]  # of the layer: sources of known pictures, then kinds of strangers
    acceptance: float  # share of known cases that was to be let in
    weight: Float32[np.ndarray, "c groups"]
    bias: Float32[np.ndarray, " groups"]
    offsets: Float32[np.ndarray, " sources"]  # log odds that make the score 0, per source
    cautions: Float32[np.ndarray, " sources"]  # scores above them are let in, but unsure; <= 0

    def admit(
        self, features: Float[np.ndarray, "n c"], logits: Float[np.ndarray, "n classes"]
    ) -> Admission:
        """Say of each case how strange it is, and what follows from that.

        Args:
            features: Of the network the gate was fitted for, single views or their mean.
            logits: Only the class with the highest counts, so calibration changes nothing.

        Raises:
            InputError: The arrays don't fit the gate.
        """
        self._check(features, logits)
        source = self.sources[logits.argmax(axis=1)]
        groups = features.astype(np.float64) @ self.weight + self.bias
        known = len(self.offsets)
        score = _odds(groups, source, known) - self.offsets[source]
        rejected = score > 0
        kinds = self.groups[known:]
        return Admission(
            score=score,
            rejected=rejected,
            unsure=~rejected & (score > self.cautions[source]),
            reasons=[
                STRANGERS[kinds[kind]] if out else KNOWN
                for kind, out in zip(groups[:, known:].argmax(axis=1), rejected, strict=True)
            ],
        )

    @property
    def sources(self) -> Int[np.ndarray, " classes"]:
        """For each class the index of its source in `groups`."""
        return np.array([self.groups.index(BY_CODE[code].source) for code in self.codes])

    def to_parts(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return JSON settings and arrays, from which `from_parts` makes the same gate."""
        settings = {
            "format": FORMAT,
            "codes": list(self.codes),
            "groups": list(self.groups),
            "acceptance": self.acceptance,
        }
        return settings, {f"gate_{name}": getattr(self, name) for name in _ARRAYS}

    @classmethod
    def from_parts(cls, settings: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Self:
        """Make a gate of what `to_parts` returned; other arrays may lie beside its own.

        Raises:
            BundleError: The format is another, a part is missing, or they don't fit each other.
        """
        if settings.get("format") != FORMAT:
            raise BundleError(
                f"the gate has format {settings.get('format')!r}, this dermx reads {FORMAT}; "
                "fit it again: dermx ood RUN"
            )
        try:
            gate = cls(
                codes=tuple(str(code) for code in settings["codes"]),
                groups=tuple(str(group) for group in settings["groups"]),
                acceptance=float(settings["acceptance"]),
                **{name: np.asarray(arrays[f"gate_{name}"], np.float32) for name in _ARRAYS},
            )
            sources = len(np.unique(gate.sources))
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(f"the gate lacks a part: {error}; dermx ood RUN makes it") from error
        shapes = [getattr(gate, name).shape for name in _ARRAYS]
        wanted = [(gate.weight.shape[0], len(gate.groups)), (len(gate.groups),)] + 2 * [(sources,)]
        if shapes != wanted:
            raise BundleError(f"the gate's arrays have shapes {shapes}, need {wanted}")
        if any(np.isnan(getattr(gate, name)).any() for name in _ARRAYS):
            raise BundleError("the gate holds NaN and would let everything in; dermx ood RUN")
        return gate

    def _check(self, features: np.ndarray, logits: np.ndarray) -> None:
        wanted = (len(self.weight), len(self.codes))
        if features.ndim != 2 or logits.ndim != 2 or (features.shape[1], logits.shape[1]) != wanted:
            raise InputError(
                f"the gate takes features (n, {wanted[0]}) and logits (n, {wanted[1]}), "
                f"got {features.shape} and {logits.shape}; it belongs to another model"
            )


def log_odds(
    features: Float[np.ndarray, "n c"],
    source: Int[np.ndarray, " n"],
    weight: Float[np.ndarray, "c groups"],
    bias: Float[np.ndarray, " groups"],
    sources: int,
) -> Float[np.ndarray, " n"]:
    """Logarithm of P(any stranger) over P(the source that the answer comes from).

    >>> odds = log_odds(np.zeros((1, 1)), np.array([0]), np.zeros((1, 3)), np.log([1, 1, 2]), 1)
    >>> odds.round(4)  # log((1 + 2) / 1)
    array([1.0986])
    """
    return _odds(features.astype(np.float64) @ weight + bias, source, sources)


def _odds(
    groups: Float[np.ndarray, "n groups"], source: Int[np.ndarray, " n"], sources: int
) -> Float[np.ndarray, " n"]:
    strange = np.logaddexp.reduce(groups[:, sources:], axis=1)
    return np.asarray(strange - groups[np.arange(len(groups)), source])


def groups_of(codes: Sequence[str], kinds: Sequence[str]) -> tuple[str, ...]:
    """Sources of the classes that there are, then kinds of strangers that there are."""
    sources = ("dermoscopy", "clinical photograph")
    here = {BY_CODE[code].source for code in codes}
    return (*(s for s in sources if s in here), *(kind for kind in STRANGERS if kind in kinds))
