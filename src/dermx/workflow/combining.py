"""Several models as one."""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from dermx.config import Config, load_config
from dermx.data.catalog import require_pictures
from dermx.data.split import PARTS
from dermx.errors import BundleError, ConfigError, DataError, InputError
from dermx.evaluate.decision import even_weights
from dermx.evaluate.ensemble import combine, fit_weights, select_greedy, stacked
from dermx.model.bundle import Bundle, load_bundle, write_bundle
from dermx.model.card import model_card
from dermx.preprocess.views import VIEWS
from dermx.records import Case, Predictions
from dermx.runs import read_facts, read_parts, require_run, start_run
from dermx.trust.calibration import fit_calibration
from dermx.trust.fitting import left_out
from dermx.workflow.evaluation import answers_file, counted, predict_all, predicted, write_json
from dermx.workflow.training import score_logits

if TYPE_CHECKING:
    from dermx.train.loop import Track

RESCALED: Final = 1.0  # logits; where pictures are shrunk twice instead of once
Weighting = Literal["greedy", "fitted", "equal"]
Say = Callable[[str], None]


def ensemble_run(
    members: Sequence[Path],
    out: Path,
    *,
    weights: Weighting | Sequence[float] = "greedy",
    crop_fractions: Sequence[float] = (),
    adjust: float = 0.0,
    melanomas: float | None = None,
    mapped: Sequence[Path] = (),
    track: "Track | None" = None,
    say: Say = print,
) -> Path:
    """Make one model of several trained ones, weighted by their validation predictions.

    `out` is then a run's folder that `evaluate_run` reads. A case is in its validation or test part
    only if it is there in every member that has it: what one of them was trained on is no test.

    Args:
        members: Folders written by `train_run`; of any architectures, and for pictures prepared
            alike but for their size and crop.
        out: New or empty folder; `out/bundle` is the model, `out/ensemble.json` says what is in it.
        weights: "greedy" picks members while balanced accuracy rises, "fitted" minimises the
            class-balanced log loss, "equal" needs no validation part; or a number for each
            member, above 0, in any scale.
        crop_fractions: How much of the square each member looks at, instead of what it was trained
            for: networks that look at more and at less of a picture err less alike. As trained when
            empty.
        adjust: Takes the classes' shares of the training part to this power out of the answer, so
            that rare classes are answered sooner (logit adjustment, Menon et al. 2021). From 0 to
            1; choose it on validation.
        melanomas: Instead: biases of the classes are fitted to the validation part, over eight
            views, and each class weighted so that the answers serve accuracy and balanced accuracy
            alike and this share of the melanomas, from 0 to 1, is expected to be found; see
            `dermx.evaluate.decision.even_weights`.
        mapped: Heat maps show the last layers of these members alone; of all when empty. Choose
            them by the audit of the validation part.
        track: Shows progress.
        say: Shows each member's weight.

    Returns:
        The bundle's folder.

    Raises:
        ConfigError: `out` is not empty.
        InputError: No member is named, one of `mapped` is none of them, `adjust` or `melanomas` is
            out of its range or both are given, or there isn't one weight above 0, or one crop
            fraction above 0 and at most 1, for each member.
        DataError: The members have no validation case in common to fit weights or biases on.
        BundleError: The members can't be made one; see `dermx.model.merge.merge`.
    """
    _check_asked(members, out, weights, crop_fractions, adjust, melanomas, mapped)
    from dermx.train.losses import log_prior

    for run in members:
        require_run(run)
    trained = [load_bundle(run / "bundle") for run in members]
    bundles = trained
    if crop_fractions:
        bundles = [
            replace(bundle, preprocess=replace(bundle.preprocess, crop_fraction=float(fraction)))
            for bundle, fraction in zip(trained, crop_fractions, strict=True)
        ]
    tables = [read_parts(run) for run in members]
    parts = _common_parts(tables)

    def said(views: int) -> list[Predictions]:
        found = []
        for run, bundle, first, own in zip(members, bundles, trained, tables, strict=True):
            stored = own["val"] if bundle.preprocess == first.preprocess else []
            found.append(_said_of(run, bundle, stored, parts["val"], track, say, views))
        return found

    shares, facts = np.full(len(members), 1 / len(members)), {}
    if not parts["val"] and (weights in ("greedy", "fitted") or melanomas is not None):
        raise DataError(
            f"the {len(members)} runs share no validation case; weigh them equally "
            "or train them on the same parts"
        )
    if not isinstance(weights, str):
        shares = np.array(weights, np.float64) / np.sum(weights)
    elif weights != "equal":
        apart = said(views=1)
        logits, labels = stacked(apart), apart[0].labels
        fit_them = fit_weights if weights == "fitted" else _greedy_weights
        shares = fit_them(logits, labels)
        facts = {"all": _balanced(labels, combine(logits, shares))}
        facts |= {str(i): _balanced(labels, one) for i, one in enumerate(logits)}
        say(f"validation: balanced accuracy {facts['all']:.3f}")
    rows = []
    for i, (run, bundle) in enumerate(zip(members, bundles, strict=True)):
        row = {"run": str(run), "architecture": bundle.architecture, "weight": float(shares[i])}
        row["crop_fraction"] = bundle.preprocess.crop_fraction
        alone = facts.get(str(i))
        rows.append(row if alone is None else row | {"val_balanced_accuracy": alone})
        say(f"{run}: weight {shares[i]:.3f}" + ("" if alone is None else f", alone {alone:.3f}"))
    config = load_config(members[0] / "config.json")
    counts = Counter(case.diagnosis for case in parts["train"])
    offsets = -adjust * log_prior(np.array([counts[code] for code in bundles[0].codes]))
    if melanomas is not None:
        apart = said(views=VIEWS)
        known = replace(apart[0], logits=combine(stacked(apart), shares).astype(np.float32))
        offsets = _even_offsets(known, melanomas, say)
    which = [list(members).index(run) for run in mapped] or None
    write_ensemble(out, bundles, shares, parts, config, say, offsets=offsets, mapped=which)
    content = {
        "weights": weights if isinstance(weights, str) else "given",
        "adjust": adjust,
        "melanomas": melanomas,
        "offsets": dict(zip(bundles[0].codes, offsets.tolist(), strict=True)),
        "mapped": [str(run) for run in mapped],
        "val_balanced_accuracy": facts.get("all"),
        "members": rows,
    }
    write_json(out / "ensemble.json", content)
    return out / "bundle"


def _check_asked(
    members: Sequence[Path],
    out: Path,
    weights: Weighting | Sequence[float],
    crop_fractions: Sequence[float],
    adjust: float,
    melanomas: float | None,
    mapped: Sequence[Path],
) -> None:
    """Raise where an ensemble is asked for that can't be, before any model is read."""
    if out.exists() and any(out.iterdir()):
        raise ConfigError(f"{out} is not empty; choose another folder")
    if not members:
        raise InputError("name the runs to make one model of")
    if not 0 <= adjust <= 1:
        raise InputError(f"adjust must be from 0 to 1, got {adjust}")
    if melanomas is not None and not 0 <= melanomas <= 1:
        raise InputError(f"melanomas must be from 0 to 1, got {melanomas}")
    if melanomas is not None and adjust:
        raise InputError("adjust and melanomas both say how soon a class is answered; give one")
    if strange := [run for run in mapped if run not in members]:
        raise InputError(f"{strange[0]}, whose maps to show, is none of the runs")
    given = None if isinstance(weights, str) else np.array(weights, np.float64)
    if given is not None and (
        given.shape != (len(members),) or not (np.isfinite(given).all() and (given > 0).all())
    ):
        raise InputError(
            f"need a weight above 0 for each of {len(members)} runs, got {list(weights)}"
        )
    cropped = np.array(crop_fractions, np.float64)
    if crop_fractions and not (
        cropped.shape == (len(members),) and ((cropped > 0) & (cropped <= 1)).all()
    ):
        raise InputError(
            f"need a crop fraction above 0, at most 1, for each of {len(members)} runs, "
            f"got {list(crop_fractions)}"
        )


def _even_offsets(known: Predictions, melanomas: float, say: Say) -> np.ndarray:
    """What to add to the logits: the classes' fitted biases, and the weights of an answer."""
    probs = left_out(known, "bias").reshape(-1, *known.logits.shape).mean(axis=0)
    weights = even_weights(probs, known.codes, melanomas)
    answers = (probs * weights).argmax(axis=1)
    right = probs[np.arange(len(probs)), answers]
    recalls = np.bincount(answers, right, len(known.codes)) / probs.sum(axis=0)
    fitted = fit_calibration(known.logits, known.labels, "bias")
    offsets = np.asarray((fitted.bias + np.log(weights)) / fitted.scale)
    say(
        f"expected on {len(probs)} validation pictures: accuracy {right.mean():.3f}, recall "
        + ", ".join(map("{} {:.3f}".format, known.codes, recalls))
    )
    say("added to the logits: " + ", ".join(map("{} {:+.2f}".format, known.codes, offsets)))
    return offsets


def _said_of(
    run: Path,
    bundle: Bundle,
    own: Sequence[Case],
    wanted: Sequence[Case],
    track: "Track | None",
    say: Say,
    views: int,
) -> Predictions:
    """What a member says of cases; where it stores `own`, they stay its answers of its part."""
    if not {case.image for case in wanted} <= {case.image for case in own}:
        require_pictures(wanted)
        progress = counted(track, "predicting", len(wanted))
        return predict_all(bundle, wanted, progress=progress, views=views)
    stored = run / "evaluation" / "val" / answers_file(views)
    said = predicted(bundle, own, stored, track, say, views)
    rows = {image: row for row, image in enumerate(said.images)}
    return said.select(np.array([rows[case.image] for case in wanted]))


def write_ensemble(
    out: Path,
    bundles: Sequence[Bundle],
    weights: np.ndarray,
    parts: dict[str, list[Case]],
    config: Config,
    say: Say,
    *,
    start: bool = True,
    offsets: np.ndarray | float = 0.0,
    mapped: Collection[int] | None = None,
) -> None:
    """Write `out/bundle`, checked against its members on pictures, and with `start` the run.

    `offsets`, one per class, are added to the mean of the members' logits; `mapped` are the numbers
    of those whose last layers heat maps show.
    """
    from dermx.model.merge import merge
    from dermx.train.export import TOLERANCE

    merged = merge(bundles, weights, mapped)
    counts = Counter(b.architecture for b, w in zip(bundles, weights, strict=True) if w > 0)
    name = " + ".join(f"{n} x {kind}" if n > 1 else kind for kind, n in counts.items())
    config = replace(config.with_train(architecture=name), preprocess=merged.preprocess)
    if start:
        start_run(out, parts, config, None)
    cases = [case for part in PARTS for case in parts[part]]
    sample = cases[:: max(1, len(cases) // 16)][:16]

    def finish(fresh: Bundle) -> None:
        apart = combine(stacked([predict_all(one, sample) for one in bundles]), weights) + offsets
        difference = float(np.abs(predict_all(fresh, sample).logits - apart).max())
        # members that see the picture in another scale get it from another hand: shrunk once more
        same = all(bundle.preprocess == merged.preprocess for bundle in bundles)
        if not difference <= (TOLERANCE if same else RESCALED):  # also NaN
            raise BundleError(
                f"the ensemble differs from its members by {difference:.1e} in a logit"
            )
        say(f"{out / 'bundle'}: {len(sample)} pictures within {difference:.1e} of the members")

    write_bundle(
        out / "bundle",
        name=name,
        architecture=name,
        codes=bundles[0].codes,
        preprocess=merged.preprocess,
        network_bytes=merged.network,
        weight=merged.weight,
        bias=(merged.bias + offsets).astype(np.float32),
        mapped=merged.mapped,
        figures={},
        card=model_card(config, {}, read_facts(out)),
        finish=finish,
    )


def _common_parts(tables: Sequence[dict[str, list[Case]]]) -> dict[str, list[Case]]:
    """Part the cases of several runs: a group stays in a part if it is in no other in any run."""
    held: dict[str, set[str]] = {}
    cases: dict[str, Case] = {}
    for parts in tables:
        for part, inside in parts.items():
            for case in inside:
                cases.setdefault(case.image, case)
                held.setdefault(cases[case.image].group, set()).add(part)
    common: dict[str, list[Case]] = {part: [] for part in PARTS}
    for case in cases.values():
        where = held[case.group]
        common[next(iter(where)) if len(where) == 1 else "train"].append(case)
    return common


def _greedy_weights(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return select_greedy(logits, labels, _balanced)


def _balanced(labels: np.ndarray, logits: np.ndarray) -> float:
    return score_logits(labels, logits)["balanced_accuracy"]
