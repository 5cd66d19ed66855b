"""How is the answer handed over? Tables as CSV and Markdown, and one page to print.

`write_study` writes every file of `dermx longitudinal`; each appears whole or not at all.
"""

import base64
import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from html import escape
from pathlib import Path

from dermx.errors import needs
from dermx.frame import framed, report_style
from dermx.longitudinal.effects import Effect
from dermx.longitudinal.patient import OwnChange
from dermx.longitudinal.power import PowerCell, plan_sentence
from dermx.longitudinal.study import TreatmentStudy, p_text, signed
from dermx.longitudinal.visits import counted
from dermx.records import write_whole

NOT_FITTED = "not fitted"
DISCLAIMER = "Research and education, not a medical device: no reason to start or stop a treatment."


def write_study(
    folder: Path,
    study: TreatmentStudy,
    *,
    title: str,
    facts: Mapping[str, str] | None = None,
    cells: Sequence[PowerCell] = (),
) -> Path:
    """Write tables, pictures and the page of a study.

    Args:
        folder: Made where it is missing; files of the same names are replaced.
        study: To show.
        title: Heading of the page.
        facts: What the numbers depend on: table, command, version.
        cells: Of a plan, if there is one.

    Returns:
        The path of `report.html`, one page without other files or scripts.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    with needs("drawing the study's figures", "stats"):
        from dermx.evaluate.figures import png  # here: the tables need no matplotlib
        from dermx.longitudinal import figures
    pictures = dict(figures.all_figures(study))
    files = {"patients.csv": patients_csv(study.patients)}
    if study.effects:
        files["effects.csv"] = effects_csv(study)
        files["effects.md"] = effects_markdown(study)
    if cells:
        pictures["power.png"] = png(figures.power(cells, study.visits.config.unit))
        files["power.csv"] = _csv([asdict(cell) for cell in cells])
    files["study.json"] = json.dumps(study.to_dict(), indent=2, allow_nan=False) + "\n"
    page = as_page(study, pictures, title=title, facts=facts or {}, cells=cells)
    written = {name: text.encode() for name, text in (*files.items(), ("report.html", page))}
    for name, content in {**pictures, **written}.items():
        with write_whole(folder / name) as file:
            file.write(content)
    return folder / "report.html"


def effects_csv(study: TreatmentStudy) -> str:
    """One row per model and comparison; the first model is the one that the study is read by."""
    rows = []
    for name, effects in _models(study):
        rows += [{"model": name, **asdict(effect)} for effect in effects]
    return _csv(rows)


def patients_csv(patients: Sequence[OwnChange]) -> str:
    """One row per patient and treatment, the sentence last."""
    return _csv([asdict(own) for own in patients], [field.name for field in fields(OwnChange)])


def effects_markdown(study: TreatmentStudy) -> str:
    """Return the effect table, what other models say, and what must be known."""
    unit, level = study.visits.config.unit, f"{study.config.level * 100:g} %"
    lines = [
        f"| difference in {unit} | estimate | {level} interval | p | p (Holm) | "
        "plain mixed model |",
        "|---|---|---|---|---|---|",
        *(
            f"| {e.name} | {signed(e.estimate)} | {_between(e.low, e.high)} | {_p(e.p)} "
            f"| {_p(e.p_adjusted)} | {_between(e.plain_low, e.plain_high)} |"
            for e in study.effects
        ),
        "",
        f"| the same by other models | {' | '.join(e.name for e in study.effects)} |",
        "|---" * (1 + len(study.effects)) + "|",
        *(f"| {name} | {' | '.join(cells)} |" for name, cells in _variant_rows(study)),
        "",
        *(f"- {sentence}" for sentence in (*study.sentences, *study.notes)),
    ]
    return "\n".join(lines) + "\n"


def as_page(
    study: TreatmentStudy,
    pictures: Mapping[str, bytes],
    *,
    title: str,
    facts: Mapping[str, str],
    cells: Sequence[PowerCell] = (),
) -> str:
    """Return one HTML page that needs no other file, no script and no network."""
    visits = study.visits
    patients = counted(len(visits.patients), "patient")
    body = [
        f"<header><h1>{escape(title)}</h1>",
        f'<p class="quiet">{patients}, {len(visits)} days, {escape(visits.config.unit)}; '
        f"{'higher' if visits.config.higher_is_better else 'lower'} is better</p></header>",
        _answer(study),
        _image("Effects, on average over patients", "effects.png", pictures, study.sentences),
        _image("Each patient", "trajectories.png", pictures),
        _patient_table(study),
        _image("Distributions", "distributions.png", pictures),
        _variant_table(study),
    ]
    if cells:
        text = plan_sentence(cells, visits.config.unit)
        body.append(_image("Planning", "power.png", pictures, [text]))
    body += [
        _image("Does the model fit?", "diagnostics.png", pictures),
        _facts(study, facts),
        f"<footer>{DISCLAIMER}</footer>",
    ]
    return framed(title, body, report_style() + _STYLE)


def _answer(study: TreatmentStudy) -> str:
    tiles = []
    unit = escape(study.visits.config.unit)
    for effect, sentence in zip(study.effects, study.sentences, strict=True):
        said = sentence.removeprefix(f"{effect.name}: ")
        verdict = escape(said.partition(",")[0].partition(";")[0])
        scale = f"{study.config.level * 100:g} %, {unit}"
        if effect.hangs_on_one:
            scale = unit
        else:
            verdict += f" ({escape(p_text(effect.p_adjusted))}, Holm)"
        tiles.append(
            f"<div><h2>{escape(effect.name)}</h2><p class='big'>{signed(effect.estimate)}</p>"
            f"<p>{_between(effect.low, effect.high)} <small>{scale}</small></p>"
            f"<p class='quiet'>{verdict}</p></div>"
        )
    notes = "".join(f"<li>{escape(note)}</li>" for note in study.notes)
    shown = f'<section class="tiles">{"".join(tiles)}</section>' if tiles else ""
    return f"{shown}<section><h2>To know before reading on</h2><ul>{notes}</ul></section>"


def _patient_table(study: TreatmentStudy) -> str:
    """A row per patient, a column per treatment."""
    own = {(change.patient, change.treatment): change for change in study.patients}
    treatments = study.visits.treatments[1:]
    rows = "".join(
        f"<tr><th scope=row>{escape(patient)}</th>"
        + "".join(f"<td>{_own_cell(own.get((patient, name)))}</td>" for name in treatments)
        + "</tr>"
        for patient in study.visits.patients
    )
    text = (
        f"The change in {study.visits.config.unit} against the patient's own "
        f"{study.visits.treatments[0]}, with its {study.config.level * 100:g} % interval; from "
        "four patients on it is shrunken towards the average as far as patients are alike. "
        "In words: patients.csv."
    )
    return _table("Is it better for this patient?", ("Patient", *treatments), rows, text)


def _own_cell(own: OwnChange | None) -> str:
    if own is None:
        return "not recorded"
    verdict = own.verdict
    wait = ""
    if verdict == "no clear change yet":
        more = own.more_days
        wait = " (more days won't tell)" if more is None else f" ({counted(more, 'more day')})"
    return (
        f"{signed(own.estimate)} <b class='{verdict.split()[0]}'>{verdict}</b>{wait}"
        f"<small>{_between(own.low, own.high)}</small>"
    )


def _variant_table(study: TreatmentStudy) -> str:
    if not study.effects:
        return ""
    rows = "".join(
        f"<tr><th scope=row>{escape(name)}</th>{_variant_cells(cells)}</tr>"
        for name, cells in _variant_rows(study)
    )
    heads = ("Model", *(effect.name for effect in study.effects))
    text = (
        "If the answer depends on the row, the data don't decide it. The plain mixed model takes "
        "days as independent and is here only to show what that would claim."
    )
    return _table("The same by other models", heads, rows, text)


def _variant_cells(cells: Sequence[str]) -> str:
    """A cell per comparison; a reason why there is none goes over all of them."""
    if cells[0].startswith(NOT_FITTED):
        return f"<td class=reason colspan={len(cells)}>{escape(cells[0])}</td>"
    return "".join(f"<td>{escape(cell)}</td>" for cell in cells)


def _table(heading: str, heads: Sequence[str], rows: str, text: str) -> str:
    top = "".join(f"<th scope=col>{escape(head)}</th>" for head in heads)
    return (
        f'<section><h2>{escape(heading)}</h2><div class="scroll"><table><thead><tr>{top}</tr>'
        f'</thead><tbody>{rows}</tbody></table></div><p class="quiet">{escape(text)}</p></section>'
    )


def _models(study: TreatmentStudy) -> list[tuple[str, Sequence[Effect]]]:
    return [("this study's model", study.effects), *((v.name, v.effects) for v in study.variants)]


def _variant_rows(study: TreatmentStudy) -> list[tuple[str, list[str]]]:
    rows = []
    reasons = {v.name: v.reason for v in study.variants}
    for name, effects in _models(study):
        cells = [f"{signed(e.estimate)} ({_between(e.low, e.high)})" for e in effects]
        if not cells:
            cells = [f"{NOT_FITTED}: {reasons[name]}", *[""] * (len(study.effects) - 1)]
        rows.append((name, cells))
    return rows


def _image(
    heading: str, name: str, pictures: Mapping[str, bytes], texts: Sequence[str] = ()
) -> str:
    if name not in pictures:
        return ""
    data = base64.b64encode(pictures[name]).decode()
    notes = "".join(f'<p class="quiet">{escape(text)}</p>' for text in texts)
    return (
        f"<section><h2>{escape(heading)}</h2><figure><img class='{name.partition('.')[0]}' "
        f"alt='{escape(heading)}' src=\"data:image/png;base64,{data}\"></figure>{notes}</section>"
    )


def _facts(study: TreatmentStudy, facts: Mapping[str, str]) -> str:
    shown = dict(facts)
    shown["model"] = method(study)
    if study.model is not None:
        fit = study.model.fit
        shown["between patients"] = (
            f"{fit.icc * 100:.0f} % of the variance of a day's severity (ICC {fit.icc:.2f})"
        )
    shown["from day to day"] = (
        f"standard deviation {study.noise.sd:.2f} {study.visits.config.unit}, correlation of "
        f"neighbouring days {study.noise.rho:.2f}"
    )
    items = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in shown.items())
    return f'<section class="facts"><h2>What this rests on</h2><dl>{items}</dl></section>'


def method(study: TreatmentStudy) -> str:
    """Say how the effects were estimated, in a sentence for the methods section."""
    if study.model is None:
        return "differences of each patient's means; errors from AR(1) noise fitted by REML"
    config = study.config
    varying = {
        "intercept": "",
        "treatment": " and treatment effects",
        "day": " and slope over days",
    }
    errors = {
        "robust": "bias-reduced sandwich by patient (CR2), t with Satterthwaite's df",
        "bootstrap": f"studentised bootstrap of patients, {config.n_boot} draws",
        "plain": "the model's own, which take days as independent",
    }
    trend = ", straight trend over days" if config.trend else ""
    skipped = f", first {config.skip_days} days after a change left out" if config.skip_days else ""
    return (
        f"linear mixed model by REML, random intercept{varying[config.random]} per patient{trend}"
        f"{skipped}; standard errors: {errors[config.errors]}; p values adjusted by Holm over "
        f"{sum(not effect.hangs_on_one for effect in study.effects)} comparisons"
    )


def _csv(rows: Sequence[Mapping[str, object]], names: Sequence[str] = ()) -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, names or list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)
    return buffer.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}"
    return "" if value is None else value


def _between(low: float, high: float) -> str:
    return "one patient only" if math.isnan(low) else f"{signed(low)} to {signed(high)}"


def _p(p: float) -> str:
    return "none" if math.isnan(p) else p_text(p).removeprefix("p ").removeprefix("= ")


_STYLE = """ul { margin: 0; padding-left: 1.1rem; } li + li { margin-top: .35rem; }
td b { font-weight: 500; } img.distributions, img.power { max-width: 36rem; }
td.reason { white-space: normal; overflow-wrap: anywhere; }
.better { color: light-dark(#00664b, #4fd0a5); } .worse { color: light-dark(#a94400, #f59a62); }
@media print { section { break-inside: avoid; } }
"""
