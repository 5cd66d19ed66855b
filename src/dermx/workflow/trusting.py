"""May a trained model be believed? Trust parts into the bundle, and figures of them on a part.

Fitting uses the validation part (or out-of-fold predictions), reporting the test part.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from dermx.config import load_config
from dermx.errors import BundleError, InputError
from dermx.evaluate.screening import dangerous_cases
from dermx.model.bundle import Bundle, TrustParts, load_bundle, same_model, write_trust
from dermx.model.card import model_card
from dermx.model.runtime import Session
from dermx.preprocess.shift import SEVERITIES
from dermx.preprocess.views import VIEWS
from dermx.records import Case, Predictions, write_whole
from dermx.runs import read_facts, read_figures, read_findings, require_run
from dermx.trust.calibration import answer_reliability
from dermx.trust.fitting import Wanted, doubts, fit_trust
from dermx.trust.gatefit import by_picture
from dermx.trust.measure import (
    answered_figures,
    calibration_figures,
    dermoscopic,
    doubt_figures,
    referral_figures,
    rejected_by_class,
    set_figures,
)
from dermx.trust.shifting import shift_csv, shift_rows
from dermx.trust.verdict import Trust, judge
from dermx.workflow.calibrating import fitting_cases, told, views_of
from dermx.workflow.evaluation import Part, Say, cases_of, counted, predict_all, write_json
from dermx.workflow.ood import fitted_gate, load_gate
from dermx.workflow.strangers import Views, stranger_views

if TYPE_CHECKING:
    from dermx.train.loop import Track

SHIFTS: Final = ("blur", "noise", "jpeg", "brightness", "colour_cast", "rotation", "crop")


def trust_run(
    run: Path,
    *,
    outliers: Path | None = None,
    dermnet: Path | None = None,
    bundle: Path | None = None,
    fit: Path | None = None,
    views: int = VIEWS,
    wanted: Wanted | None = None,
    track: "Track | None" = None,
    say: Say = print,
) -> Path:
    """Fit all trust parts of a run and write them into its bundle.

    Args:
        run: Folder written by `train_run`.
        outliers: Folder of pictures that are none of the eight, to fit a gate on where the run
            has none yet, as by `dermx ood`; without either there is no gate.
        dermnet: DermNet's class folder, whose names that are not acne count as such pictures.
        bundle: Another copy of the run's model to write them into as well, e.g. an exported one.
        fit: Fit calibration, sets and thresholds on these predictions, e.g. out-of-fold ones.
        views: 1, or 8 for means over turns and mirror images.
        wanted: What to aim for.
        track: Shows progress.
        say: Shows what was fitted.

    Returns:
        The run's bundle.

    Raises:
        BundleError: `bundle` is another model, or the run's gate is for another model or number of
            views.
        DataError: There is no validation part, or `fit` holds cases of the test part.
    """
    require_run(run)
    model = load_bundle(run / "bundle")
    copies = _copies(model, bundle)
    gate = load_gate(run, views)
    own = views_of(run, "val", views=views, track=track, say=say)
    if gate is not None:
        say(f"{run / 'ood'}: the gate as it was fitted; dermx ood fits another")
    elif outliers is not None:
        gate = fitted_gate(
            run, outliers=outliers, dermnet=dermnet, views=views, track=track, say=say
        )
    trust = fit_trust(
        fitting_cases(run, fit, views, track, say),
        own,
        model.weight,
        model.bias,
        gate=gate,
        views=views,
        dropout=load_config(run / "config.json").train.dropout,
        wanted=wanted,
        facts={"file": None if fit is None else fit.name, "dermx": model.version},
    )
    config = load_config(run / "config.json")
    facts, findings = read_facts(run), read_findings(run)
    card = model_card(config, read_figures(run), facts, findings=findings, trusted=True)
    parts = _still_measured(trust.to_parts(), model.trust)
    for target in copies:
        write_trust(target, parts, card=card)
        say(f"{target.folder}: trust parts written")
    for line in _fitted(trust):
        say(line)
    return model.folder


def trust_figures(
    run: Path,
    *,
    on: Part = "test",
    outliers: Path | None = None,
    dermnet: Path | None = None,
    bundle: Path | None = None,
    n_boot: int = 1000,
    track: "Track | None" = None,
    say: Say = print,
) -> Path:
    """Measure a run's trust parts on one part: `trust.json`, `risk_coverage.png`, `decision.png`.

    The reliability table of the test part also goes into the bundle's figures, for `dermx app`.

    Args:
        run: Folder written by `train_run`.
        on: Part of the run's own pictures.
        outliers: Folder of pictures that are none of the eight; those of its part for reporting
            are asked about as well.
        dermnet: DermNet's class folder, whose names that are not acne count as such pictures.
        bundle: Another copy of the run's model that gets the trust parts and the table as well.
        n_boot: Resamples of lesions.
        track: Shows progress.
        say: Shows the figures.

    Raises:
        BundleError: The run's bundle has no trust parts, or `bundle` is another model.
    """
    from dermx.evaluate.figures import png
    from dermx.trust.figures import decision_figure, risk_figure

    model, trust = _trusted(run)
    copies = _copies(model, bundle)
    said = views_of(run, on, views=trust.views, track=track, say=say)
    known = said.select(said.labels >= 0)
    judged = judge(trust, known.features, model.weight, model.bias)
    wrong = judged.answers != known.labels
    inside = np.isin(known.images, dermoscopic(known).images)
    found = doubts(trust, judged, known.views)
    ranked = doubt_figures(found, wrong, known, n_boot=n_boot)
    table = {"part": on, **answer_reliability(judged.confidence, ~wrong).to_dict()}
    content = {
        "part": on,
        "cases": len(known.labels),
        "groups": len(set(known.groups)),
        "calibration_dermoscopic": calibration_figures(
            judged.probs[inside], known.select(inside), n_boot=n_boot
        ),
        "calibration": calibration_figures(judged.probs, known, n_boot=n_boot),
        "reliability": table,
        "sets": set_figures(judged.inside, known, n_boot=n_boot),
        "doubts": ranked,
        "rule": answered_figures(judged.abstain, wrong, known, n_boot=n_boot),
        "referral": referral_figures(judged.refer, known, n_boot=n_boot),
        "gate_rejects": rejected_by_class(judged.is_ood, known.labels, known.codes),
    }
    if outliers is not None:
        seen = stranger_views(
            run, "report", outliers=outliers, dermnet=dermnet, views=trust.views, track=track,
            say=say,
        )  # fmt: skip
        content["strangers"] = _strangers(trust, model, seen)
    folder = run / "evaluation" / on
    write_json(folder / "trust.json", content)
    if on == "test" and model.trust is not None:
        for target in copies:
            write_trust(target, model.trust._replace(reliability=table))
    risk = risk_figure(
        {name: doubt for name, doubt in found.items() if name != "gate score"},
        wrong,
        {name: row["augrc"] for name, row in ranked.items()},
        answered=~judged.abstain,
    )
    curve = decision_figure(judged.malignant, dangerous_cases(known), trust.screening.threshold)
    for name, figure in (("risk_coverage.png", risk), ("decision.png", curve)):
        with write_whole(folder / name) as file:
            file.write(png(figure))
    for line in _measured(content):
        say(line)
    return folder / "trust.json"


def shift_figures(
    run: Path,
    *,
    on: Part = "test",
    sample: int = 300,
    changes: Sequence[str] = SHIFTS,
    severities: Sequence[int] = SEVERITIES,
    track: "Track | None" = None,
    say: Say = print,
) -> Path:
    """Measure the trust parts on changed pictures: `trust_shift.csv`.

    Args:
        run: Folder written by `train_run`, with trust parts.
        on: Part whose pictures are changed.
        sample: About how many pictures, evenly from the part; each is answered once per change and
            severity with all views.
        changes: Names from `dermx.preprocess.shift.SHIFTS`.
        severities: Of 1 to 5.
        track: Shows progress.
        say: Shows where the table is.

    Raises:
        InputError: The sample is so small that it has no picture.
        DataError: A picture can't be read, or the part has no case.
        BundleError: The run's bundle has no trust parts.
    """
    model, trust = _trusted(run)
    cases = evenly(cases_of(run, on), sample)
    if not cases:
        raise InputError(f"{sample} pictures are too few to take some of any class; ask for more")
    session = Session(model)
    total = len(cases) * (1 + len(changes) * len(severities))
    progress = counted(track, "predicting changed pictures", total)

    def predict(change: Any) -> Predictions:
        return predict_all(session, cases, progress=progress, change=change, views=trust.views)

    rows = list(shift_rows(trust, model.weight, model.bias, predict, changes, severities))
    path = run / "evaluation" / on / "trust_shift.csv"
    with write_whole(path) as file:
        file.write(shift_csv(rows).encode())
    say(f"{path}: {len(cases)} pictures, {len(rows) - 1} changes")
    return path


def evenly(cases: Sequence[Case], sample: int) -> list[Case]:
    """Return about so many cases, the same share of every class, in order."""
    share = min(1.0, sample / max(1, len(cases)))
    seen: dict[str | None, int] = {}
    kept = []
    for case in cases:
        count = seen[case.diagnosis] = seen.get(case.diagnosis, 0) + 1
        if int(count * share) > int((count - 1) * share):
            kept.append(case)
    return kept


def _strangers(trust: Trust, model: Bundle, seen: Views) -> dict[str, dict[str, int]]:
    """How many strangers of each kind the gate turns away, the rule does not answer, it does."""
    pictures, first = by_picture(seen.predictions)
    judged = judge(trust, pictures.features, model.weight, model.bias)
    kinds = np.array(seen.kinds)[first]
    return {
        str(kind): {
            "pictures": int((kinds == kind).sum()),
            "turned_away": int(judged.is_ood[kinds == kind].sum()),
            "answered": int((~judged.abstain)[kinds == kind].sum()),
        }
        for kind in np.unique(kinds)
    }


def _still_measured(parts: TrustParts, before: TrustParts | None) -> TrustParts:
    """Keep the reliability table of older parts if it is about the same probabilities."""
    if before is None or any(
        before.settings.get(key) != parts.settings[key] for key in ("calibration", "views")
    ):
        return parts
    return parts._replace(reliability=before.reliability)


def _copies(model: Bundle, folder: Path | None) -> list[Bundle]:
    """The run's bundle and, where one is named, another copy of the same model."""
    if folder is None:
        return [model]
    other = load_bundle(folder)
    if not same_model(other, model):
        raise BundleError(
            f"{folder} is not the model of {model.folder.parent}; "
            f"dermx export {model.folder.parent} --out {folder} makes it so"
        )
    return [model, other]


def _trusted(run: Path) -> tuple[Bundle, Trust]:
    require_run(run)
    model = load_bundle(run / "bundle")
    trust = Trust.of(model)
    if trust is None:
        raise BundleError(f"{model.folder} has no trust parts; dermx trust {run} makes them")
    return model, trust


def _fitted(trust: Trust) -> list[str]:
    rule, method, facts = trust.rule, trust.calibration.method, trust.facts
    losses = facts["log_loss_left_out"]
    return [
        f"calibration: {method}, temperature {trust.calibration.temperature:.3f}; log loss on "
        "lesions left out: " + ", ".join(f"{name} {loss:.4f}" for name, loss in losses.items()),
        *(f"{name} is left out: {why}" for name, why in facts["calibration_not_fitted"].items()),
        f"sets: {trust.sets.score}, {trust.sets.coverage:.0%} in every class"
        + "".join(f"; {code} had no case" for code in facts["classes_without_threshold"]),
        f"rule: answered from confidence {rule.min_confidence:.3f}, "
        f"set size {rule.max_set or 'off'}, dropout information {rule.max_information or 'off'}, "
        f"gate {'off' if trust.gate is None else 'on'}",
        f"referral from P(mel, bcc, akiec) {trust.screening.threshold:.4f}",
    ]


def _measured(content: dict[str, Any]) -> list[str]:
    lines = [f"{content['part']}: {content['cases']} cases of {content['groups']} lesions"]
    for name in ("calibration_dermoscopic", "calibration"):
        lines += [f"{name} {key}: {told(figure)}" for key, figure in content[name].items()]
    sets = content["sets"]
    lines.append(f"sets hold the truth: {told(sets['coverage'])}, mean size {sets['size']:.2f}")
    lines += [
        f"  {code}: {told(row['coverage'])} of {row['cases']}"
        for code, row in sets["of_class"].items()
    ]
    for name, row in content["doubts"].items():
        lines.append(
            f"{name}: AURC {row['aurc']:.4f}, AUGRC {row['augrc']:.4f} "
            f"(gain {told(row['augrc_gain'])}), accuracy at 80 % {told(row['accuracy_at_80'])}, "
            f"gain {told(row['gain_at_80'])}"
        )
    for name in ("rule", "referral"):
        lines += [f"{name} {key}: {told(figure)}" for key, figure in content[name].items()]
    lines += [
        f"{kind} strangers: {row['turned_away']} turned away, {row['answered']} answered "
        f"of {row['pictures']}"
        for kind, row in content.get("strangers", {}).items()
    ]
    rejected = content["gate_rejects"].items()
    lines.append(
        "gate turns away: " + ", ".join(f"{c} {s:.3f}" for c, s in rejected if s is not None)
    )
    return lines
