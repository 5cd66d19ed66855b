"""Settings of every stage: frozen, checked when made, read from TOML, saved as JSON.

An unknown section or key is an error that names the nearest known one, so a misspelt setting
can't be ignored in silence.
"""

import difflib
import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from dermx.errors import ConfigError

T = TypeVar("T")

LOSS_TERMS = ("cross_entropy", "focal", "inverse", "effective", "adjusted")
SAMPLERS = ("share", "power")


def _check(section: str, name: str, value: object, ok: bool, rule: str) -> None:
    if not ok:
        raise ConfigError(f"{section}.{name} must be {rule}, got {value!r}")


def _check_numbers(section: str, config: Any) -> None:
    """Refuse NaN and infinity, which JSON and TOML can spell, and lists of other things."""
    for item in fields(config):
        value = getattr(config, item.name)
        if isinstance(value, float):
            _check(section, item.name, value, math.isfinite(value), "a finite number")
        if item.default == ():
            ok = all(isinstance(v, str) and v for v in value)
            _check(section, item.name, value, ok, "names of files")
        elif isinstance(item.default, tuple):
            ok = all(type(v) in (int, float) and math.isfinite(v) for v in value)
            _check(section, item.name, value, ok, "finite numbers")


@dataclass(frozen=True, kw_only=True)
class PreprocessConfig:
    """How a picture becomes a model's input; travels with the model, the same for training."""

    image_size: int = 224  # pixels, side of the square input
    crop_fraction: float = 1.0  # of the shorter side; 1 keeps the full centre square
    hair_removal: bool = False  # black-hat and inpainting first
    lesion_crop: bool = False  # cut to the bounding box of the segmented lesion
    lesion_margin: float = 0.2  # of the box's side, added on each side
    colour_constancy: bool = False  # make the estimated light of the square one set grey
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)  # per RGB channel, of ImageNet
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        name = "preprocess"
        _check_numbers(name, self)
        _check(name, "image_size", self.image_size, 32 <= self.image_size <= 1024, "32 to 1024")
        fraction = self.crop_fraction
        _check(name, "crop_fraction", fraction, 0.1 <= fraction <= 1, "from 0.1 to 1")
        margin = self.lesion_margin
        _check(name, "lesion_margin", margin, 0 <= margin <= 2, "from 0 to 2")
        object.__setattr__(self, "mean", tuple(self.mean))
        object.__setattr__(self, "std", tuple(self.std))
        _check(name, "mean", self.mean, len(self.mean) == 3, "three numbers")
        _check(name, "std", self.std, len(self.std) == 3 and min(self.std) > 0, "three numbers > 0")


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """What training varies in a picture; ranges are drawn from evenly, 0 or 1 switches one off."""

    rotation: bool = True  # any angle, full circle
    quarter_turns: bool = False  # only by 90, 180 and 270 degrees, which resamples no pixel
    flip: bool = True  # mirror image, half of the time
    min_area: float = 0.4  # smallest share in view of the centre square's area, after its crop
    max_aspect: float = 1.25  # largest ratio of width to height scale, and its inverse
    shift: float = 0.1  # of that square's side, each way
    brightness: float = 0.2  # multiplies all channels by 1 ± this
    contrast: float = 0.2  # about the mean grey, 1 ± this
    saturation: float = 0.2  # about each pixel's grey, 1 ± this
    colour_cast: float = 0.1  # multiplies each channel by its own 1 ± this
    max_area: float = 1.0  # largest; above 1 more than the square, mirrored where the picture ends
    colour_constancy: float = 0.0  # of the way to grey light, or as far away from it, ± this
    gamma: float = 0.0  # values as shares of white, to the power e to the ± this
    light_slope: float = 0.0  # light at one edge of the picture 1 + this, at the other 1 - this
    hair: float = 0.0  # share of pictures over which hair is drawn
    vignette: float = 0.0  # share of pictures seen through a round field, dark outside
    blur: float = 0.0  # share of pictures, as the next three
    noise: float = 0.0
    jpeg: float = 0.0
    erasing: float = 0.0  # a rectangle filled with the mean colour
    lettering: float = 0.0  # share of pictures with letters over them, as a watermark has
    grey: float = 0.0  # share of pictures without colour

    def __post_init__(self) -> None:
        _check_numbers("augment", self)
        below_one = ("shift", "brightness", "contrast", "saturation", "colour_cast", "light_slope")
        for name in below_one:
            value = getattr(self, name)
            _check("augment", name, value, 0 <= value < 1, "from 0 to below 1")
        _check("augment", "min_area", self.min_area, 0 < self.min_area <= 1, "above 0, at most 1")
        _check("augment", "max_aspect", self.max_aspect, self.max_aspect >= 1, "at least 1")
        _check("augment", "max_area", self.max_area, 1 <= self.max_area <= 4, "from 1 to 4")
        _check("augment", "gamma", self.gamma, 0 <= self.gamma <= 1, "from 0 to 1")
        drawn = ("hair", "vignette", "blur", "noise", "jpeg", "erasing", "lettering", "grey")
        for name in ("colour_constancy", *drawn):
            value = getattr(self, name)
            _check("augment", name, value, 0 <= value <= 1, "from 0 to 1")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How one model is trained."""

    architecture: str = "mobilenetv2_100"  # a timm name; ends in global average pooling
    epochs: int = 20
    batch_size: int = 64  # pictures per optimizer step, over all processes together
    learning_rate: float = 8e-4  # peak of the schedule, per optimizer step
    weight_decay: float = 0.05  # AdamW; not on biases and normalisation
    warmup: float = 0.1  # share of all steps, linear from 0; then cosine to 0
    label_smoothing: float = 0.05  # probability moved from the true class to all, evenly
    dropout: float = 0.2  # before the linear layer
    clip_norm: float = 1.0  # of the gradient; 0 switches clipping off
    loss: str = "cross_entropy"  # terms of LOSS_TERMS, joined by +
    focal_gamma: float = 2.0  # of "focal"; 0 is cross-entropy
    inverse_power: float = 1.0  # of "inverse": class weights go with frequency to minus this
    effective_beta: float = 0.999  # of "effective": class weights by effective number
    adjust_tau: float = 1.0  # of "adjusted": how much of the log prior is added to the logits
    mixup: float = 0.0  # both parameters of the Beta distribution of the blend; 0: no mixup
    cutmix: float = 0.0  # the same for the share of the pasted box; 0: no CutMix
    mix_share: float = 1.0  # of the batches, where mixup or CutMix is on
    head_epochs: int = 0  # first epochs, of all, in which only the linear layer learns
    frozen_layers: int = 0  # first layers, of the few that timm counts, that stay as given
    layer_decay: float = 1.0  # learning rate of a block relative to the one after it
    sampler: Literal["share", "power"] = "share"  # by `oversample`, or by `sample_power`
    oversample: float = 0.35  # 0: natural class counts; 1: every class as often as the largest
    sample_power: float = 0.5  # a picture's chance goes with its class's count to minus this
    curriculum: str = ""  # CSV file of image and score, easy pictures first; none: no curriculum
    curriculum_start: float = 0.3  # share of each class, its easiest, that the first epoch knows
    curriculum_epochs: int = 5  # until all pictures take part, evenly more each epoch
    teacher: tuple[str, ...] = ()  # files of predictions for the training pictures, one or several
    distill_share: float = 0.5  # of the loss: how far from the teacher; the rest: from the label
    distill_temperature: float = 2.0  # softens both answers before they are compared
    samples_per_epoch: int = 0  # pictures drawn per epoch; 0: as many as there are
    keep: Literal["best", "last"] = "best"  # epoch, by validation balanced accuracy, or the last
    ema_decay: float = 0.998  # per step, of the averaged weights that are kept; 0: no average
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"  # fp16 on CUDA, bf16 on able CPUs
    workers: int = -1  # processes that load pictures; -1: none on a CPU, up to 8 beside a GPU
    seed: int = 0  # every random draw depends only on this, the epoch and the position in it

    def __post_init__(self) -> None:
        name = "train"
        _check_numbers(name, self)
        for key in ("epochs", "batch_size", "curriculum_epochs"):
            value = getattr(self, key)
            _check(name, key, value, value >= 1, "at least 1")
        rate = self.learning_rate
        _check(name, "learning_rate", rate, rate > 0, "> 0")
        for key in (
            "weight_decay",
            "clip_norm",
            "samples_per_epoch",
            "seed",
            "frozen_layers",
            "focal_gamma",
            "inverse_power",
            "adjust_tau",
            "mixup",
            "cutmix",
        ):
            value = getattr(self, key)
            _check(name, key, value, value >= 0, "at least 0")
        _check(name, "seed", self.seed, self.seed < 2**32, "below 2**32")
        for key in ("warmup", "label_smoothing", "dropout", "ema_decay", "effective_beta"):
            value = getattr(self, key)
            _check(name, key, value, 0 <= value < 1, "from 0 to below 1")
        for key in ("oversample", "sample_power", "mix_share", "distill_share"):
            value = getattr(self, key)
            _check(name, key, value, 0 <= value <= 1, "from 0 to 1")
        self._check_loss()
        _check(name, "sampler", self.sampler, self.sampler in SAMPLERS, f"one of {SAMPLERS}")
        for key in ("layer_decay", "curriculum_start"):
            value = getattr(self, key)
            _check(name, key, value, 0 < value <= 1, "above 0, at most 1")
        temperature = self.distill_temperature
        _check(name, "distill_temperature", temperature, temperature > 0, "> 0")
        ok = 0 <= self.head_epochs < self.epochs
        _check(name, "head_epochs", self.head_epochs, ok, "at least 0, below train.epochs")
        _check(name, "workers", self.workers, self.workers >= -1, "-1 or more")
        _check(name, "keep", self.keep, self.keep in ("best", "last"), "'best' or 'last'")
        known = ("auto", "fp32", "bf16", "fp16")
        _check(name, "precision", self.precision, self.precision in known, f"one of {known}")

    @property
    def loss_terms(self) -> frozenset[str]:
        """The terms that `loss` joins."""
        return frozenset(self.loss.split("+"))

    def _check_loss(self) -> None:
        terms = self.loss.split("+")
        for term in terms:
            if term not in LOSS_TERMS:
                known = _nearest(term, list(LOSS_TERMS))
                raise ConfigError(f"train.loss has an unknown term {term!r}{known}")
        if len(set(terms)) < len(terms):
            raise ConfigError(f"train.loss names a term twice: {self.loss!r}")
        for pair in ({"cross_entropy", "focal"}, {"inverse", "effective"}):
            if pair <= set(terms):
                raise ConfigError(
                    f"train.loss can't have both {' and '.join(sorted(pair))}, got {self.loss!r}"
                )


@dataclass(frozen=True, kw_only=True)
class Config:
    """All settings of one run."""

    preprocess: PreprocessConfig = field(default_factory=PreprocessConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def to_json(self) -> str:
        """Return every setting, defaults included, as indented JSON."""
        return json.dumps(asdict(self), indent=2)

    def with_train(self, **changes: Any) -> "Config":
        """Return a copy with some training settings changed; None leaves one as it is."""
        given = {key: value for key, value in changes.items() if value is not None}
        return replace(self, train=replace(self.train, **given))


def section_from(kind: type[T], values: Mapping[str, Any], section: str) -> T:
    """Make one section's dataclass from a mapping.

    Raises:
        ConfigError: A key is unknown (the nearest known one is named), or a value has the wrong
            type or range.
    """
    known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    made: dict[str, Any] = {}
    for key, value in values.items():
        if key not in known:
            raise ConfigError(f"unknown setting {section}.{key}{_nearest(key, list(known))}")
        default = known[key].default
        if isinstance(default, bool) != isinstance(value, bool) or not (
            isinstance(value, type(default))
            or (isinstance(default, float) and isinstance(value, int))
            or (isinstance(default, tuple) and isinstance(value, list))
            or (default == () and isinstance(value, str))
        ):
            wanted = type(default).__name__
            raise ConfigError(f"{section}.{key} must be of type {wanted}, got {value!r}")
        if default == () and isinstance(value, str):  # a name alone is a list of one
            value = [value] if value else []
        made[key] = tuple(value) if isinstance(value, list) else value
    return kind(**made)


def config_from(values: Mapping[str, Any]) -> Config:
    """Make a configuration from nested mappings, as TOML or JSON gives them.

    Raises:
        ConfigError: A section is unknown or is none, or a setting in it is unknown or wrong.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"a configuration is made of sections with settings, got {values!r}")
    sections = {f.name: f.type for f in fields(Config)}
    kinds: dict[str, type] = {
        "preprocess": PreprocessConfig,
        "augment": AugmentConfig,
        "train": TrainConfig,
    }
    made: dict[str, Any] = {}
    for name, part in values.items():
        if name not in sections:
            raise ConfigError(f"unknown section [{name}]{_nearest(name, list(sections))}")
        if not isinstance(part, Mapping):
            raise ConfigError(f"{name} must be a section with settings, got {part!r}")
        made[name] = section_from(kinds[name], part, name)
    return Config(**made)


def load_config(path: Path | None) -> Config:
    """Read a TOML or JSON file; the defaults when None.

    Raises:
        ConfigError: The file can't be read, is malformed, or holds an unknown or wrong setting.
    """
    if path is None:
        return Config()
    try:
        text = path.read_text(encoding="utf-8-sig")  # editors on Windows may begin with a mark
        values = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"can't read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path} is malformed: {error}") from error
    return config_from(values)


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; known are {', '.join(known)}"
