"""What does a model say about many pictures? Files to one `Predictions`, without PyTorch.

While the network runs on one batch, threads read the next ones. A picture that can't be read is
reported and the others go on.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from dermx.config import PreprocessConfig
from dermx.errors import InputError, PictureError
from dermx.model.bundle import Bundle
from dermx.model.runtime import Session, usable_cores
from dermx.preprocess.pipeline import prepare
from dermx.preprocess.reading import Source, read_picture
from dermx.preprocess.shift import Change
from dermx.records import Case, Predictions, View

if TYPE_CHECKING:
    from jaxtyping import Float32, UInt8

Progress = Callable[[int], object]  # called with how many pictures were done since the last call
WHOLE_PICTURE_SIDE: Final = 450  # pixels of the shorter side; hairs are too thin to see below


class Failure(NamedTuple):
    """A picture that could not be read."""

    image: str
    message: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """One picture on its way into the network."""

    pixels: UInt8[np.ndarray, "s s 3"]
    view: View  # the part of the picture that `pixels` shows
    size: tuple[int, int]  # height and width of the upright original, pixels
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Passed:
    """One picture after the network."""

    prepared: Prepared
    evidence: Float32[np.ndarray, "v classes h w"]  # of each view, as that view lies
    views: Float32[np.ndarray, "v c"]  # features of each view
    features: Float32[np.ndarray, " c"]  # their mean


def predict_cases(
    model: Bundle | Session,
    cases: Sequence[Case],
    *,
    batch_size: int = 32,
    threads: int | None = None,
    progress: Progress | None = None,
    change: Change | None = None,
    views: int = 1,
) -> tuple[Predictions, list[Failure]]:
    """Run a model over a table of cases.

    Args:
        model: A bundle, or a session that is open already.
        cases: In any order; the result keeps it.
        batch_size: Pictures per step; it changes memory and speed, not the result.
        threads: Readers of pictures, and, for a bundle, threads of the network; None takes
            every core this process may use.
        progress: Called with the number of pictures done since the last call.
        change: Applied to every upright picture before it is prepared, e.g. one of
            `dermx.preprocess.shift`; called from several threads.
        views: 1, or 8 for the mean over turns and mirror images of each picture; the result then
            also has the logits of each view. Mean features give mean logits: the layer is linear.

    Returns:
        The predictions for the pictures that could be read, and the others with the reason.

    Raises:
        InputError: A case's diagnosis is not one of the model's classes, or `views` is neither.
    """
    session = model if isinstance(model, Session) else Session(model, threads)
    codes = session.bundle.codes
    labels = [_label(case, codes) for case in cases]
    kept: list[int] = []
    rows: list[np.ndarray] = []
    of_views: list[np.ndarray] = []
    failures: list[Failure] = []
    answers = forward(
        session,
        [case.path for case in cases],
        batch_size=batch_size,
        threads=threads,
        change=change,
        views=views,
    )
    for i, answer in enumerate(answers):
        if isinstance(answer, PictureError):
            failures.append(Failure(cases[i].image, str(answer)))
        else:
            kept.append(i)
            rows.append(answer.features)
            of_views.append(session.logits(answer.views))
        if progress is not None:
            progress(1)
    features = np.array(rows, np.float32).reshape(len(rows), session.bundle.weight.shape[1])
    predictions = Predictions(
        images=[cases[i].image for i in kept],
        groups=[cases[i].group for i in kept],
        labels=np.array([labels[i] for i in kept], np.int64),
        logits=session.logits(features),
        features=features,
        codes=codes,
        views=np.array(of_views, np.float32) if views > 1 and of_views else None,
    )
    return predictions, failures


def forward(
    session: Session,
    sources: Sequence[Source],
    *,
    batch_size: int = 32,
    threads: int | None = None,
    change: Change | None = None,
    views: int = 1,
) -> Iterator[Passed | PictureError]:
    """Read pictures and run the network, one answer per source, in order.

    At most three batches of prepared pictures are in memory, however many sources there are.
    `change` is applied to every upright picture before it is prepared; with 8 `views`, the
    answers are means over the picture's turns and mirror images.

    Raises:
        InputError: `batch_size` or `threads` is below 1, or `views` is neither 1 nor 8.
    """
    readers = usable_cores() if threads is None else threads
    if batch_size < 1 or readers < 1:
        raise InputError(
            f"batch_size and threads must be at least 1, got {batch_size} and {readers}"
        )
    spec = session.bundle.preprocess
    read = partial(_read, spec=spec) if change is None else partial(_read_changed, change, spec)
    with _pool(readers) as pool:
        for batch in _batches(pool, read, sources, batch_size):
            pixels = [item.pixels for item in batch if isinstance(item, Prepared)]
            outputs = iter(zip(*run_views(session, pixels, views), strict=True) if pixels else ())
            for item in batch:
                if isinstance(item, Prepared):
                    yield passed(item, *next(outputs))
                else:
                    yield item


def run_views(
    session: Session, pixels: Sequence[UInt8[np.ndarray, "s s 3"]], views: int = 1
) -> tuple[Float32[np.ndarray, "n v classes h w"], Float32[np.ndarray, "n v c"]]:
    """Run the network on 1 or 8 views of each picture, to each view's evidence and features.

    Raises:
        InputError: `views` is neither 1 nor 8.
    """
    cells, features = session.run_evidence(np.stack(pixels), views)
    shape = (len(pixels), views)
    return cells.reshape(*shape, *cells.shape[1:]), features.reshape(*shape, features.shape[1])


def passed(
    prepared: Prepared,
    evidence: Float32[np.ndarray, "v classes h w"],
    features: Float32[np.ndarray, "v c"],
) -> Passed:
    """Join the views of one picture."""
    mean = features[0] if len(features) == 1 else features.mean(axis=0)
    return Passed(prepared=prepared, evidence=evidence, views=features, features=mean)


def read_prepared(source: Source, spec: PreprocessConfig) -> Prepared:
    """Read one picture and make it a model's input.

    Raises:
        PictureError: It can't be read.
    """
    picture = read_picture(source, min_side=reading_side(spec))
    pixels, view = prepare(picture.pixels, spec)
    return Prepared(pixels=pixels, view=view, size=picture.size, notes=picture.notes)


def read_changed(source: Source, spec: PreprocessConfig, change: Change) -> Prepared:
    """Read one picture, change it and make it a model's input; the size is that of the changed one.

    It is read with at least `WHOLE_PICTURE_SIDE` pixels, so that a change sees what people see.

    Raises:
        PictureError: It can't be read.
    """
    picture = read_picture(source, min_side=max(WHOLE_PICTURE_SIDE, reading_side(spec)))
    changed = change(picture.pixels)
    pixels, view = prepare(changed, spec)
    height, width = changed.shape[:2]
    return Prepared(pixels=pixels, view=view, size=(height, width), notes=picture.notes)


def reading_side(spec: PreprocessConfig) -> int:
    """Pixels of the shorter side below which reading must not shrink a picture."""
    side = math.ceil(spec.image_size / spec.crop_fraction)
    return max(side, WHOLE_PICTURE_SIDE) if spec.hair_removal or spec.lesion_crop else side


def _read(source: Source, spec: PreprocessConfig) -> Prepared | PictureError:
    try:
        return read_prepared(source, spec)
    except PictureError as error:
        return error


def _read_changed(
    change: Change, spec: PreprocessConfig, source: Source
) -> Prepared | PictureError:
    try:
        return read_changed(source, spec, change)
    except PictureError as error:
        return error


def _batches(
    pool: ThreadPoolExecutor,
    read: Callable[[Source], Prepared | PictureError],
    sources: Sequence[Source],
    batch_size: int,
) -> Iterator[list[Prepared | PictureError]]:
    """Read two batches ahead of the one that is handed out."""
    remaining = iter(sources)
    ahead: deque[Future[Prepared | PictureError]] = deque()
    while True:
        wanted = 3 * batch_size - len(ahead)
        ahead.extend(pool.submit(read, source) for source in islice(remaining, wanted))
        if not ahead:
            return
        yield [ahead.popleft().result() for _ in range(min(batch_size, len(ahead)))]


class _pool(ThreadPoolExecutor):  # noqa: N801 - used like a function
    """Threads that drop what waits when the work is left early, e.g. by Ctrl-C."""

    def __exit__(self, *_: object) -> None:
        self.shutdown(wait=True, cancel_futures=True)


def _label(case: Case, codes: tuple[str, ...]) -> int:
    if case.diagnosis is None:
        return -1
    if case.diagnosis not in codes:
        raise InputError(
            f"{case.image} has the diagnosis {case.diagnosis!r}, "
            f"which the model doesn't know; leave such cases out (it knows {', '.join(codes)})"
        )
    return codes.index(case.diagnosis)
