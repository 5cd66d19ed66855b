"""What does the gate do to known pictures and to strangers, in counts and in words?"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from dermx.records import Predictions
from dermx.trust.gate import NO_LESION, Gate
from dermx.trust.gatefit import CrossFitted, by_picture
from dermx.trust.separation import shares_by
from dermx.workflow.strangers import Views

_WORDS: Final = ("kind", "group")  # not counts


def report_gate(gate: Gate, test: Predictions, seen: Views) -> dict[str, Any]:
    """Count rejected and unsure cases by class, and strangers by kind and disease."""
    test = test.select(test.labels >= 0)
    names = [test.codes[label] for label in test.labels]
    known = gate.admit(test.features, test.logits)
    rejected, doubted = shares_by(known.rejected, names), shares_by(known.unsure, names)
    classes = [
        {
            "class": code,
            "cases": rejected[code][1],
            "rejected": rejected[code][0],
            "unsure": doubted[code][0],
        }
        for code in test.codes
        if code in rejected
    ]
    strange, first = by_picture(seen.predictions)
    kinds = [seen.kinds[i] for i in first]
    # Each everyday photograph is a group of its own; a table has one row for them all.
    what = [k if k == "everyday" else g for k, g in zip(kinds, strange.groups, strict=True)]
    met = gate.admit(strange.features, strange.logits)
    table = []
    for kind, group in dict.fromkeys(zip(kinds, what, strict=True)):
        here = np.array([pair == (kind, group) for pair in zip(kinds, what, strict=True)])
        table.append(
            {
                "kind": kind,
                "group": group,
                "pictures": int(here.sum()),
                "rejected": int(met.rejected[here].sum()),
                "unsure": int(met.unsure[here].sum()),
                "confident": int((~(met.rejected | met.unsure))[here].sum()),
                "called_no_lesion": sum(
                    reason == NO_LESION
                    for reason, inside in zip(met.reasons, here, strict=True)
                    if inside
                ),
            }
        )
    return {"classes": classes, "strangers": table}


def left_out_row(crossed: CrossFitted, acceptance: float) -> dict[str, float]:
    """The gate on strangers of left-out diseases, each against known cases of its answer's kind."""
    row = {}
    kinds = np.array(crossed.kinds)
    for kind in dict.fromkeys(crossed.kinds):
        levels = crossed.levels[kinds == kind]
        row[f"auroc_{kind}"] = float(levels.mean())
        row[f"fpr95_{kind}"] = float((levels < 0.95).mean())
        row[f"let_in_{kind}"] = float((levels < acceptance).mean())
    return row


def threshold_json(
    gate: Gate, rows: list[dict[str, Any]], report: Mapping[str, Any], views: int
) -> dict[str, Any]:
    """Content of `ood_threshold.json`: what turns a picture away, and what that cost."""
    settings, arrays = gate.to_parts()
    groups = list(gate.groups)
    chosen = next(row for row in rows if row["detector"] == "gate" and row["on"] == "choose")
    return {
        "score": "log odds of a stranger against the answer's source; higher is stranger",
        "threshold": 0.0,  # the log odds at it are taken off the score
        "acceptance": settings["acceptance"],
        "views": views,
        "log_odds_at_threshold": dict(
            zip(groups, map(float, arrays["gate_offsets"]), strict=False)
        ),
        "unsure_above": dict(zip(groups, map(float, arrays["gate_cautions"]), strict=False)),
        "left_out": {key: value for key, value in chosen.items() if key not in ("detector", "on")},
        "test": {row["class"]: {**row} for row in report["classes"]},
    }


def told(rows: list[dict[str, Any]], report: Mapping[str, Any]) -> list[str]:
    """Lines that show the comparison and the counts."""
    lines = []
    for row in rows:
        shown = [
            f"{kind} AUROC {row[f'auroc_{kind}']:.3f} FPR95 {row[f'fpr95_{kind}']:.3f}"
            for kind in ("everyday", "drawn", "clinical")
            if f"auroc_{kind}" in row
        ]
        lines.append(f"{row['on']:6} {row['detector']:20} {'; '.join(shown)}")
    lines.append("of the test part the gate turns away, and calls unsure:")
    lines += [
        f"  {row['class']:5} {row['rejected']} and {row['unsure']} of {row['cases']}"
        for row in report["classes"]
    ]
    lines.append("of strangers of the report part it turns away, calls unsure, lets in:")
    for kind in dict.fromkeys(row["kind"] for row in report["strangers"]):
        inside = [row for row in report["strangers"] if row["kind"] == kind]
        count = {key: sum(row[key] for row in inside) for key in inside[0] if key not in _WORDS}
        inside = [*inside, {"group": f"all {kind}", **count}] if len(inside) > 1 else inside
        lines += [
            f"  {row['group']:24} {row['rejected']:4} {row['unsure']:4} {row['confident']:4} "
            f"of {row['pictures']}"
            for row in inside
        ]
    return lines
