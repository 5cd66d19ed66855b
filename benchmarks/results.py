"""Write the tables of docs/RESULTS.md anew, from what the commands left in a run's folder.

    python benchmarks/results.py RUN [--page docs/RESULTS.md]

A table stands under a line `<!-- NAME -->` in the page, and ends at the next empty line; NAME is
one of `TABLES` below. What a run has not been asked for yet is named and left as it is. The
sentences around the tables are written by people: read them again afterwards.
"""

import argparse
import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dermx.diagnoses import CODES, DERMOSCOPIC
from dermx.errors import DataError
from dermx.records import Predictions

Rows = list[Sequence[str]]
BALANCED = "balanced_accuracy_dermoscopic"
OVERALL = {
    BALANCED: "Balanced accuracy, seven dermoscopic classes",
    "accuracy": "Accuracy",
    "recall_mel": "Melanoma recall",
    "macro_f1": "Macro F1, eight classes",
    "balanced_accuracy": "Balanced accuracy, eight classes",
    "accuracy_dermoscopic": "Accuracy, dermoscopic pictures",
    "weighted_f1": "Weighted F1",
    "macro_auroc": "Macro AUROC, one against the rest",
    "auroc_mel": "Melanoma AUROC",
    "malignant_auroc": "AUROC for mel + bcc + akiec",
}
SEVERITIES = ("1", "3", "5")  # shown of five


def read(run: Path, name: str) -> Any:
    return json.loads((run / name).read_text(encoding="utf-8"))


def read_csv(run: Path, name: str) -> list[dict[str, str]]:
    with (run / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def digits(value: float | None, places: int = 3) -> str:
    return "" if value is None else f"{value + 0.0:.{places}f}"


def within(figure: dict[str, float | None], places: int = 3) -> str:
    """A value with its interval."""
    value, low, high = (figure[key] for key in ("value", "low", "high"))
    if value is None or low is None:
        return digits(value, places)
    return f"{digits(value, places)} ({digits(low, places)} to {digits(high, places)})"


def change(figure: dict[str, float | None], places: int = 4) -> str:
    return "{value:+.{p}f} ({low:+.{p}f} to {high:+.{p}f})".format(**figure, p=places)


def overall(run: Path) -> Rows:
    folders = ("test_8_views", "test", "val_8_views", "val")
    eight, one, val_eight, val_one = (
        read(run, f"evaluation/{folder}/metrics.json")["scores"] for folder in folders
    )
    rows: Rows = [
        ("figure", "test, eight views", "95 % interval", "test, one view", "95 % interval",
         "validation, eight views", "one view")
    ]  # fmt: skip
    for key, label in OVERALL.items():
        cells = []
        for scores in (eight, one):
            cells += [digits(scores[key]["value"])]
            cells += ["{low:.3f} to {high:.3f}".format(**scores[key])]
        cells += [digits(scores[key]["value"]) for scores in (val_eight, val_one)]
        rows.append((label, *cells))
    return rows


def classes(run: Path) -> Rows:
    scores = read(run, "evaluation/test_8_views/metrics.json")["scores"]
    counts = read(run, "evaluation/test_8_views/metrics.json")["confusion_matrix"]
    rows: Rows = [("class", "pictures", "recall", "precision", "F1", "AUROC")]
    for code, row in zip(CODES, counts, strict=True):
        figures = [within(scores[f"{name}_{code}"]) for name in ("recall", "precision", "f1")]
        auroc = digits(scores[f"auroc_{code}"]["value"])
        rows.append((f"`{code}`", str(sum(row)), *figures, auroc))
    return rows


def confusion(run: Path) -> Rows:
    counts = read(run, "evaluation/test_8_views/metrics.json")["confusion_matrix"]
    rows: Rows = [("true \\ answered", *CODES)]
    return rows + [(f"**{c}**", *map(str, row)) for c, row in zip(CODES, counts, strict=True)]


def published(run: Path) -> Rows:
    keys = ("accuracy", "macro_f1", BALANCED, "recall_mel", "recall_df")
    theirs = ("0.812", "0.680", "0.570", "0.422", "0.374")
    rows: Rows = [
        ("eight classes", "pictures", "accuracy", "macro F1", "balanced accuracy (7)",
         "melanoma recall", "dermatofibroma recall"),
        ("MobileNetV2, as published by others", "all, training included", *theirs),
    ]  # fmt: skip
    for part, name in (("all", "dermx, by their protocol"), ("test", "**dermx, by ours**")):
        content = read(run, f"evaluation/{part}/metrics.json")
        figures = [within(content["scores"][key]) for key in keys]
        what = "all, training included" if part == "all" else f"**{content['cases']:,} held out**"
        rows.append((name, what, *figures))
    return rows


def operating(run: Path) -> Rows:
    keys = (BALANCED, "accuracy", "macro_f1", "recall_mel", "recall_df")
    more = ("malignant_sensitivity", "malignant_specificity")
    rows: Rows = [
        ("answers by", "balanced accuracy (7)", "accuracy", "macro F1", "melanoma recall",
         "dermatofibroma recall", "mel, bcc, akiec answered as one of these",
         "others answered as none of these")
    ]  # fmt: skip
    largest = read(run, "evaluation/test/metrics.json")["scores"]
    rows.append(("the largest", *(within(largest[key]) for key in keys), "", ""))
    for rule in ("balanced", "cost"):
        found = read(run, f"evaluation/test/decision_{rule}.json")["scores"]
        rows.append((rule, *(within(found[key]) for key in (*keys, *more))))
    return rows


def stress(run: Path) -> Rows:
    keys = (BALANCED, "recall_mel", "malignant_auroc")
    found: dict[str, list[dict[str, str]]] = {}
    for row in read_csv(run, "evaluation/val/stress.csv"):
        if row["severity"] in ("", "0", *SEVERITIES):
            found.setdefault(row["change"], []).append(row)
    rows: Rows = [("change", "balanced accuracy (7)", "melanoma recall", OVERALL[keys[2]])]
    for name, of_name in found.items():
        cells = [", ".join(digits(float(row[key])) for row in of_name) for key in keys]
        bold = "**" if name == "mean" else ""
        rows.append([f"{bold}{cell}{bold}" for cell in (name.replace("_", " "), *cells)])
    return rows


def metadata(run: Path) -> Rows:
    found = read(run, "evaluation/test/metadata.json")["scores"]
    rows: Rows = [
        ("test part", "picture", "with age, sex, site", "gain, same lesions", "metadata alone")
    ]
    for key in (BALANCED, "accuracy", "macro_f1", "recall_mel", "auroc_mel"):
        alone, both, without = (
            digits(found[name][key]["value"])
            for name in ("metadata", "picture and metadata", "picture")
        )
        label = OVERALL[key].partition(",")[0] + (" (7)" if key == BALANCED else "")
        rows.append((label, without, both, change(found["gain"][key], 3), alone))
    return rows


def detectors(run: Path) -> Rows:
    keys = ("auroc_everyday", "fpr95_everyday", "auroc_drawn", "auroc_clinical",
            "fpr95_clinical", "auroc_clinical_acne")  # fmt: skip
    rows: Rows = [
        ("score", "everyday AUROC", "everyday FPR95", "drawings AUROC", "other diseases AUROC",
         "other diseases FPR95", "other diseases against acne alone, AUROC")
    ]  # fmt: skip
    found = {row["detector"]: row for row in read(run, "ood/ood.json")["detectors"]
             if row["on"] == "report"}  # fmt: skip
    for name in found:
        bold = "**" if name == "gate" else ""
        cells = [f"{bold}{digits(found[name][key])}{bold}" for key in keys]
        rows.append(("**gate** (the default)" if name == "gate" else name, *cells))
    return rows


def rejected(run: Path) -> Rows:
    content = read(run, "ood/ood.json")
    of = {row["class"]: row for row in content["classes"]}
    rows: Rows = [("score", *(f"{code} ({of[code]['cases']})" for code in of))]
    cells = []
    for row in of.values():
        out, doubted, cases = row["rejected"], row["unsure"], row["cases"]
        share = f"{out} ({out / cases:.3f})" if out else "0"
        cells.append(share + (f", and {doubted} unsure" if doubted else ""))
    rows.append(("**gate**", *cells))
    for row in content["detectors"]:
        if row["on"] == "report" and row["detector"] in ("relative Mahalanobis", "MSP"):
            cells = [f"({digits(row[f'rejected_{code}'])})" for code in of]
            rows.append((f"{row['detector']} at 95 % of all", *cells))
    return rows


def strangers(run: Path) -> Rows:
    rows: Rows = [("strangers, none fitted on", "pictures", "turned away", "unsure", "answered")]
    found = read(run, "ood/ood.json")["strangers"]
    keys = ("pictures", "rejected", "unsure", "confident")
    for kind in dict.fromkeys(row["kind"] for row in found):
        inside = [row for row in found if row["kind"] == kind]
        if kind == "clinical":
            rows += [(row["group"].replace("_", " "), *(str(row[k]) for k in keys))
                     for row in inside]  # fmt: skip
        total = [sum(row[key] for row in inside) for key in keys]
        name = {"clinical": "all other diseases", "everyday": "everyday photographs"}.get(
            kind, "drawings"
        )
        *cells, answered = map(str, total)
        cells.append(answered + (f" ({100 * total[3] / total[0]:.1f} %)" if total[3] else ""))
        rows.append([f"**{cell}**" for cell in (name, *cells)])
    return rows


METHODS = {
    "none": "none", "temperature": "temperature", "bias": "bias per class and temperature",
    "vector": "vector", "classwise": "classwise (Platt)",
}  # fmt: skip


def calibration(run: Path) -> Rows:
    found = read(run, "evaluation/test/calibration.json")["methods"]
    facts = read(run, "bundle/trust.json")
    losses = facts["facts"]["log_loss_left_out"]
    rows: Rows = [
        ("calibration", "log loss, validation lesions left out", "test: ECE, 15 equal bins",
         "of it by chance", "ECE, equal mass", "smooth ECE", "class-wise ECE", "Brier", "log loss")
    ]  # fmt: skip
    for method, one in found.items():
        chance = "{value:.3f} (up to {high:.3f})".format(**one["ece_by_chance"])
        plain = [digits(one[key]["value"]) for key in
                 ("ece_equal_mass", "smooth_ece", "brier", "log_loss")]  # fmt: skip
        name, _, consistent = method.partition(", ")
        cells = [METHODS[name], "" if consistent else digits(losses.get(name)),
                 within(one["ece"]), chance,
                 *plain[:2], within(one["classwise_ece"]), *plain[2:]]  # fmt: skip
        if consistent:
            cells[0] = f"**{METHODS[name]}, as sure as it is right on lesions left out** (used)"
            cells[2] = f"**{cells[2]}**"
        rows.append(cells)
    return rows


def sets(run: Path) -> Rows:
    found = read(run, "evaluation/test/trust.json")["sets"]
    val = Predictions.load(run / "evaluation/val/views.npz")
    rows: Rows = [("prediction sets, 90 % wanted in every class", *CODES, "all")]
    of = found["of_class"]
    cases = [of[code]["cases"] for code in CODES]
    rows.append(("test cases", *map(str, cases), str(sum(cases))))
    shares = [digits(of[code]["coverage"]["value"]) for code in CODES]
    rows.append(("truth in the set", *shares, digits(found["coverage"]["value"])))
    kept = [[i for i, y in enumerate(val.labels) if y == k] for k in range(len(CODES))]
    kept.append([i for i, y in enumerate(val.labels) if y >= 0])
    counts = [f"{len(of)} ({len({val.groups[i] for i in of})})" for of in kept]
    rows.append(("calibration cases (lesions)", *counts))
    return rows


def doubts(run: Path) -> Rows:
    content = read(run, "evaluation/test/trust.json")
    chosen = read(run, "evaluation/val/trust.json")["doubts"]
    rows: Rows = [
        ("doubt that ranks the answers", "AURC", "AUGRC",
         "AUGRC gain over calibrated confidence: validation", "test",
         "accuracy of the least doubtful 80 %")
    ]  # fmt: skip
    for name, one in content["doubts"].items():
        ours = name == "confidence"
        label = "**calibrated confidence**" if ours else name
        gains = ("", "") if ours else (change(chosen[name]["augrc_gain"]),
                                       change(one["augrc_gain"]))  # fmt: skip
        at_80 = within(one["accuracy_at_80"]) if ours else digits(one["accuracy_at_80"]["value"])
        rows.append((label, digits(one["aurc"], 4), digits(one["augrc"], 4), *gains, at_80))
    return rows


def shift(run: Path) -> Rows:
    keys = ("accuracy", "confidence", "ece", "turned_away", "answered", "accuracy_answered",
            "refer_sensitivity")  # fmt: skip
    found: dict[str, list[dict[str, str]]] = {}
    for row in read_csv(run, "evaluation/test/trust_shift.csv"):
        if row["severity"] in ("0", *SEVERITIES):
            found.setdefault(row["change"], []).append(row)
    rows: Rows = [
        ("change", "accuracy", "mean stated confidence", "ECE", "turned away by the gate",
         "answered", "right of these", "referral sensitivity")
    ]  # fmt: skip
    for name, of_name in found.items():
        cells = [", ".join(digits(float(row[key]), 2) for row in of_name) for key in keys]
        rows.append((name.replace("_", " ").replace("jpeg", "JPEG"), *cells))
    return rows


def audit(run: Path) -> Any:
    return read(run, "audit/test/audit.json")


def faithful(run: Path) -> Rows:
    found = audit(run)["faithfulness"]
    rows: Rows = [
        ("map", "deletion, lower is better", "insertion, higher is better",
         "ROAD, higher is better")
    ]  # fmt: skip
    keys = ("deletion", "insertion", "road")
    for name, one in found["maps"].items():
        label = f"**{name}**" if name == "Grad-CAM" else name
        rows.append((label, *(within(one[key]) for key in keys)))
    gain = found["gain"]["centred Gaussian"]
    name = "better than the centred Gaussian, same pictures"
    rows.append((name, *(within(gain[key]) for key in keys)))
    return rows


def located(run: Path) -> Rows:
    rows: Rows = [
        ("map", "highest point on the lesion", "share of the map on the lesion", "lesion's share",
         "ratio")
    ]  # fmt: skip
    for name, one in audit(run)["localisation"].items():
        whole = one["all"]
        label = f"**{name}**" if name == "Grad-CAM" else name
        rows.append((label, *(within(whole[key]) for key in ("hit", "energy", "area", "ratio"))))
    return rows


def located_classes(run: Path) -> Rows:
    found = audit(run)["localisation"]
    ours, middle = found["Grad-CAM"], found["centred Gaussian"]
    codes = [code for code in DERMOSCOPIC if code in ours]
    rows: Rows = [("Grad-CAM on", *codes), ("pictures", *(str(ours[c]["pictures"]) for c in codes))]
    for label, found_of, key in (
        ("highest point on the lesion", ours, "hit"),
        ("ratio", ours, "ratio"),
        ("ratio of the centred Gaussian", middle, "ratio"),
    ):
        rows.append((label, *(digits(found_of[code][key]["value"]) for code in codes)))
    return rows


def sanity(run: Path) -> Rows:
    found = audit(run)["sanity"]
    heads, cells = [], []
    for row in found["stages"]:
        share = row["share_of_layers"]
        heads.append(
            "all"
            if share == 1
            else f"and {100 * share:.0f} % of the layers"
            if share
            else "the head"
        )
        cells.append(within(row, 2))
    heads.append("for comparison: another picture's map")
    cells.append(within(found["other_picture"], 2))
    return [("drawn afresh", *heads), ("correlation", *cells)]


def shortcuts(run: Path) -> Rows:
    rows: Rows = [
        ("change", "accuracy", "balanced accuracy", "fall of it", "melanoma recall", "fall of it",
         "answered otherwise", "others called melanoma")
    ]  # fmt: skip
    for row in audit(run)["shortcuts"]:
        first = row["change"] == "as taken"
        falls = ["" if first else within(row["drop"][key]) for key in (BALANCED, "recall_mel")]
        rows.append(
            (row["change"], digits(row["accuracy"]["value"]), within(row[BALANCED]), falls[0],
             within(row["recall_mel"]), falls[1], digits(row["other_answers"]["value"]),
             digits(row["called_mel"]["value"]))
        )  # fmt: skip
    return rows


def acne(run: Path) -> Rows:
    rows: Rows = [("pictures", "n", "called acne")]
    for row in audit(run)["called_acne"]:
        rows.append((row["kind"], str(row["pictures"]), within(row)))
    return rows


def groups(run: Path) -> Rows:
    rows: Rows = [
        ("group", "pictures", "lesions", "accuracy", "expected", "gap", "melanoma recall (n)")
    ]
    for row in audit(run)["subgroups"]:
        if row["cases"] >= 100:
            melanoma = f"{digits(row['recall_mel']['value'])} ({row['melanomas']})"
            rows.append(
                (row["value"], str(row["cases"]), str(row["lesions"]), within(row["accuracy"]),
                 digits(row["expected"]), within(row["gap"]), melanoma)
            )  # fmt: skip
    return rows


TABLES: dict[str, Callable[[Path], Rows]] = {
    one.__name__.replace("_", " "): one
    for one in (
        overall, classes, confusion, published, operating, stress, metadata, detectors, rejected,
        strangers, calibration, sets, doubts, shift, faithful, located, located_classes, sanity,
        shortcuts, acne, groups,
    )
}  # fmt: skip


def as_markdown(rows: Rows) -> list[str]:
    lines = ["|" + "|".join(f" {cell} " if cell else " " for cell in row) + "|" for row in rows]
    return [lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--page", type=Path, default=Path("docs/RESULTS.md"))
    given = parser.parse_args()
    written: list[str] = []
    inside = False  # a table that has been written anew
    for line in given.page.read_text(encoding="utf-8").splitlines():
        inside = inside and line != ""
        if inside:
            continue
        written.append(line)
        name = line.removeprefix("<!-- ").removesuffix(" -->")
        if line == f"<!-- {name} -->" and name in TABLES:
            try:
                written += as_markdown(TABLES[name](given.run))
            except (FileNotFoundError, DataError) as error:  # the latter of pruned predictions
                print(f"{name}: left as it is: {error}")
            else:
                inside = True
    given.page.write_text("\n".join(written) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
