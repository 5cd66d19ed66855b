"""Are the maps true, and what does the model lean on? One page and one JSON for a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from dermx.data.dermnet import load_acne_places, patient, read_dermnet_others
from dermx.data.files import pictures_in
from dermx.data.ham10000 import lesion_mask
from dermx.diagnoses import DERMOSCOPIC
from dermx.errors import DataError, InputError, MissingExtraError, PictureError
from dermx.evaluate.subgroups import by_subgroup
from dermx.explain.audit import Audit, Curves, Sanity
from dermx.explain.faithfulness import Faithful, centred_gaussian, faithfulness, random_map
from dermx.explain.gradcam import odds_maps
from dermx.explain.localisation import Localised, localise
from dermx.explain.painting import (
    ADDED,
    PAINTED,
    ColourStatistics,
    colour_matched,
    colour_statistics,
    unmarked,
)
from dermx.explain.sanity import STAGES, forgotten, likeness
from dermx.explain.shortcuts import AS_TAKEN, Called, Shortcut, answers, called, compare
from dermx.model.bundle import Bundle, load_bundle
from dermx.model.runtime import Session
from dermx.predict import (
    WHOLE_PICTURE_SIDE,
    Prepared,
    passed,
    read_prepared,
    reading_side,
    run_views,
)
from dermx.preprocess.pipeline import prepare, resize
from dermx.preprocess.reading import read_picture
from dermx.preprocess.views import VIEWS
from dermx.records import Case, Predictions, View, softmax
from dermx.report_audit import write_audit
from dermx.runs import read_facts, read_parts
from dermx.workflow.evaluation import Part, Say, counted

if TYPE_CHECKING:
    from jaxtyping import Bool, Float32, UInt8

    from dermx.train.loop import Track

Pixels: TypeAlias = "UInt8[np.ndarray, 'h w 3']"
Mask: TypeAlias = "Bool[np.ndarray, 'h w']"

SAMPLE: Final = 40  # lesions of each class, for the curves; a pass of the network each 60 times
SANITY_LESIONS, SANITY_DRAWS = 5, 6  # lesions of each class, and draws of all weights
COLOUR_PICTURES: Final = 200  # that colours are matched to
MATCHED: Final = "colours of the acne photographs"
EXAMPLES: Final = 4  # pictures shown under every change


def audit_run(
    run: Path,
    *,
    on: Part = "test",
    sample: int = SAMPLE,
    outside: Sequence[Path] = (),
    seed: int = 0,
    track: "Track | None" = None,
    say: Say = print,
) -> Path:
    """Check a model's explanations, and what it leans on, on one part of its own pictures.

    Args:
        run: Folder written by `train_run`.
        on: Part of the run's own pictures.
        sample: Lesions per class for deletion, insertion and ROAD; the rest uses all pictures.
        outside: Folders of photographs of other things; each of their subfolders is one kind.
        seed: Of the sample, the random maps and the weights drawn afresh.
        track: Shows progress.
        say: Shows pictures that could not be read.

    Returns:
        The page, `audit.html`; beside it `audit.json`; in `run/audit/<part>/`.

    Raises:
        InputError: The sample is below 1.
        DataError: The run has no such pictures, or an outside folder holds none.
        MissingExtraError: `dermx[train]` is not installed.
    """
    if sample < 1:
        raise InputError(f"--sample must be at least 1 lesion per class, got {sample}")
    _require_packages()
    kinds = outside_kinds(outside)
    parts = read_parts(run)
    cases = [case for case in parts[on] if case.diagnosis is not None]
    if not cases:
        raise DataError(f"{run} has no {on} pictures with a diagnosis")
    bundle = load_bundle(run / "bundle")
    work = Work(Session(bundle), seed, track, say)
    dermoscopic = [case for case in cases if case.diagnosis in DERMOSCOPIC]
    photographs = [case for case in cases if case.diagnosis == "acne"]
    acne_folders = {
        case.path.parent for part in parts.values() for case in part if case.diagnosis == "acne"
    }
    chosen = one_per_lesion(cases, sample, seed)
    outlined = [case for case in dermoscopic if lesion_mask(case.path) is not None]
    located = work.localisation(outlined) if outlined else {}
    shortcuts, as_taken, acne = work.shortcuts(dermoscopic, photographs)
    acne += work.others(sorted(acne_folders) if photographs else [], kinds)
    audit = Audit(
        title=f"Audit of {run.name}, {on} part",
        facts=read_facts(run),
        seed=seed,
        curves=work.curves(chosen),
        located=located,
        sanity=work.sanity(one_per_lesion(cases, SANITY_LESIONS, seed)),
        shortcuts=shortcuts,
        acne=acne,
        subgroups=by_subgroup(as_taken, dermoscopic) if as_taken is not None else [],
        examples=work.examples(spread(outlined, EXAMPLES)),
    )
    return write_audit(run / "audit" / on, audit)


def one_per_lesion(cases: Sequence[Case], per_class: int, seed: int) -> list[Case]:
    """Draw lesions of every class alike, as far as there are, and of each its first picture."""
    rng = np.random.default_rng(seed)
    first: dict[str, Case] = {}
    for case in cases:
        first.setdefault(case.group, case)
    chosen: list[Case] = []
    for code in sorted({str(case.diagnosis) for case in cases}):
        of_class = [case for case in first.values() if case.diagnosis == code]
        picked = rng.permutation(len(of_class))[:per_class]
        chosen += [of_class[i] for i in sorted(picked)]
    return chosen


def spread(cases: Sequence[Case], wanted: int) -> list[Case]:
    """Pick so many cases at even steps from the first to the last; all where there are fewer.

    >>> [int(i) for i in spread(range(9), 3)]
    [0, 4, 8]
    """
    steps = np.linspace(0, max(len(cases) - 1, 0), min(wanted, len(cases)))
    return [cases[i] for i in np.rint(steps).astype(int)]


@dataclass(frozen=True)
class Work:
    """What every measurement needs: an open network, a seed, and where to tell of progress."""

    session: Session
    seed: int
    track: "Track | None"
    say: Say

    @property
    def bundle(self) -> Bundle:
        """The model."""
        return self.session.bundle

    def probabilities(self, pixels: UInt8[np.ndarray, "n s s 3"]) -> np.ndarray:
        """Answer model inputs from one view each."""
        return softmax(self.session.logits(self.session.features(pixels)))

    def read(self, cases: Sequence[Case], what: str) -> Iterator[tuple[Case, Prepared]]:
        """Read one picture after the other; what can't be read is told and left out."""
        progress = counted(self.track, what, len(cases))
        for case in cases:
            try:
                yield case, read_prepared(case.path, self.bundle.preprocess)
            except PictureError as error:
                self.say(f"{case.image}: {error}")
            progress(1)

    def shown_map(self, prepared: Prepared) -> tuple[Float32[np.ndarray, "h w"], int]:
        """Return the map that people are shown, of all eight views, and the answer it explains."""
        cells, features = run_views(self.session, [prepared.pixels], VIEWS)
        one = passed(prepared, cells[0], features[0])
        logits = self.session.logits(one.features[None])[0]
        target = int(logits.argmax())
        return odds_maps(one.evidence, logits)[target], target

    def curves(self, cases: Sequence[Case]) -> Curves:
        """Deletion, insertion and ROAD of our map and of two that know nothing."""
        rng = np.random.default_rng([self.seed, 1])
        found: dict[str, list[Faithful]] = {}
        groups = []
        for case, prepared in self.read(cases, "deleting and inserting"):
            ours, target = self.shown_map(prepared)
            rivals = _rivals(ours.shape, rng)
            one = faithfulness(
                prepared.pixels,
                {"Grad-CAM": ours, **rivals},
                target,
                self.probabilities,
                rng=rng,
            )
            for name, value in one.items():
                found.setdefault(name, []).append(value)
            groups.append(case.group)
        return Curves(maps=found, groups=groups)

    def localisation(self, cases: Sequence[Case]) -> dict[str, list[tuple[str, str, Localised]]]:
        """By map's name: each picture's diagnosis, lesion, and how the map lies to the outline."""
        rng = np.random.default_rng([self.seed, 2])
        found: dict[str, list[tuple[str, str, Localised]]] = {}
        for case, prepared in self.read(cases, "comparing maps with outlines"):
            try:
                mask = read_mask(case, prepared.size)
            except PictureError as error:
                self.say(f"{case.image}: its outline: {error}")
                continue
            ours, _ = self.shown_map(prepared)
            for name, cells in {"Grad-CAM": ours, **_rivals(ours.shape, rng)}.items():
                row = (str(case.diagnosis), case.group, localise(cells, prepared.view, mask))
                found.setdefault(name, []).append(row)
        return found

    def sanity(self, cases: Sequence[Case]) -> Sanity:
        """Rank correlation of maps before and after weights are drawn afresh, stage by stage."""
        ready = [(case.group, item.pixels) for case, item in self.read(cases, "sanity check")]
        if not ready:
            raise DataError(f"none of {len(cases)} pictures can be read")
        pixels = np.stack([pixels for _, pixels in ready])
        cells, features = self.session.run_evidence(pixels)
        logits = self.session.logits(features)
        targets = logits.argmax(axis=1)
        before = [
            odds_maps(one[None], said)[k]
            for one, said, k in zip(cells, logits, targets, strict=True)
        ]
        of_others = [
            likeness(one, other) if len(before) > 1 else float("nan")
            for one, other in zip(before, np.roll(before, 1, 0), strict=True)
        ]
        stages = []
        for share in STAGES:
            drawn = []
            for draw in range(SANITY_DRAWS):
                with forgotten(self.bundle, share, self.seed + draw) as blank:
                    unlearnt = Session(blank)
                    mixed, features = unlearnt.run_evidence(pixels)
                    logits = unlearnt.logits(features)
                    drawn.append(
                        [
                            likeness(old, odds_maps(one[None], said)[k])
                            for old, one, said, k in zip(
                                before, mixed, logits, targets, strict=True
                            )
                        ]
                    )
            stages.append((share, np.mean(drawn, axis=0)))
        return Sanity(
            groups=[group for group, _ in ready],
            draws=SANITY_DRAWS,
            stages=stages,
            absolute=np.mean(np.abs(drawn), axis=0),
            other_picture=np.array(of_others),
        )

    def shortcuts(
        self, dermoscopic: Sequence[Case], photographs: Sequence[Case]
    ) -> tuple[list[Shortcut], Predictions | None, list[Called]]:
        """Answer every dermoscopic case and acne photograph under every change."""
        acne_look, lesion_look = self.look(photographs), self.look(dermoscopic)
        shortcuts: list[Shortcut] = []
        calls: list[Called] = []
        as_taken: Predictions | None = None
        if dermoscopic:
            names = [AS_TAKEN, *PAINTED, *ADDED, *([MATCHED] if acne_look is not None else [])]
            changed = self.changed(dermoscopic, names, acne_look)
            as_taken = changed[AS_TAKEN]
            outlined = {case.image for case in dermoscopic if lesion_mask(case.path) is not None}
            has = np.array([image in outlined for image in as_taken.images], bool)
            for name, one in changed.items():
                kept = has if name in PAINTED else np.ones(len(has), bool)
                if kept.any():
                    shortcuts.append(compare(name, as_taken.select(kept), one.select(kept)))
            calls += [self.share_acne(f"dermoscopy, {name}", one) for name, one in changed.items()
                      if name not in PAINTED]  # fmt: skip
        if photographs:
            names = [AS_TAKEN, "watermark covered", "colour taken away"]
            names += ["colours of the dermoscopic pictures"] if lesion_look is not None else []
            changed = self.changed(photographs, names, lesion_look)
            calls += [self.share_acne(f"acne, {name}", one) for name, one in changed.items()]
            places = load_acne_places()
            where = np.array([places.get(image, "") for image in changed[AS_TAKEN].images])
            for place in ("face", "body", "unclear"):
                if (where == place).any():
                    of_place = changed[AS_TAKEN].select(where == place)
                    name = "close-up" if place == "unclear" else place
                    calls.append(self.share_acne(f"acne, {name}", of_place))
        return shortcuts, as_taken, calls

    def look(self, cases: Sequence[Case]) -> ColourStatistics | None:
        """Mean colours of some pictures, as the model sees them."""
        some = self.read(spread(cases, COLOUR_PICTURES), "reading colours")
        found = [colour_statistics(item.pixels) for _, item in some]
        return np.mean(found, axis=0) if found else None

    def changed(
        self, cases: Sequence[Case], names: Sequence[str], look: ColourStatistics | None
    ) -> dict[str, Predictions]:
        """Answers for the same cases under every named change."""
        kept: list[Case] = []

        def variants() -> Iterator[tuple[Pixels, ...]]:
            progress = counted(self.track, "answering changed pictures", len(cases))
            for case in cases:
                try:
                    made = self.variants(case, names, look)
                except PictureError as error:
                    self.say(f"{case.image}: {error}")
                else:
                    kept.append(case)
                    yield made
                progress(1)

        features = answers(self.session, variants())
        codes = self.bundle.codes
        return {
            name: Predictions(
                images=[case.image for case in kept],
                groups=[case.group for case in kept],
                labels=np.array([codes.index(str(case.diagnosis)) for case in kept]),
                logits=self.session.logits(of_name),
                features=of_name,
                codes=codes,
            )
            for name, of_name in zip(names, features, strict=True)
        }

    def variants(
        self, case: Case, names: Sequence[str], look: ColourStatistics | None
    ) -> tuple[Pixels, ...]:
        """One case's model inputs under every named change; without an outline, no lesion."""
        spec = self.bundle.preprocess
        side = max(WHOLE_PICTURE_SIDE, reading_side(spec))
        picture = read_picture(case.path, min_side=side).pixels
        pixels, view = prepare(picture, spec)
        mask = in_view(read_mask(case, picture.shape[:2]), view, spec.image_size)
        made = []
        for name in names:
            if name == AS_TAKEN:
                made.append(pixels)
            elif name in PAINTED:
                made.append(PAINTED[name](pixels, mask))
            elif name in ADDED:
                made.append(prepare(ADDED[name](picture), spec)[0])
            elif name == "watermark covered":
                made.append(prepare(unmarked(picture), spec)[0])
            elif look is not None:
                made.append(colour_matched(pixels, look))
        return tuple(made)

    def others(self, dermnet: Sequence[Path], kinds: dict[str, list[Path]]) -> list[Called]:
        """Share called acne of what is not acne: DermNet's other photographs, and folders."""
        cases: dict[str, list[Case]] = {}
        for folder in dermnet:
            for path, disease in read_dermnet_others(folder):
                case = _unlabelled(path, patient(path.stem))
                cases.setdefault(f"DermNet, {disease}", []).append(case)
        for kind, paths in kinds.items():
            cases[kind] = [_unlabelled(path, str(path)) for path in paths]
        rows = []
        for kind, of_kind in cases.items():
            hits, patients = [], []
            for case, item in self.read(of_kind, f"answering {kind}"):  # any number: none is kept
                hits.append(self.probabilities(item.pixels[None])[0].argmax() == self.acne)
                patients.append(case.group)
            if hits:
                rows.append(called(kind, np.array(hits), patients))
        return rows

    @property
    def acne(self) -> int:
        """Index of the class; -1 where the model has no such class."""
        return self.bundle.codes.index("acne") if "acne" in self.bundle.codes else -1

    def share_acne(self, kind: str, predictions: Predictions) -> Called:
        """Share of some pictures that is called acne."""
        hits = predictions.logits.argmax(axis=1) == self.acne
        return called(kind, hits, predictions.groups)

    def examples(self, cases: Sequence[Case]) -> dict[str, list[Pixels]]:
        """A few pictures under every change, as the model gets them."""
        names = [AS_TAKEN, *PAINTED, *ADDED]
        rows = []
        for case in cases:
            try:
                rows.append(self.variants(case, names, None))
            except PictureError as error:
                self.say(f"{case.image}: {error}")
        return {name: [row[i] for row in rows] for i, name in enumerate(names)} if rows else {}


def read_mask(case: Case, size: tuple[int, ...]) -> Mask:
    """The lesion's outline at a picture's size; nothing where there is none."""
    path = lesion_mask(case.path)
    if path is None:
        return np.zeros(size[:2], bool)
    pixels = read_picture(path, min_side=min(size[:2])).pixels
    return np.asarray(resize(pixels, (size[0], size[1]))[..., 0] > 127)


def in_view(mask: Mask, view: View, side: int) -> Mask:
    """Cut what the model saw out of an outline, at the model's size."""
    height, width = mask.shape
    top, bottom = round(view.top * height), round((view.top + view.height) * height)
    left, right = round(view.left * width), round((view.left + view.width) * width)
    part = np.repeat(mask[top:bottom, left:right, None].astype(np.uint8) * 255, 3, axis=2)
    return np.asarray(resize(part, (side, side))[..., 0] > 127)


def _unlabelled(path: Path, group: str) -> Case:
    return Case(
        image=path.stem, path=path, diagnosis=None, lesion=group, group=group, source="folder"
    )


def _rivals(side: tuple[int, int], rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {"centred Gaussian": centred_gaussian(side), "random": random_map(side, rng)}


def outside_kinds(folders: Sequence[Path]) -> dict[str, list[Path]]:
    """Pictures by kind: each of a folder's subfolders is one, and what lies beside them another.

    Named with a stroke, as no kind of this audit is, so that a folder `acne` isn't taken for one.
    """
    kinds: dict[str, list[Path]] = {}
    for folder in folders:
        if not folder.is_dir():
            raise DataError(f"--outside {folder} is not a folder")
        for path in pictures_in(folder):
            inner = path.relative_to(folder).parts[:-1]
            name = folder.name or folder.resolve().name  # "." has none of its own
            kind = "/".join((name, *inner[:1])).replace("_", " ")
            kinds.setdefault(kind, []).append(path)
    if folders and not kinds:
        raise DataError(f"no picture in {', '.join(map(str, folders))}")
    return kinds


def _require_packages() -> None:
    from importlib.util import find_spec

    if any(find_spec(name) is None for name in ("matplotlib", "onnx", "scipy")):
        raise MissingExtraError("the audit", "train")
