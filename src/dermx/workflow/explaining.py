"""Where did the model look? Heat maps of given pictures, or contact sheets of a run's own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from dermx.assess import Model
from dermx.config import load_config
from dermx.data.files import list_pictures, unique_names
from dermx.diagnoses import BY_CODE
from dermx.errors import BundleError, DataError, InputError, PictureError, needs
from dermx.explain.gradcam import class_maps, contrast_map, layer_maps
from dermx.explain.overlay import LONGEST, Tile, contact_sheet, panel, percent, save_png
from dermx.model.bundle import INDEX, load_bundle
from dermx.predict import Prepared, read_prepared
from dermx.preprocess.reading import read_picture
from dermx.records import Case, Predictions
from dermx.runs import read_parts
from dermx.trust.verdict import judge
from dermx.workflow.evaluation import Part, Say, answers_file, counted, predicted

if TYPE_CHECKING:
    from jaxtyping import Float, Float32, Int, UInt8

    from dermx.train.loop import Track

Cells: TypeAlias = "Float32[np.ndarray, 'h w']"
SHOWN: Final = 5  # pictures in a row of a contact sheet


def explain_pictures(
    model: Path,
    paths: Sequence[Path],
    out: Path,
    *,
    code: str | None = None,
    against: str | None = None,
    method: str = "gradcam",
    layer: str | None = None,
    say: Say = print,
) -> list[Path]:
    """Write a heat map per picture.

    Args:
        model: A model's folder, or a run's.
        paths: Pictures, or folders of them.
        out: Folder of the PNG files.
        code: The class that is explained; each picture's answer when None.
        against: Explain why `code` rather than this class.
        method: "gradcam", "hirescam" or "layercam".
        layer: Of the network, by its PyTorch name; the last feature map when None. Needs a run
            and `dermx[train]`.
        say: Shows pictures that are left out, and why.

    Returns:
        The files written.

    Raises:
        InputError: An unknown class or layer, or `out` is where the pictures are.
        DataError: A folder holds no picture, or the run has no weights.
        BundleError: The model's folder is not one.
    """
    opened = Model(load_bundle(bundle_folder(model)))
    codes = opened.bundle.codes
    for named in (code, against):
        if named is not None and named not in codes:
            raise InputError(f"no class {named!r}; the classes are {', '.join(codes)}")
    if code is not None and code == against:
        raise InputError(f"--class and --against both name {code}; name two classes")
    pictures = list_pictures(paths)
    place = out.resolve()
    if place in {path.resolve().parent for path in pictures}:
        raise InputError(f"--out {out} holds the pictures; name another folder")
    if around := [path for path in paths if path.is_dir() and place.is_relative_to(path.resolve())]:
        raise InputError(
            f"--out {out} is inside {around[0]}, where the next run would take the maps for "
            "pictures; name a folder outside it"
        )
    network = _network(model) if layer is not None else None
    written = []
    for path, name in zip(pictures, unique_names(pictures), strict=True):
        try:
            pixels = read_picture(path, min_side=LONGEST).pixels
            answer = opened.assess(path)
            prepared = read_prepared(path, opened.bundle.preprocess)
        except PictureError as error:
            say(f"unreadable: {error}")
            continue
        wanted = answer.prediction if code is None else code
        if wanted == against:
            say(f"{path}: the answer is {wanted} itself; name another class with --class")
            continue
        pair = (codes.index(wanted), None if against is None else codes.index(against))
        if network is None:
            cells = _closed_form(opened, prepared, *pair, method)
        else:
            cells = _autograd(opened, network, prepared, *pair, method, layer)
        drawn = panel(pixels, answer, wanted, cells=cells, against=against)
        save_png(out / name, drawn)
        written.append(out / name)
    return written


def contact_sheets(
    run: Path,
    *,
    on: Part = "test",
    out: Path | None = None,
    track: "Track | None" = None,
    say: Say = print,
) -> list[Path]:
    """Write a sheet per class: most and least confident, right and wrong.

    Args:
        run: Folder written by `train_run`.
        on: Part of the run's own pictures.
        out: Folder of the PNG files; `run/explanations/<part>` when None.
        track: Shows progress.
        say: Shows pictures that could not be read.

    Raises:
        DataError: The run has no such pictures.
    """
    table = read_parts(run)[on]
    cases = {case.image: case for case in table if case.diagnosis is not None}
    if not cases:
        raise DataError(f"{run} has no {on} pictures with a diagnosis")
    opened = Model(load_bundle(bundle_folder(run)))
    path = run / "evaluation" / on / answers_file(opened.views)
    predictions = predicted(opened.bundle, table, path, track, say, opened.views)
    predictions = predictions.select(np.array(predictions.labels) >= 0)
    answers, confidence = answered(opened, predictions)
    folder = run / "explanations" / on if out is None else out
    written = []
    present = [i for i in range(len(opened.bundle.codes)) if (predictions.labels == i).any()]
    progress = counted(track, "drawing contact sheets", len(present))
    for label in present:
        code = opened.bundle.codes[label]
        rows = [
            (heading, [_tile(opened, cases[predictions.images[i]]) for i in chosen])
            for heading, chosen in extremes(predictions, answers, confidence, label).items()
        ]
        count = int((predictions.labels == label).sum())
        sheet = contact_sheet(f"{BY_CODE[code].name}: {count} {on} pictures", rows)
        save_png(folder / f"{code}.png", sheet)
        written.append(folder / f"{code}.png")
        progress(1)
    return written


def answered(
    model: Model, known: Predictions
) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Answers and confidences as `Model.assess` gives them, from features over as many views."""
    if model.trust is None:
        return known.logits.argmax(axis=1), known.probs.max(axis=1)
    judged = judge(model.trust, known.features, model.bundle.weight, model.bundle.bias)
    return judged.answers, judged.confidence


def extremes(
    predictions: Predictions,
    answers: Int[np.ndarray, " n"],
    confidence: Float[np.ndarray, " n"],
    label: int,
    shown: int = SHOWN,
) -> dict[str, list[int]]:
    """Indices of one class's most and least confident cases, right and wrong, one per lesion."""
    found: dict[str, list[int]] = {}
    for right in (True, False):
        of_class = (predictions.labels == label) & ((answers == label) == right)
        by_confidence = sorted(np.flatnonzero(of_class), key=lambda i: -confidence[i])
        for most in (True, False):
            seen: dict[str, int] = {}
            for i in by_confidence if most else reversed(by_confidence):
                seen.setdefault(predictions.groups[int(i)], int(i))
            name = f"{'right' if right else 'wrong'}, {'most' if most else 'least'} confident"
            found[name.capitalize()] = list(seen.values())[:shown]
    return found


def bundle_folder(model: Path) -> Path:
    """The model in a run's folder, or the folder itself.

    Raises:
        BundleError: Neither holds a model.
    """
    inner = model / "bundle"
    if not (model / INDEX).is_file() and (inner / INDEX).is_file():
        return inner
    if not (model / INDEX).is_file():
        raise BundleError(f"{model} is neither a model's folder nor a run with one in bundle/")
    return model


def _tile(opened: Model, case: Case) -> Tile:
    answer = opened.assess(case.path)
    pixels: UInt8[np.ndarray, "h w 3"] = read_picture(case.path, min_side=300).pixels
    cells = answer.maps[opened.bundle.codes.index(answer.prediction)]
    caption = f"{answer.prediction} {percent(answer.confidence)}, {case.image}"
    return Tile(pixels, cells, answer.view, caption)


def _closed_form(
    opened: Model, prepared: Prepared, wanted: int, against: int | None, method: str
) -> Cells:
    """HiResCAM of the last map is Grad-CAM's, as its derivative is the same in all cells."""
    maps, _ = opened.session.run(prepared.pixels[None])
    weight = opened.bundle.map_weight
    if method not in ("gradcam", "hirescam", "layercam"):
        raise InputError(f"no method {method!r}; known are gradcam, hirescam, layercam")
    if method == "layercam":
        row = weight[wanted] if against is None else weight[wanted] - weight[against]
        return np.asarray(layer_maps(maps[0], row[None])[0])
    if against is not None:
        return contrast_map(maps[0], weight, wanted, against)
    return np.asarray(class_maps(maps[0], weight)[wanted])


def _network(run: Path) -> Any:
    """The trained PyTorch network of a run."""
    weights = run / "best.safetensors"
    if not weights.is_file() or not (run / "config.json").is_file():
        raise DataError(f"--layer needs a run with its weights; {run} has no best.safetensors")
    with needs("maps of inner layers", "train"):
        from dermx.train.network import build_network, load_weights
    config = load_config(run / "config.json")
    codes = json.loads((bundle_folder(run) / INDEX).read_text(encoding="utf-8"))["codes"]
    network = build_network(config.train.architecture, len(codes), pretrained=False)
    network.load_state_dict(load_weights(weights))
    return network.eval()


def _autograd(
    opened: Model,
    network: Any,
    prepared: Prepared,
    wanted: int,
    against: int | None,
    method: Any,
    layer: str | None,
) -> Cells:
    import torch

    from dermx.preprocess.normalize import normalize
    from dermx.train.cam import cam

    spec = opened.bundle.preprocess
    pixels = torch.from_numpy(normalize(prepared.pixels[None], spec.mean, spec.std))
    found = cam(network, pixels, wanted, against=against, layer=layer, method=method)
    return np.asarray(found[0])
