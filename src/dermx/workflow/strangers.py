"""Which arrays does the gate need? Pictures of a run and outlier pictures, through its network."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from dermx.data.drawn import draw_outliers
from dermx.data.outliers import check_apart, parts_of, read_outliers
from dermx.errors import DataError, PictureError
from dermx.model.bundle import load_bundle
from dermx.model.runtime import Session
from dermx.predict import Progress, forward
from dermx.preprocess.reading import Source
from dermx.records import Case, Predictions
from dermx.runs import read_parts
from dermx.workflow.evaluation import Say, counted, origin, read_or_make

if TYPE_CHECKING:
    from dermx.train.loop import Track

PER_CLASS: Final = 250  # training pictures of a class; more change the gate by less than chance
DRAWN: Final = {"fit": 80, "report": 120}


@dataclass(frozen=True, kw_only=True, eq=False)
class Views:
    """Many pictures, one row per view; the rows of a picture lie together and share its id."""

    predictions: Predictions
    kinds: tuple[str, ...]  # of each row: "known", "clinical", "everyday" or "drawn"


def known_views(
    run: Path, *, views: int, track: "Track | None" = None, say: Say = print
) -> Predictions:
    """Views of up to 250 training pictures per class: what the gate calls known."""
    chosen = _sample(read_parts(run)["train"])
    if not chosen:
        raise DataError(f"{run} has no training part to fit a gate on")
    path = run / "ood" / f"known_{views}.npz"
    return _views(run, chosen, [c.path for c in chosen], path, views, track, say)


def stranger_views(
    run: Path,
    part: str,
    *,
    outliers: Path,
    dermnet: Path | None,
    views: int,
    track: "Track | None" = None,
    say: Say = print,
) -> Views:
    """Views of the outlier pictures of one part, "fit" or "report", and of drawings.

    The group of a row is the disease, the everyday photograph or the kind of drawing: what is
    never in both parts, nor on both sides of a fold.
    """
    found = read_outliers(outliers, dermnet)
    parts = parts_of(found)
    check_apart(found, parts)
    chosen = [outlier for outlier in found if parts[outlier.case.image] == part]
    drawings = draw_outliers(part, DRAWN[part])
    cases = [_case(one.case.image, one.case.path, one.disease) for one in chosen]
    cases += [_case(f"drawn/{kind}/{i}", Path(), kind) for i, (kind, _) in enumerate(drawings)]
    sources: list[Source] = [one.case.path for one in chosen]
    sources += [picture for _, picture in drawings]
    path = run / "ood" / f"{part}_{views}.npz"
    predictions = _views(run, cases, sources, path, views, track, say)
    kind_of = {one.case.image: one.kind for one in chosen}
    kinds = tuple(kind_of.get(image, "drawn") for image in predictions.images)
    return Views(predictions=predictions, kinds=kinds)


def _views(
    run: Path,
    cases: Sequence[Case],
    sources: Sequence[Source],
    path: Path,
    views: int,
    track: "Track | None",
    say: Say,
) -> Predictions:
    """Predict, or read the file if the same network made it of the same pictures."""
    bundle = load_bundle(run / "bundle")

    def make() -> Predictions:
        progress = counted(track, f"views of {len(cases)} pictures", len(cases))
        return _predict(Session(bundle), cases, sources, views, progress, say)

    return read_or_make(path, origin(bundle, cases, views), make, say)


def _predict(
    session: Session,
    cases: Sequence[Case],
    sources: Sequence[Source],
    views: int,
    progress: Progress,
    say: Say,
) -> Predictions:
    kept: list[Case] = []
    rows: list[np.ndarray] = []
    answers = forward(session, sources, views=views, batch_size=16)
    for case, answer in zip(cases, answers, strict=True):
        if isinstance(answer, PictureError):
            say(f"{case.image}: {answer}")
        else:
            kept.append(case)
            rows.append(answer.views)
        progress(1)
    features = np.concatenate(rows).astype(np.float32)
    codes = session.bundle.codes
    labels = [-1 if c.diagnosis is None else codes.index(c.diagnosis) for c in kept]
    return Predictions(
        images=[case.image for case in kept for _ in range(views)],
        groups=[case.group for case in kept for _ in range(views)],
        labels=np.repeat(np.array(labels, np.int64), views),
        logits=session.logits(features),
        features=features,
        codes=codes,
    )


def _sample(cases: Sequence[Case]) -> list[Case]:
    """Up to `PER_CLASS` cases of each class, drawn by the hash of their ids, in natural order."""
    seen: dict[str | None, int] = {}
    kept = set()
    for case in sorted(cases, key=lambda case: hashlib.sha256(case.image.encode()).digest()):
        seen[case.diagnosis] = seen.get(case.diagnosis, 0) + 1
        if seen[case.diagnosis] <= PER_CLASS:
            kept.add(case.image)
    return [case for case in cases if case.image in kept]


def _case(image: str, path: Path, group: str) -> Case:
    return Case(image=image, path=path, diagnosis=None, lesion=group, group=group, source="outlier")
