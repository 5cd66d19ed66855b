"""What does an audit hold, and what does it say in plain words?

The numbers of one model on one part of its pictures, as they were measured; `as_dict` gives each
with its interval, `findings` the sentences that people read first, met or not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from dermx.diagnoses import CODES
from dermx.evaluate.intervals import Estimate, estimate_json, mean_interval
from dermx.evaluate.subgroups import Subgroup
from dermx.explain.faithfulness import Faithful
from dermx.explain.localisation import Localised, Summary, summarise
from dermx.explain.painting import PAINTED
from dermx.explain.sanity import PASSES_BELOW
from dermx.explain.shortcuts import AS_TAKEN, FIGURES, Called, Shortcut

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8

Pixels: TypeAlias = "UInt8[np.ndarray, 'h w 3']"
Located = Mapping[str, Sequence[tuple[str, str, Localised]]]  # map -> diagnosis, lesion, result

OURS: Final = "Grad-CAM"
MIDDLE: Final = "centred Gaussian"
BALANCED, MELANOMA = "balanced_accuracy_dermoscopic", "recall_mel"
NAMES: Final = {BALANCED: "balanced accuracy", MELANOMA: "melanoma recall"}
WANTED_RATIO: Final = 1.5  # of the map's share on the lesion to the lesion's share of the picture
MEASURES: Final[dict[str, tuple[str, Callable[[Faithful], float], int]]] = {
    "deletion": ("deletion area, lower is better", lambda one: one.deletion_area, -1),
    "insertion": ("insertion area, higher is better", lambda one: one.insertion_area, 1),
    "road": ("ROAD, higher is better", lambda one: one.road, 1),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Curves:
    """Deletion, insertion and ROAD of several maps on the same pictures."""

    maps: Mapping[str, Sequence[Faithful]]  # per map, one a picture
    groups: Sequence[str]  # the lesions of the pictures

    def estimate(self, name: str, measure: str) -> Estimate:
        """Mean over the pictures with its interval."""
        _, read, _ = MEASURES[measure]
        return mean_interval(np.array([read(one) for one in self.maps[name]]), self.groups)

    def gain(self, measure: str, rival: str) -> Estimate:
        """How much better ours is than another map on the same pictures; above 0 is better."""
        _, read, sign = MEASURES[measure]
        pairs = zip(self.maps[OURS], self.maps[rival], strict=True)
        differences = np.array([sign * (read(ours) - read(theirs)) for ours, theirs in pairs])
        return mean_interval(differences, self.groups)

    def apart(self, measure: str, rival: str) -> bool:
        """Whether the two intervals don't overlap; `gain` says which map is better."""
        ours, theirs = self.estimate(OURS, measure), self.estimate(rival, measure)
        return ours[1] > theirs[2] or ours[2] < theirs[1]


@dataclass(frozen=True, kw_only=True, eq=False)
class Sanity:
    """Rank correlations of each picture's map with that of a model that has forgotten.

    NaN for a picture whose map is the same everywhere; the check can't be made where all are.
    """

    groups: Sequence[str]
    draws: int
    stages: Sequence[tuple[float, Float[np.ndarray, " n"]]]  # share of the layers drawn afresh
    absolute: Float[np.ndarray, " n"]  # mean absolute correlation at the last stage
    other_picture: Float[np.ndarray, " n"]  # with another picture's map by the trained model

    @property
    def last(self) -> Estimate:
        """What is left of the maps when all is drawn afresh."""
        return mean_interval(self.stages[-1][1], self.groups)

    @property
    def passes(self) -> bool | None:
        """Whether that is hardly anything; None where no map could be told from another."""
        return None if math.isnan(self.last[2]) else self.last[2] < PASSES_BELOW


@dataclass(frozen=True, kw_only=True, eq=False)
class Audit:
    """All that was measured."""

    title: str
    facts: Mapping[str, str]
    seed: int
    curves: Curves
    located: Located
    sanity: Sanity
    shortcuts: Sequence[Shortcut]
    acne: Sequence[Called]
    subgroups: Sequence[Subgroup]
    examples: Mapping[str, Sequence[Pixels]] = field(default_factory=dict)


def by_map(audit: Audit, name: str) -> Summary:
    """Localisation of one kind of map over all pictures with an outline."""
    rows = audit.located[name]
    return summarise([found for _, _, found in rows], [lesion for _, lesion, _ in rows])


def by_class(audit: Audit, name: str) -> dict[str, Summary]:
    """Localisation of one kind of map per diagnosis, in the order of the classes."""
    rows = audit.located[name]
    return {
        code: summarise(
            [found for of, _, found in rows if of == code], [g for of, g, _ in rows if of == code]
        )
        for code in CODES
        if any(of == code for of, _, _ in rows)
    }


def findings(audit: Audit) -> list[str]:
    """Say in plain words what was found, met or not."""
    said = []
    if audit.located:
        ours, middle = by_map(audit, OURS), by_map(audit, MIDDLE)
        said.append(
            f"The map puts {ours.energy[0]:.0%} of itself on the lesion, which fills "
            f"{ours.area[0]:.0%} of what the model sees: {_times(ours.ratio)} "
            f"({'at least' if ours.ratio[0] >= WANTED_RATIO else 'below'} the {WANTED_RATIO} aimed "
            f"for). A spot in the middle, which knows nothing of the picture, reaches "
            f"{_times(middle.ratio)}. The map's highest point is on the lesion in "
            f"{_percent(ours.hit)}, the picture's middle in {_percent(middle.hit)}."
        )
    for measure in ("deletion", "insertion"):
        gain = audit.curves.gain(measure, MIDDLE)
        apart = audit.curves.apart(measure, MIDDLE)
        spot = "that spot" if said else "a spot in the middle, which knows nothing of the picture,"
        better = "better than" if gain[1] > 0 else "worse than" if gain[2] < 0 else "level with"
        said.append(
            f"By {measure} the map is {better} {spot} on the same pictures "
            f"(difference {gain[0]:+.3f}, {gain[1]:+.3f} to {gain[2]:+.3f}); the two intervals "
            f"{'do not overlap' if apart else 'overlap'}."
        )
    said.append(_sanity_sentence(audit.sanity))
    return said + _leant_on(audit.shortcuts) + _acne_sentences(audit.acne)


def as_dict(audit: Audit) -> dict[str, Any]:
    """Return every number with its interval, for programs; an undefined number is null."""
    curves, sanity = audit.curves, audit.sanity
    rivals = [name for name in curves.maps if name != OURS]
    return {
        "title": audit.title,
        "seed": audit.seed,
        "interval": {"level": 0.95, "unit": "lesion or patient"},
        "findings": findings(audit),
        "faithfulness": {
            "lesions": len(curves.groups),
            "maps": {
                name: {
                    measure: estimate_json(curves.estimate(name, measure)) for measure in MEASURES
                }
                for name in curves.maps
            },
            "gain": {
                rival: {
                    measure: {
                        **estimate_json(curves.gain(measure, rival)),
                        "intervals_apart": curves.apart(measure, rival),
                    }
                    for measure in MEASURES
                }
                for rival in rivals
            },
        },
        "localisation": {
            name: {
                "all": _summary(by_map(audit, name)),
                **{code: _summary(one) for code, one in by_class(audit, name).items()},
            }
            for name in audit.located
        },
        "sanity": {
            "pictures": len(sanity.groups),
            "draws": sanity.draws,
            "passes": sanity.passes,
            "passes_below": PASSES_BELOW,
            "stages": [
                {"share_of_layers": share, **estimate_json(mean_interval(found, sanity.groups))}
                for share, found in sanity.stages
            ],
            "absolute": estimate_json(mean_interval(sanity.absolute, sanity.groups)),
            "other_picture": estimate_json(mean_interval(sanity.other_picture, sanity.groups)),
        },
        "shortcuts": [
            {
                "change": row.change,
                "cases": row.cases,
                "lesions": row.lesions,
                **{name: estimate_json(row.figures[name]) for name in FIGURES},
                "drop": {name: estimate_json(row.drops[name]) for name in FIGURES},
                "other_answers": estimate_json(row.other_answers),
                "called_mel": estimate_json(row.called_mel),
            }
            for row in audit.shortcuts
        ],
        "called_acne": [
            {"kind": row.kind, "pictures": row.pictures, "patients": row.patients}
            | estimate_json(row.share)
            for row in audit.acne
        ],
        "subgroups": [
            {
                **{k: v for k, v in row._asdict().items() if isinstance(v, str | int)},
                "expected": None if math.isnan(row.expected) else row.expected,
                **{
                    name: estimate_json(getattr(row, name))
                    for name in ("accuracy", "gap", "recall_mel")
                },
            }
            for row in audit.subgroups
        ],
        "facts": dict(audit.facts),
    }


def _sanity_sentence(sanity: Sanity) -> str:
    if sanity.passes is None:
        return "The sanity check can't be made: the maps are the same everywhere."
    last, absolute = sanity.last, mean_interval(sanity.absolute, sanity.groups)
    return (
        f"The sanity check {'passes' if sanity.passes else 'FAILS'}: with all weights "
        f"drawn afresh, the map's rank correlation with itself is {last[0]:.2f} "
        f"({last[1]:.2f} to {last[2]:.2f}), whatever its sign {absolute[0]:.2f}."
    )


def _leant_on(rows: Sequence[Shortcut]) -> list[str]:
    """What is left without the lesion, without the background, and what disturbs."""
    painted = [_what_is_left(row) for row in rows if row.change in PAINTED]
    drawn = [row for row in rows if row.change not in PAINTED and row.change != AS_TAKEN]
    return painted + _falls(drawn, BALANCED) + _falls(drawn, MELANOMA)


def _what_is_left(row: Shortcut) -> str:
    article = "" if row.change.startswith("only") else "the "
    value, low, high = row.figures[BALANCED]
    said = f"With {article}{row.change}, balanced accuracy is {value:.3f} ({low:.3f} to {high:.3f})"
    if row.change != "background painted out":
        guessing = 1 / row.classes
        above = "above" if low > guessing else "not above"
        said += f", {above} that of guessing, {guessing:.3f}"
    value, low, high = row.figures[MELANOMA]
    if math.isnan(value):  # no melanoma among the cases
        return f"{said}."
    return f"{said}; melanoma recall is {value:.3f} ({low:.3f} to {high:.3f})."


def _falls(rows: Sequence[Shortcut], figure: str) -> list[str]:
    """Which changes lower a figure beyond chance, the largest fall first, and which don't."""
    name, said = NAMES[figure], []
    known = [row for row in rows if not math.isnan(row.drops[figure][0])]
    known.sort(key=lambda row: -row.drops[figure][0])
    for verb, hurt in (
        (f"{name.capitalize()} falls by", True),
        (f"No clear fall of {name} by", False),
    ):
        listed = [
            f"{row.change} ({value:.3f}, {low:.3f} to {high:.3f})"
            for row in known
            for value, low, high in [row.drops[figure]]
            if (low > 0) == hurt
        ]
        if listed:
            said.append(f"{verb}: {'; '.join(listed)}.")
    return said


def _acne_sentences(rows: Sequence[Called]) -> list[str]:
    """What makes a picture acne to the model."""
    shares = {row.kind: row for row in rows}
    said = []
    marked, as_taken = (f"dermoscopy, {name}" for name in ("watermark drawn in", AS_TAKEN))
    if marked in shares:
        said.append(
            f"A watermark drawn over dermoscopic pictures turns {_percent(shares[marked].share)} "
            "of them into acne, a dark rim "
            f"{_percent(shares['dermoscopy, dark rim drawn in'].share)}; as taken it is "
            f"{_percent(shares[as_taken].share)}."
        )
    if "acne, watermark covered" in shares:
        said.append(
            "Of the acne photographs, those called acne: "
            + "; ".join(
                f"{row.kind.removeprefix('acne, ')} {_percent(row.share)}"
                for row in rows
                if row.kind.startswith("acne, ")
            )
            + "."
        )
    others = [row for row in rows if not row.kind.startswith(("acne, ", "dermoscopy, "))]
    if others:
        pictures = sum(row.pictures for row in others)
        wrong = sum(row.pictures * row.share[0] for row in others)
        said.append(
            f"Of {pictures} photographs of other things, {wrong / pictures:.0%} are called acne."
        )
    return said


def _times(estimate: Estimate) -> str:
    return f"{estimate[0]:.2f} times its share ({estimate[1]:.2f} to {estimate[2]:.2f})"


def _percent(estimate: Estimate) -> str:
    return f"{estimate[0]:.0%} ({estimate[1]:.0%} to {estimate[2]:.0%})"


def _summary(one: Summary) -> dict[str, Any]:
    return {"pictures": one.pictures} | {
        name: estimate_json(getattr(one, name))
        for name in ("hit", "energy", "area", "ratio", "ratio_each")
    }
