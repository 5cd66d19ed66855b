"""How does an answer look? Small pieces of HTML that the page and the report it hands out share.

Every text from outside (file names, messages of a model) is escaped. No scripts.
"""

from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files

from dermx.app import texts
from dermx.app.answer import (
    Answered,
    Notice,
    answers,
    malignancy,
    malignant_probability,
    not_ruled_out,
    notices,
    percent,
    ranked,
)
from dermx.app.drawing import data_uri, gradient, thumbnail
from dermx.diagnoses import BY_CODE
from dermx.records import Assessment


def style() -> str:
    """The style sheet of page and report."""
    return files("dermx.app").joinpath("style.css").read_text(encoding="utf-8")


def notice(said: Notice, level: int = 2) -> str:
    """One statement as a card; a referral is announced to screen readers."""
    role = ' role="alert"' if said.kind == "refer" else ""
    sign = {"refer": "!", "unfamiliar": "?", "unsure": "?", "answer": ""}[said.kind]
    mark = f'<span class="dx-sign" aria-hidden="true">{sign}</span>' if sign else ""
    return (
        f'<div class="dx-notice dx-{said.kind}"{role}>{mark}<div>'
        f"<h{level}>{escape(said.title)}</h{level}><p>{escape(said.text)}</p></div></div>"
    )


def verdict(assessment: Assessment) -> str:
    """Everything that is said about a picture, most important first."""
    parts = [notice(said) for said in notices(assessment)]
    if answers(assessment):
        behaviour = BY_CODE[assessment.prediction].behaviour
        chip = f'<span class="dx-chip dx-b-{behaviour}">{texts.BEHAVIOUR[behaviour]}</span>'
        parts[-1] = parts[-1].replace("</h2>", f" {chip}</h2>", 1)
    return f'<div class="dx dx-verdict">{"".join(parts)}</div>'


def bars(assessment: Assessment) -> str:
    """The classes with their probabilities, likeliest first, as a table with bars."""
    possible = set(not_ruled_out(assessment))
    if answers(assessment):
        possible.discard(assessment.prediction)  # said above, in bold
    rows = []
    for code, probability in ranked(assessment):
        diagnosis = BY_CODE[code]
        words = texts.BEHAVIOUR[diagnosis.behaviour]
        mark = f' <b class="dx-in">{texts.IN_SET}</b>' if code in possible else ""
        rows.append(
            f'<tr><th scope="row">{escape(diagnosis.name)}'
            f'<small><span class="dx-w-{diagnosis.behaviour}">{words}</span>{mark}</small></th>'
            f'<td class="dx-bar" aria-hidden="true"><span><i class="dx-f-{diagnosis.behaviour}" '
            f'style="width:{100 * probability:.1f}%"></i></span></td>'
            f"<td>{percent(probability)}</td></tr>"
        )
    faint = "" if answers(assessment) else " dx-faint"
    title = texts.PROBABILITIES if answers(assessment) else texts.PROBABILITIES_ABSTAINED
    head = (
        '<thead class="dx-hidden"><tr><th scope="col">Condition</th><td></td>'
        '<th scope="col">Probability</th></tr></thead>'
    )
    return (
        f'<div class="dx dx-bars{faint}"><h3>{title}</h3>'
        f"<table>{head}<tbody>{''.join(rows)}</tbody></table></div>"
    )


def trust(assessment: Assessment, *, unfolded: bool = False) -> str:
    """What the model says about its own doubt; or that it has no parts to say it with."""
    given = assessment.trust
    together = f"<dt>{texts.MALIGNANT}</dt><dd>{_malignant(assessment)}</dd>"
    figures = "".join(
        f"<dt>{label}</dt><dd>{float(given[key]):.{digits}f}</dd>"
        for key, label, digits in (
            ("predictive_entropy", texts.ENTROPY, 2),
            ("mutual_information", texts.MUTUAL, 3),
            ("ood_score", texts.OOD_SCORE, 2),
        )
        if given.get(key) is not None
    )
    below = ""
    if figures:
        below = (
            f"<details{' open' if unfolded else ''}>"
            f"<summary>{texts.FIGURES}</summary><dl>{figures}</dl>"
            f'<p class="dx-quiet">{texts.FIGURES_HELP}</p></details>'
        )
    note = texts.NO_TRUST if not given else texts.CALIBRATED
    if given.get("is_ood"):
        note = texts.NOT_FOR_THIS
    return f'<div class="dx dx-trust"><dl>{together}</dl><p class="dx-note">{note}</p>{below}</div>'


def picture(source: str, alt: str, caption: str = "") -> str:
    """One picture with its caption."""
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f'<figure class="dx"><img src="{source}" alt="{escape(alt)}">{below}</figure>'


def pair(figures: Iterable[str]) -> str:
    """Pictures side by side where there is room."""
    return f'<div class="dx dx-pair">{"".join(figures)}</div>'


def legend(opacity: float) -> str:
    """What the map's colours mean, at the opacity at which they are seen."""
    return (
        '<div class="dx dx-legend"><span>none</span>'
        f'<i style="background-image:linear-gradient(90deg, {gradient(opacity)})"></i>'
        "<span>most</span></div>"
    )


def overview(answered: Sequence[Answered]) -> str:
    """A row per picture, for several at once."""
    rows = []
    for item in answered:
        first = notices(item.assessment)[0]
        title = escape(first.title)
        rows.append(
            f'<tr><td><img src="{data_uri(thumbnail(item.shown))}" alt=""></td>'
            f'<th scope="row">{escape(item.name)}</th>'
            f'<td class="dx-t-{first.kind}">{title}</td>'
            f"<td>{_malignant(item.assessment)}</td></tr>"
        )
    return (
        '<div class="dx dx-overview" tabindex="0" role="region" aria-label="All pictures"><table>'
        '<thead><tr><td></td><th scope="col">Picture</th><th scope="col">What it says</th>'
        f'<th scope="col">{texts.MALIGNANT}</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def refusals(sentences: Sequence[str]) -> str:
    """Files that were not taken, a line each."""
    lines = "".join(f"<li>{escape(line)}</li>" for line in sentences)
    return f'<ul class="dx dx-refused" role="status">{lines}</ul>'


def _malignant(assessment: Assessment) -> str:
    """A percentage; none for a picture that the model has no answer for."""
    if assessment.trust.get("is_ood") and not malignancy(assessment.trust).get("refer"):
        return "–"
    return percent(malignant_probability(assessment))
