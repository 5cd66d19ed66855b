"""What does `dermx predict` show and write? A table for people; JSON, CSV and PNG for the rest.

Answers go to stdout or to files; what was done to read a picture, and what can't be read, goes to
stderr.
"""

import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryFile
from typing import TypeVar

import numpy as np
import typer

from dermx.answers import Answer, as_csv
from dermx.assess import load_model
from dermx.cli.progress import track
from dermx.data.files import PICTURES, list_pictures, unique_names
from dermx.diagnoses import BY_CODE, CODES
from dermx.errors import InputError
from dermx.model.runtime import usable_cores
from dermx.predict import Failure
from dermx.records import Assessment, write_whole

T = TypeVar("T")

NO_TRUST = (
    "this model has no trust parts, so confidence is not calibrated; dermx trust RUN makes them"
)
MESSAGES = 10  # pictures up to which a message is shown for each
DISCLAIMER = "Research and education, not a medical device."
BEHAVIOUR = {"benign": "benign", "premalignant": "pre-malignant", "malignant": "malignant"}
COLOUR = {"benign": "green", "premalignant": "yellow", "malignant": "red"}
# A file's name may hold what ends a line or drives a terminal: shown as escapes.
CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}
HEADINGS = ("picture", "prediction", "confidence", "runner-up", "behaviour")


def predict_pictures(
    paths: Sequence[Path],
    *,
    model: Path | None = None,
    as_json: bool = False,
    csv_file: Path | None = None,
    isic: bool = False,
    heatmaps: Path | None = None,
    with_trust: bool = True,
) -> int:
    """Assess pictures and show or write the answers.

    ISIC's file has the probabilities of one view without calibration, as `dermx evaluate` writes
    it: its scorer takes the most probable class as the answer, which calibration can change.

    Returns:
        0 when every picture was read, else 1.

    Raises:
        InputError: Something would be overwritten, a place can't be written to, or two pictures
            share an ISIC name.
        DataError: A folder holds no picture.
        BundleError: The model can't be used.
    """
    pictures = gather(paths)
    _check_outputs(paths, pictures, csv_file, isic, heatmaps)
    opened = load_model(model, with_trust=with_trust and not isic)
    if csv_file is not None and (csv_file.is_file() or not csv_file.exists()):  # not a device
        _require_writable(_real(csv_file).parent)
    if heatmaps is not None:
        _require_writable(heatmaps)
    if with_trust and not isic and opened.trust is None:
        typer.echo(f"note: {NO_TRUST}", err=True)
    answers = list(_track(opened.assess_many(pictures), len(pictures), "assessing"))
    if csv_file is not None:
        (write_isic if isic else write_csv)(csv_file, answers, opened.bundle.codes)
    if heatmaps is not None:
        draw_heatmaps(heatmaps, pictures, answers)
    _report(answers)
    if as_json:
        typer.echo(json.dumps([to_dict(answer) for answer in answers], indent=2))
        return _status(answers)
    if csv_file is None:
        read = [answer for answer in answers if isinstance(answer, Assessment)]
        show_table(read)
        show_messages(read)
    else:
        typer.echo(f"predictions: {csv_file}")
    if heatmaps is not None:
        typer.echo(f"heat maps: {heatmaps}")
    typer.echo(DISCLAIMER)
    return _status(answers)


def gather(paths: Sequence[Path]) -> list[Path]:
    """Files as given and the pictures of folders, each once; a missing file stays, to be reported.

    Raises:
        DataError: A folder holds no picture.
    """
    found: dict[Path, None] = {}
    for path in paths:
        found.update(dict.fromkeys(list_pictures([path]) if _is_folder(path) else [path]))
    return list(found)


def to_dict(answer: Answer) -> dict[str, object]:
    """Return the JSON object of one picture; of an unreadable one, only why."""
    if isinstance(answer, Failure):
        return {"image": answer.image, "error": answer.message}
    return answer.to_dict()


def write_csv(path: Path, answers: Sequence[Answer], codes: Sequence[str] = CODES) -> None:
    """Write the table of `dermx.answers.as_csv`, whole or not at all."""
    with write_whole(path) as file:
        file.write(as_csv(answers, codes).encode(errors="surrogateescape"))  # names keep bytes


def write_isic(path: Path, answers: Sequence[Answer], codes: Sequence[str] = CODES) -> None:
    """Write what ISIC's scorer takes: stems and seven probabilities; unreadable ones are left out.

    Raises:
        InputError: The model lacks one of the seven classes.
    """
    from dermx.report import write_isic_csv

    read = [answer for answer in answers if isinstance(answer, Assessment)]
    rows = [[answer.probabilities[code] for code in codes] for answer in read]
    probs = np.array(rows, np.float64).reshape(len(read), len(codes))
    write_isic_csv(probs, [Path(answer.image).stem for answer in read], path, codes)


def draw_heatmaps(folder: Path, pictures: Sequence[Path], answers: Sequence[Answer]) -> None:
    """Write a PNG per assessed picture, named by its stem; equal stems are numbered from 2."""
    from dermx.explain.overlay import LONGEST, save_overlay
    from dermx.preprocess.reading import read_picture

    jobs = [
        (picture, name, answer)
        for picture, name, answer in zip(pictures, unique_names(pictures), answers, strict=True)
        if isinstance(answer, Assessment)
    ]

    def draw(job: tuple[Path, str, Assessment]) -> None:
        picture, name, answer = job
        save_overlay(folder / name, read_picture(picture, min_side=LONGEST).pixels, answer)

    with ThreadPoolExecutor(usable_cores()) as pool:
        for _ in _track(pool.map(draw, jobs), len(jobs), "drawing heat maps"):
            pass


def show_table(answers: Sequence[Assessment]) -> None:
    """Print a row per picture: coloured on a terminal, else aligned text that is never cut."""
    if not answers:
        return
    rows = [_row(answer) for answer in answers]
    headings = (*HEADINGS, "advice")[: len(rows[0])]
    if not sys.stdout.isatty():
        widths = [max(len(row[i]) for row in [headings, *rows]) for i in range(len(headings))]
        for row in [headings, *rows]:
            line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            typer.echo(line.rstrip())
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    names = [Path(answer.image).name for answer in answers]
    short = len(set(names)) == len(names)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold", no_wrap=heading in ("confidence", "behaviour"))
    for answer, name, (image, *cells) in zip(answers, names, rows, strict=True):
        colour = COLOUR[BY_CODE[answer.prediction].behaviour]
        styles = ["", "", "", colour, "" if _answered(answer) else "bold yellow"]
        texts = map(Text, cells, styles[: len(cells)])
        table.add_row(Text(name.translate(CONTROL) if short else image), *texts)
    Console().print(table)


def show_messages(answers: Sequence[Assessment]) -> None:
    """Say what a lay person should know about each of a few pictures; of many, how many."""
    trusted = [answer for answer in answers if answer.trust]
    if len(trusted) > MESSAGES:
        away = sum(answer.trust["is_ood"] for answer in trusted)
        unsure = sum(answer.trust["abstain"] for answer in trusted) - away
        refer = sum(answer.trust["malignancy"]["refer"] for answer in trusted)
        typer.echo(
            f"{len(trusted)} pictures: {away} of nothing the model knows, {unsure} unsure, "
            f"{refer} to be seen by a dermatologist; --json or --csv has a message for each"
        )
        return
    for answer in trusted:
        typer.echo(f"{answer.image.translate(CONTROL)}: {answer.trust['message']}")


def _answered(answer: Assessment) -> bool:
    return not answer.trust or _advice(answer) == "answered"


def _advice(answer: Assessment) -> str:
    """Two or three words on what to do with an answer."""
    if answer.trust["is_ood"]:
        return "not known, no answer"
    if answer.trust["abstain"]:
        return "unsure, have it seen"
    return "have it seen" if answer.trust["malignancy"]["refer"] else "answered"


def _row(answer: Assessment) -> tuple[str, ...]:
    first = (answer.prediction, answer.confidence)
    others = sorted(
        (item for item in answer.probabilities.items() if item[0] != first[0]),
        key=lambda item: -item[1],
    )
    second = f"{BY_CODE[others[0][0]].name}, {_percent(others[0][1])}" if others else ""
    return (
        answer.image.translate(CONTROL),
        _full_name(first[0]),
        _percent(first[1]),
        second,
        BEHAVIOUR[BY_CODE[first[0]].behaviour],
        *((_advice(answer),) if answer.trust else ()),
    )


def _full_name(code: str) -> str:
    name = BY_CODE[code].name
    return name if name == code else f"{name} ({code})"


def _percent(probability: float) -> str:
    """One decimal; never a rounded "100%" or "0%" that claims certainty."""
    if probability > 0.9995:
        return ">99.9%"
    return "<0.1%" if probability < 0.0005 else f"{probability:.1%}"


def _check_outputs(
    paths: Sequence[Path],
    pictures: Sequence[Path],
    csv_file: Path | None,
    isic: bool,
    heatmaps: Path | None,
) -> None:
    """Refuse what would overwrite a picture or be taken for one, before any work is done."""
    given = set(map(_real, pictures))
    if csv_file is not None and (csv_file.suffix.lower() in PICTURES or _real(csv_file) in given):
        raise InputError(
            f"--csv {csv_file} would overwrite a picture; name a .csv file after --csv"
        )
    if csv_file is not None and csv_file.is_dir():
        raise InputError(f"--csv {csv_file} is a folder; name a .csv file")
    if isic and csv_file is None:
        raise InputError("--format isic needs --csv FILE")
    if heatmaps is not None:
        place = _real(heatmaps)
        maps = {_real(heatmaps / name) for name in unique_names(pictures)}  # one may be a link
        if place in {picture.parent for picture in given} or maps & given:
            raise InputError(f"--heatmaps {heatmaps} holds the pictures; name another folder")
        if around := [p for p in paths if _is_folder(p) and place.is_relative_to(_real(p))]:
            raise InputError(
                f"--heatmaps {heatmaps} is inside {around[0]}, where the next run would take the "
                "maps for pictures; name a folder outside it"
            )
    if isic:
        twice = [name for name, n in Counter(p.stem for p in pictures).items() if n > 1]
        if twice:
            raise InputError(
                f"{len(twice)} names are shared by several pictures, e.g. {twice[0]}; "
                "--format isic needs one picture per name"
            )


def _real(path: Path) -> Path:
    """Follow links; unlike `Path.resolve`, also one that leads to itself."""
    return Path(os.path.realpath(path))


def _is_folder(path: Path) -> bool:
    """Unlike `Path.is_dir`, False for a name that is too long or in a folder nobody may search."""
    return os.path.isdir(path)  # noqa: PTH112


def _require_writable(folder: Path) -> None:
    """Try, before the work, so that none is lost to a place one can't write to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"can't write to {folder}: {error.strerror}") from error


def _report(answers: Sequence[Answer]) -> None:
    """Say on stderr what was done to read the pictures, and which ones can't be read."""
    noted: dict[str, list[str]] = {}
    for answer in answers:
        if isinstance(answer, Assessment):
            for note in answer.notes:
                noted.setdefault(note, []).append(answer.image)
    for note, images in noted.items():
        others = f" and {len(images) - 1} more" if len(images) > 1 else ""
        typer.echo(f"note: {images[0].translate(CONTROL)}{others}: {note}", err=True)
    failures = [answer for answer in answers if isinstance(answer, Failure)]
    for failure in failures:
        typer.echo(f"unreadable: {failure.message.translate(CONTROL)}", err=True)
    if failures and len(answers) > 1:
        typer.echo(f"{len(failures)} of {len(answers)} pictures could not be read", err=True)


def _status(answers: Sequence[Answer]) -> int:
    return 1 if any(isinstance(answer, Failure) for answer in answers) else 0


def _track(items: Iterable[T], total: int, doing: str) -> Iterator[T]:
    """Show progress where there are pictures to wait for."""
    return track(items, doing, total) if total >= 20 else iter(items)
