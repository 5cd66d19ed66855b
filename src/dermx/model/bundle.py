"""What is a model, once trained? A folder that holds all that answering needs, and checks itself.

```text
bundle.json    format, name, classes in the order of the logits, preprocessing, figures, hashes
network.onnx   pixels (n, 3, s, s) → map (n, c, h, w) and features (n, c), the mean over the map
head.npz       the linear layer: weight (classes, c), bias (classes,); mapped (c,), the features
               that heat maps show, all where it is not there
card.md        the model card, for people
trust.json     optional: when to believe the model; trust.npz has its arrays (`dermx trust RUN`)
```

A bundle is JSON, ONNX and plain arrays; nothing in it is ever unpickled. The hashes find damage and
mixed-up files, not forgery: whoever can replace a file can replace its hash.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from zipfile import BadZipFile

import numpy as np

from dermx.config import PreprocessConfig, section_from
from dermx.diagnoses import CODES
from dermx.errors import BundleError, ConfigError

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Float32

FORMAT: Final = 1  # of bundle.json; a reader refuses a higher one
INDEX: Final = "bundle.json"
NETWORK: Final = "network.onnx"
HEAD: Final = "head.npz"
CARD: Final = "card.md"
TRUST: Final = "trust.json"  # optional, as is
TRUST_ARRAYS: Final = "trust.npz"
RELIABILITY: Final = "reliability"  # among the figures: the one that is about the trust parts
# What NumPy raises for a file that is no archive, is cut off, or claims more than there is memory.
_UNREADABLE: Final = (OSError, EOFError, KeyError, TypeError, ValueError, MemoryError, BadZipFile)
SHIPPED: Final = Path(__file__).parent / "shipped"  # the model that comes with the package


@dataclass(frozen=True, kw_only=True, eq=False)
class Bundle:
    """A model's folder, read and checked; the network itself stays on disk."""

    folder: Path
    name: str
    architecture: str
    codes: tuple[str, ...]  # of `dermx.diagnoses.CODES`, in the order of the logits
    preprocess: PreprocessConfig
    weight: Float32[np.ndarray, "classes c"]
    bias: Float32[np.ndarray, " classes"]
    mapped: Bool[np.ndarray, " c"]  # the features that heat maps show: one network's of several
    network: Path
    figures: Mapping[str, Any] = field(default_factory=dict)  # measured on the test part
    created: str = ""  # ISO 8601, UTC
    version: str = ""  # of the dermx that wrote it
    trust: "TrustParts | None" = None  # what `dermx trust` fitted; None where it did not

    @property
    def map_weight(self) -> Float32[np.ndarray, "classes c"]:
        """The linear layer as heat maps show it."""
        return np.where(self.mapped, self.weight, np.float32(0))


class TrustParts(NamedTuple):
    """What `dermx.trust.verdict` needs, as it lies in the bundle."""

    settings: Mapping[str, Any]  # JSON values
    arrays: Mapping[str, np.ndarray]
    # Stated confidence beside accuracy, measured with these parts and so no older than they are.
    reliability: Mapping[str, Any] | None = None


def load_bundle(path: Path | None = None) -> Bundle:
    """Read and check a model's folder.

    Args:
        path: Folder of the model; the one shipped with dermx when None.

    Raises:
        BundleError: A file is missing or damaged, the format is newer than this dermx, a class is
            unknown, or the shapes don't fit each other.
    """
    folder = SHIPPED if path is None else Path(path)
    index = _read_index(folder, shipped=path is None)
    try:
        codes = tuple(str(code) for code in index["codes"])
        preprocess = section_from(PreprocessConfig, index["preprocess"], "preprocess")
        hashes = {str(name): str(value) for name, value in index["sha256"].items()}
        name, architecture = str(index["name"]), str(index["architecture"])
        figures = dict(index.get("figures", {}))
    except (KeyError, TypeError, AttributeError, ValueError, ConfigError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise BundleError(f"{folder / INDEX} is not as this dermx writes it: {what}") from error
    _check_files(folder, hashes)
    weight, bias, mapped = _read_head(folder / HEAD)
    _check_head(codes, weight, bias, mapped)
    trust = _read_trust(folder) if TRUST in hashes else None
    if trust is not None and trust.settings.get("head") != head_digest(weight, bias):
        raise BundleError(
            f"{folder / TRUST} was fitted for another model; fit it again: dermx trust RUN"
        )
    return Bundle(
        folder=folder,
        name=name,
        architecture=architecture,
        codes=codes,
        preprocess=preprocess,
        weight=weight,
        bias=bias,
        mapped=mapped,
        network=folder / NETWORK,
        figures=figures,
        created=str(index.get("created", "")),
        version=str(index.get("dermx", "")),
        trust=None if trust is None else trust._replace(reliability=figures.get(RELIABILITY)),
    )


def write_bundle(
    folder: Path,
    *,
    name: str,
    architecture: str,
    codes: Sequence[str] = CODES,
    preprocess: PreprocessConfig,
    network_bytes: bytes,
    weight: Float[np.ndarray, "classes c"],
    bias: Float[np.ndarray, " classes"],
    mapped: Bool[np.ndarray, " c"] | None = None,
    figures: Mapping[str, Any],
    card: str,
    finish: Callable[[Bundle], None] | None = None,
) -> Bundle:
    """Write a model's folder, whole or not at all; a bundle that was there is replaced.

    Args:
        folder: Absent, empty, or an older bundle; anything else is left alone.
        name: What the model is called in reports, e.g. "mobilenetv2".
        architecture: The timm name of the network.
        codes: Classes in the order of the head's rows.
        preprocess: How its inputs were made in training.
        network_bytes: The ONNX file, weights inside.
        weight: Of the linear layer; stored as float32.
        bias: Of the linear layer; stored as float32.
        mapped: Which features heat maps show; all when None.
        figures: What was measured, JSON values only.
        card: The model card, Markdown.
        finish: Checks the new bundle, or adds trust parts to it, before it takes its place; what
            it raises leaves the old one as it was.

    Raises:
        BundleError: The folder holds something else than a bundle or is the working directory, a
            class is unknown, or the shapes don't fit each other.
    """
    folder = Path(folder)
    weight, bias = np.asarray(weight, np.float32), np.asarray(bias, np.float32)
    mapped = np.full(weight.shape[-1:], True) if mapped is None else np.asarray(mapped)
    _check_head(tuple(codes), weight, bias, mapped)
    _check_replaceable(folder)

    def fill(fresh: Path) -> None:
        (fresh / NETWORK).write_bytes(network_bytes)
        np.savez(fresh / HEAD, weight=weight, bias=bias, mapped=mapped)
        (fresh / CARD).write_text(card, encoding="utf-8")
        index = {
            "format": FORMAT,
            "name": name,
            "architecture": architecture,
            "codes": list(codes),
            "preprocess": asdict(preprocess),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "dermx": _version(),
            "figures": dict(figures),
            "sha256": {part: _sha256(fresh / part) for part in (NETWORK, HEAD, CARD)},
        }
        (fresh / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
        if finish is not None:
            finish(load_bundle(fresh))

    _replace(folder, fill)
    return load_bundle(folder)


def write_trust(bundle: Bundle, parts: TrustParts, *, card: str | None = None) -> Bundle:
    """Give a bundle trust parts, whole or not at all; older ones are replaced.

    Args:
        bundle: The model that the parts were fitted for.
        parts: JSON settings, to which the model's `head_digest` is added, arrays, and the figure
            that is about them; without it that of older parts goes, too.
        card: A new model card; the old one stays when None.

    Returns:
        The bundle as it now is.

    Raises:
        BundleError: The folder is not a bundle any more, or has become another model.
    """
    folder = bundle.folder
    _check_replaceable(folder)
    index = _read_index(folder, shipped=False)
    now = load_bundle(folder)
    if head_digest(now.weight, now.bias) != head_digest(bundle.weight, bundle.bias):
        raise BundleError(f"{folder} has become another model; run `dermx trust` again")
    arrays: dict[str, Any] = dict(parts.arrays)
    settings = {**parts.settings, "head": head_digest(bundle.weight, bundle.bias)}
    figures = {name: of for name, of in now.figures.items() if name != RELIABILITY}
    if parts.reliability is not None:
        figures[RELIABILITY] = dict(parts.reliability)

    def fill(fresh: Path) -> None:
        for part in (NETWORK, HEAD, CARD):
            shutil.copy2(folder / part, fresh / part)
        if card is not None:
            (fresh / CARD).write_text(card, encoding="utf-8")
        text = json.dumps(settings, indent=2, allow_nan=False) + "\n"
        (fresh / TRUST).write_text(text, encoding="utf-8")
        np.savez_compressed(fresh / TRUST_ARRAYS, **arrays)
        names = (NETWORK, HEAD, CARD, TRUST, TRUST_ARRAYS)
        hashes = {part: _sha256(fresh / part) for part in names}
        fuller = index | {"figures": figures, "sha256": hashes}
        (fresh / INDEX).write_text(json.dumps(fuller, indent=2) + "\n", encoding="utf-8")

    _replace(folder, fill)
    return load_bundle(folder)


def head_digest(weight: Float32[np.ndarray, "classes c"], bias: Float32[np.ndarray, " c"]) -> str:
    """Return a digest of the linear layer, which tells trained models apart.

    Unlike the hash of the network's file it stays when a run is exported by another version.
    """
    parts = (np.ascontiguousarray(part, "<f4").tobytes() for part in (weight, bias))
    return hashlib.sha256(b"".join(parts)).hexdigest()


def same_model(one: Bundle, other: Bundle) -> bool:
    """Whether trust parts that fit one bundle fit the other: the same network, maybe exported anew.

    A network in 8 bits has the linear layer of its original, and other features: its name differs.
    """
    facts = [
        (b.architecture, b.codes, b.preprocess, head_digest(b.weight, b.bias)) for b in (one, other)
    ]
    return facts[0] == facts[1]


def _replace(folder: Path, fill: Callable[[Path], None]) -> None:
    """Put a folder that `fill` has filled in the place of another, whole or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Beside the target, so that the last step is a rename within one file system.
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as scratch:
        fresh, old = Path(scratch) / "new", Path(scratch) / "old"
        fresh.mkdir()
        fill(fresh)
        if folder.exists():
            folder.rename(old)
        try:
            fresh.rename(folder)
        except OSError:
            if old.exists():
                old.rename(folder)
            raise


def _read_index(folder: Path, *, shipped: bool) -> dict[str, Any]:
    path = folder / INDEX
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        if shipped:
            raise BundleError(
                "this copy of dermx comes without a model; name one: --model FOLDER, "
                "load_model(FOLDER)"
            ) from error
        raise BundleError(
            f"{folder} is not a model's folder: {INDEX} is missing; "
            "`dermx export RUN --out FOLDER` makes one"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"can't read {path}: {error}") from error
    written = index.get("format") if isinstance(index, dict) else None
    if not isinstance(written, int) or written < 1:
        raise BundleError(f"{path} is not the index of a model: its format is {written!r}")
    if written > FORMAT:
        raise BundleError(
            f"{path} has format {written}, this dermx reads up to {FORMAT}; "
            "pip install --upgrade dermx"
        )
    return dict(index)


def _check_files(folder: Path, hashes: Mapping[str, str]) -> None:
    for part in (NETWORK, HEAD, *hashes):
        path = folder / part
        if Path(part).name != part:
            raise BundleError(f"{folder / INDEX} names {part!r}, which is not in its folder")
        if not path.is_file():
            raise BundleError(
                f"{folder} is incomplete: {part} is missing; "
                "copy the whole folder again or make it with `dermx export`"
            )
        found, promised = _sha256(path), hashes.get(part, "nothing")
        if found != promised:
            raise BundleError(
                f"{path} is damaged: its SHA-256 is {found[:12]}…, {INDEX} says {promised[:12]}…; "
                "copy the whole folder again"
            )


def _read_head(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as parts:
            weight, bias = (np.asarray(parts[name], np.float32) for name in ("weight", "bias"))
            every = np.full(weight.shape[-1:], True)
            return weight, bias, parts.get("mapped", every)
    except _UNREADABLE as error:
        raise BundleError(f"{path} does not hold weight and bias: {error}") from error


def _read_trust(folder: Path) -> TrustParts:
    try:
        settings = json.loads((folder / TRUST).read_text(encoding="utf-8"))
        with np.load(folder / TRUST_ARRAYS, allow_pickle=False) as stored:
            return TrustParts(dict(settings), dict(stored))
    except (*_UNREADABLE, RecursionError) as error:
        raise BundleError(
            f"{folder} has trust parts that can't be read: {error}; make them: dermx trust RUN"
        ) from error


def _check_head(
    codes: tuple[str, ...], weight: np.ndarray, bias: np.ndarray, mapped: np.ndarray
) -> None:
    if unknown := [code for code in codes if code not in CODES]:
        raise BundleError(f"unknown classes {unknown}; dermx knows {', '.join(CODES)}")
    if len(set(codes)) != len(codes) or not codes:
        raise BundleError(f"need each class once, got {list(codes)}")
    if weight.ndim != 2 or weight.shape[0] != len(codes) or bias.shape != (len(codes),):
        raise BundleError(
            f"{len(codes)} classes need weight ({len(codes)}, c) and bias ({len(codes)},), "
            f"got {weight.shape} and {bias.shape}"
        )
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise BundleError("weight or bias hold values that are not finite; the training diverged")
    if mapped.dtype != bool or mapped.shape != weight.shape[1:] or not mapped.any():
        raise BundleError(
            f"the features that heat maps show must be some of {weight.shape[1]}, "
            f"got {np.count_nonzero(mapped)} in {mapped.dtype} {mapped.shape}"
        )


def _check_replaceable(folder: Path) -> None:
    if not folder.exists() and not folder.is_symlink():
        return
    if not folder.is_dir() or folder.is_symlink():
        raise BundleError(f"{folder} is not a plain folder; name another place for the model")
    if folder.samefile("."):
        raise BundleError(
            f"{folder} is the folder you are in, which can't be replaced; leave it, or name another"
        )
    own = {INDEX, NETWORK, HEAD, CARD, TRUST, TRUST_ARRAYS}
    names = {entry.name for entry in folder.iterdir()}
    if names and (INDEX not in names or names - own):
        foreign = sorted(names - own) or sorted(names)
        raise BundleError(
            f"{folder} holds something else than a model, e.g. {foreign[0]}; "
            "name a new folder or empty this one"
        )


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _version() -> str:
    from importlib.metadata import (
        version,
    )  # here: it costs tens of milliseconds, reading needs none

    return version("dermx")
