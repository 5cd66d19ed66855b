"""Drawn lesions: pictures whose lesion and hair are known exactly, because code drew them.

For tests, for trying every command without data, and for the example pictures. Skin is light
absorbed by pigment and blood (Beer-Lambert), so browns, pinks and reds come out related as they
are in skin; each diagnosis adds the structures it is known by. They resemble dermoscopy enough
to tell the eight classes apart and no more: nothing medical can be concluded from them, and a
model must never be trained on them for use.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8

from dermx.diagnoses import CODES
from dermx.errors import InputError

Plane = Float32[np.ndarray, "h w"]
Colours = Float32[np.ndarray, "h w 3"]

# How much each absorber takes from red, green and blue, per unit of density; by eye, so that
# the sequence tan, brown, black and the sequence pink, red, purple look right on a screen.
MELANIN = np.array([0.55, 0.95, 1.30], np.float32)
BLOOD = np.array([0.10, 0.85, 0.70], np.float32)
BARE = np.array([0.97, 0.92, 0.88], np.float32)  # skin without either


@dataclass(frozen=True, kw_only=True, eq=False)
class Phantom:
    """One drawn picture and the truth about it."""

    picture: UInt8[np.ndarray, "h w 3"]  # RGB
    clean: UInt8[np.ndarray, "h w 3"]  # the same picture without hair
    lesion: Bool[np.ndarray, "h w"]
    hair: Bool[np.ndarray, "h w"]  # at least half of the pixel is covered by hair
    diagnosis: str


@dataclass(frozen=True, kw_only=True)
class Look:
    """What one dermoscopic diagnosis looks like, in ranges to draw from."""

    melanin: tuple[float, float]  # density added in the lesion
    blood: tuple[float, float]
    irregular: float  # amplitude of the outline's harmonics, share of the radius
    edge: float  # width of the soft edge, share of the radius
    uneven: float  # amplitude of the pigment's variation inside
    details: tuple[Callable[["Scene", np.random.Generator], None], ...] = ()


@dataclass(kw_only=True, eq=False)
class Scene:
    """A picture while it is drawn: densities first, then paint laid over them."""

    unit: float  # pixels per 1/450 of the shorter side
    melanin: Plane
    blood: Plane
    inside: Plane  # 1 in the lesion, 0 outside, soft at the edge
    radial: Plane  # 0 at the lesion's centre, 1 on its outline
    paint: list[tuple[tuple[float, float, float], Plane]]  # colour and cover, both 0 to 1


def draw_phantom(
    seed: int,
    *,
    size: tuple[int, int] = (450, 600),
    diagnosis: str | None = None,
    hair: int = 0,
    vignette: bool = False,
    shot: int = 0,
) -> Phantom:
    """Draw a lesion on skin.

    Args:
        seed: 0 or more; the lesion and its skin depend on nothing else.
        size: Height and width, pixels, each at least 32.
        diagnosis: A code of `dermx.diagnoses.CODES`; drawn from the seed when None. Acne is drawn
            as a photograph from further away, with several papules.
        hair: How many hairs lie over it; the picture beneath does not change with them.
        vignette: Whether the corners are dark, as a dermatoscope's round field leaves them.
        shot: 0 for the first picture of the lesion; another number turns and lights it differently.

    Raises:
        InputError: An unknown diagnosis, a negative number or too small a size.
    """
    if diagnosis is not None and diagnosis not in CODES:
        raise InputError(f"no diagnosis {diagnosis!r}; known are {', '.join(CODES)}")
    if min(size) < 32 or min(seed, hair, shot) < 0:
        raise InputError(
            f"need a size of at least 32 and no negative number, got size {size}, "
            f"seed {seed}, hair {hair}, shot {shot}"
        )
    nature = np.random.default_rng([seed, 0])
    code = CODES[int(nature.integers(len(CODES)))] if diagnosis is None else diagnosis
    colours, lesion = (
        _draw_acne(size, nature) if code == "acne" else _draw_lesion(code, size, nature)
    )
    camera = np.random.default_rng([seed, 1, shot])
    if shot:
        colours, lesion = _turned(colours, lesion, camera)
    colours = _lit(colours, camera)
    cover, hair_colours = _draw_hair(size, hair, np.random.default_rng([seed, 2, shot]))
    hairy = colours + cover[:, :, None] * (hair_colours - colours)
    finish = _camera(size, vignette, camera)
    return Phantom(
        picture=finish(hairy),
        clean=finish(colours),
        lesion=lesion,
        hair=cover >= 0.5,
        diagnosis=code,
    )


# --- skin and lesion ---------------------------------------------------------------------------


def _draw_lesion(
    code: str, size: tuple[int, int], rng: np.random.Generator
) -> tuple[Colours, Bool[np.ndarray, "h w"]]:
    look = LOOKS[code]
    scene = _skin(size, rng)
    radial, radius = _outline(size, look.irregular, rng)
    softness = np.float32(look.edge)
    scene.radial = radial
    scene.inside = (1 / (1 + np.exp(np.clip((radial - 1) * 4 / softness, -30, 30)))).astype(
        np.float32
    )
    variation = 1 + look.uneven * _clouds(size, radius * 0.5, rng, octaves=3)
    fading = 1.12 - 0.3 * np.minimum(radial, 1) ** 2
    scene.melanin += (
        rng.uniform(*look.melanin) * scene.inside * np.maximum(variation * fading, 0.05)
    )
    scene.blood += rng.uniform(*look.blood) * scene.inside * np.maximum(2 - variation, 0.2)
    for detail in look.details:
        detail(scene, rng)
    return _coloured(scene), radial <= 1


def _skin(size: tuple[int, int], rng: np.random.Generator) -> Scene:
    unit = min(size) / 450
    blotches = _clouds(size, 120 * unit, rng, octaves=3)
    flush = _clouds(size, 90 * unit, rng, octaves=3)
    _, furrows = _cells(size, 13 * unit, rng)
    lines = np.exp(-((furrows / 0.16) ** 2)) * (0.6 + 0.4 * _clouds(size, 60 * unit, rng))
    return Scene(
        unit=unit,
        melanin=np.float32(rng.uniform(0.05, 0.22)) * (1 + 0.2 * blotches)
        + np.float32(0.012) * lines,
        blood=np.float32(rng.uniform(0.2, 0.36)) * (1 + 0.16 * flush) + np.float32(0.02) * lines,
        inside=np.zeros(size, np.float32),
        radial=np.full(size, 9, np.float32),
        paint=[],
    )


def _outline(
    size: tuple[int, int], irregular: float, rng: np.random.Generator
) -> tuple[Plane, float]:
    """Distance from the lesion's centre as a share of the outline's radius, and the mean radius."""
    height, width = size
    shorter = min(size)
    radius = shorter * rng.uniform(0.2, 0.33)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    bend = min(irregular, 0.22) * radius * 0.35
    x = x - width * rng.uniform(0.44, 0.56) + bend * _clouds(size, radius * 0.35, rng, octaves=2)
    y = y - height * rng.uniform(0.44, 0.56) + bend * _clouds(size, radius * 0.35, rng, octaves=2)
    angle, stretch = rng.uniform(0, np.pi), rng.uniform(1, 1.35)
    along = (x * np.cos(angle) + y * np.sin(angle)) / stretch
    across = (y * np.cos(angle) - x * np.sin(angle)) * stretch
    theta = np.arctan2(across, along)
    reach = np.ones(size, np.float32)
    for k in range(2, 9):
        reach += irregular * rng.normal() / k * np.cos(k * theta + rng.uniform(0, 2 * np.pi))
    return np.asarray(
        np.hypot(along, across) / (radius * np.maximum(reach, 0.35)), np.float32
    ), radius


def _coloured(scene: Scene) -> Colours:
    density = scene.melanin[:, :, None] * MELANIN + scene.blood[:, :, None] * BLOOD
    colours = BARE * np.exp(-np.maximum(density, 0))
    for colour, cover in scene.paint:
        colours += np.clip(cover, 0, 1)[:, :, None] * (np.array(colour, np.float32) - colours)
    return np.asarray(colours, np.float32)


# --- structures that diagnoses are known by ----------------------------------------------------


def network(strength: float, spacing: float = 11, rim: float = 0.0) -> Callable[..., None]:
    """Lay a pigment network, brown lines around pale holes; `rim` 1 keeps it at the border."""

    def add(scene: Scene, rng: np.random.Generator) -> None:
        _, gap = _cells(scene.inside.shape, spacing * scene.unit, rng)
        lines = np.exp(-((gap / 0.2) ** 2)) - 0.35
        patchy = np.clip(0.6 + 0.5 * _clouds(scene.inside.shape, 60 * scene.unit, rng), 0, 1.2)
        where = np.clip(scene.radial, 0, 1) ** (4 * rim) * scene.inside * patchy
        scene.melanin += np.float32(strength) * lines * where

    return add


def globules(strength: float, spacing: float = 20, share: float = 0.5) -> Callable[..., None]:
    """Round brown clods, in some of the places."""

    def add(scene: Scene, rng: np.random.Generator) -> None:
        scene.melanin += np.float32(strength) * _dots(scene, rng, spacing, 0.3, share)

    return add


def dots_of(
    colour: tuple[float, float, float],
    cover: float,
    spacing: float,
    share: float,
    radius: float = 0.2,
) -> Callable[..., None]:
    """Small round spots of one colour: milia, follicles, comedo-like openings."""

    def add(scene: Scene, rng: np.random.Generator) -> None:
        scene.paint.append((colour, cover * _dots(scene, rng, spacing, radius, share)))

    return add


def patches_of(
    colour: tuple[float, float, float], cover: float, scale: float, share: float
) -> Callable[..., None]:
    """Soft areas of one colour over part of the lesion: veil, scale, regression."""

    def add(scene: Scene, rng: np.random.Generator) -> None:
        clouds = _clouds(scene.inside.shape, scale * scene.unit, rng, octaves=3)
        threshold = np.quantile(clouds[scene.inside > 0.5], 1 - share) if share < 1 else -9
        area = np.clip((clouds - threshold) * 2.5, 0, 1) * scene.inside
        scene.paint.append((colour, np.float32(cover) * area))

    return add


def centre_of(
    colour: tuple[float, float, float], cover: float, radius: float
) -> Callable[..., None]:
    """Lay a pale or coloured centre, as a dermatofibroma's scar."""

    def add(scene: Scene, rng: np.random.Generator) -> None:
        wobble = np.clip(1 + 0.2 * _clouds(scene.inside.shape, 40 * scene.unit, rng), 0.6, 1.4)
        area = np.exp(-((scene.radial * wobble / radius) ** 4))
        scene.paint.append((colour, np.float32(cover) * area))

    return add


def lacunes(strength: float, spacing: float = 34) -> Callable[..., None]:
    """Red to purple clods close together, as in an angioma."""

    def add(scene: Scene, rng: np.random.Generator) -> None:
        near, gap = _cells(scene.inside.shape, spacing * scene.unit, rng)
        clods = np.clip(gap * 2.2, 0, 1) * scene.inside
        scene.blood += np.float32(strength) * clods
        scene.melanin += np.float32(0.25 * strength) * clods * (near < 0.5)

    return add


def vessels(count: int, strength: float) -> Callable[..., None]:
    """Branching vessels that thin out from stem to twig."""

    def add(scene: Scene, rng: np.random.Generator) -> None:
        canvas = np.zeros(scene.inside.shape, np.uint8)
        ys, xs = np.nonzero((scene.radial > 0.5) & (scene.radial < 1))
        centre = np.array([xs.mean(), ys.mean()])
        for start in rng.integers(len(xs), size=count):
            at = np.array([xs[start], ys[start]], float)
            towards = np.arctan2(*(centre - at)[::-1])
            _branch(canvas, at, towards + rng.normal(0, 0.5), 3.4 * scene.unit, scene.unit, rng)
        lines = (
            cv2.GaussianBlur(canvas, (0, 0), max(0.4, 0.7 * scene.unit)).astype(np.float32) / 255
        )
        scene.blood += np.float32(strength) * lines

    return add


def _branch(
    canvas: UInt8[np.ndarray, "h w"],
    at: np.ndarray,
    angle: float,
    thickness: float,
    unit: float,
    rng: np.random.Generator,
) -> None:
    while thickness > 0.7 * unit:
        step = rng.uniform(7, 13) * unit
        angle += rng.normal(0, 0.28)
        onward = at + step * np.array([np.cos(angle), np.sin(angle)])
        ends = [tuple(int(v) for v in np.rint(point * 16)) for point in (at, onward)]
        cv2.line(canvas, ends[0], ends[1], 255, max(1, round(thickness)), cv2.LINE_AA, 4)
        if rng.random() < 0.22:
            side = rng.choice([-1, 1]) * rng.uniform(0.5, 1.0)
            _branch(canvas, onward, angle + side, thickness * 0.6, unit, rng)
        at, thickness = onward, thickness * 0.93


def _dots(
    scene: Scene, rng: np.random.Generator, spacing: float, radius: float, share: float
) -> Plane:
    """Cover of round dots in a share of the cells, inside the lesion only."""
    near, _ = _cells(scene.inside.shape, spacing * scene.unit, rng)
    dots = np.clip((radius - near) * spacing * scene.unit / 1.5, 0, 1)
    some = np.clip(
        _clouds(scene.inside.shape, 2.5 * spacing * scene.unit, rng) * 2 + 4 * share - 2, 0, 1
    )
    return np.asarray(dots * some * scene.inside, np.float32)


LOOKS: dict[str, Look] = {
    "nv": Look(
        melanin=(0.5, 0.85), blood=(0.0, 0.1), irregular=0.12, edge=0.22, uneven=0.12,
        details=(network(0.4), globules(0.25, 24, 0.35)),
    ),
    "mel": Look(
        melanin=(0.9, 1.5), blood=(0.05, 0.3), irregular=0.5, edge=0.1, uneven=0.55,
        details=(
            network(0.7, 17, 0.3),
            globules(0.8, 26, 0.4),
            patches_of((0.45, 0.47, 0.56), 0.6, 70, 0.3),
            patches_of((0.86, 0.74, 0.72), 0.45, 60, 0.12),
        ),
    ),
    "bkl": Look(
        melanin=(0.4, 0.8), blood=(0.0, 0.1), irregular=0.25, edge=0.05, uneven=0.25,
        details=(
            patches_of((0.62, 0.55, 0.48), 0.4, 30, 0.6),
            dots_of((0.93, 0.88, 0.78), 0.8, 36, 0.5, 0.16),
            dots_of((0.22, 0.15, 0.11), 0.8, 44, 0.5, 0.17),
        ),
    ),
    "bcc": Look(
        melanin=(0.0, 0.12), blood=(0.15, 0.35), irregular=0.3, edge=0.15, uneven=0.3,
        details=(
            patches_of((0.93, 0.80, 0.80), 0.5, 60, 0.5),
            dots_of((0.38, 0.38, 0.46), 0.75, 62, 0.45, 0.28),
            vessels(7, 1.0),
        ),
    ),
    "akiec": Look(
        melanin=(0.05, 0.2), blood=(0.35, 0.6), irregular=0.4, edge=0.4, uneven=0.4,
        details=(
            dots_of((0.93, 0.86, 0.74), 0.6, 22, 0.7, 0.26),
            patches_of((0.93, 0.90, 0.82), 0.8, 28, 0.22),
        ),
    ),
    "vasc": Look(
        melanin=(0.1, 0.3), blood=(0.6, 1.0), irregular=0.15, edge=0.06, uneven=0.2,
        details=(lacunes(0.9),),
    ),
    "df": Look(
        melanin=(0.22, 0.4), blood=(0.05, 0.18), irregular=0.1, edge=0.5, uneven=0.12,
        details=(network(0.3, 10, 0.5), centre_of((0.95, 0.87, 0.83), 0.75, 0.45)),
    ),
}  # fmt: skip


# --- acne: a photograph from further away ------------------------------------------------------


def _draw_acne(
    size: tuple[int, int], rng: np.random.Generator
) -> tuple[Colours, Bool[np.ndarray, "h w"]]:
    scene = _skin(size, rng)
    height, width = size
    near, _ = _cells(size, 9 * scene.unit, rng)
    scene.melanin += np.float32(0.05) * np.clip(0.3 - near, 0, 1)  # pores
    relief = 0.6 * _clouds(size, 7 * scene.unit, rng)
    lesion = np.zeros(size, bool)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    for _ in range(int(rng.integers(7, 16))):
        radius = scene.unit * rng.uniform(9, 26)
        cx, cy = rng.uniform(0.06, 0.94) * width, rng.uniform(0.06, 0.94) * height
        stretch = rng.uniform(0.85, 1.15)
        away = np.hypot((x - cx) * stretch, (y - cy) / stretch) / radius
        bump = np.exp(-1.6 * away**2)
        scene.blood += np.float32(rng.uniform(0.5, 1.0)) * bump + 0.25 * np.exp(-0.5 * away**2)
        relief += radius * np.float32(rng.uniform(0.3, 0.5)) * bump
        if rng.random() < 0.4:  # a pustule's head
            scene.paint.append(((0.95, 0.88, 0.68), 0.85 * np.exp(-((away / 0.38) ** 4))))
        lesion |= away <= 1
    colours = _coloured(scene)
    angle = rng.uniform(0, 2 * np.pi)
    slope = np.gradient(relief, axis=1) * np.cos(angle) + np.gradient(relief, axis=0) * np.sin(
        angle
    )
    side = ((x / width - 0.5) * np.cos(angle) + (y / height - 0.5) * np.sin(angle)).astype(
        np.float32
    )
    shade = 1 - 0.28 * slope - rng.uniform(0.15, 0.4) * side
    return np.asarray(colours * np.clip(shade, 0.3, 1.4)[:, :, None], np.float32), lesion


# --- hair and camera ---------------------------------------------------------------------------


def _draw_hair(
    size: tuple[int, int], count: int, rng: np.random.Generator
) -> tuple[Plane, Colours]:
    """Cover in [0, 1] and colour of tapering curved hairs that lie roughly one way."""
    fine = 4  # drawn this much larger, then averaged: smooth edges and widths in quarter pixels
    height, width = size
    unit = min(size) / 450
    cover = np.zeros((height * fine, width * fine), np.uint8)
    colours = np.zeros((height, width, 3), np.float32)
    lie = rng.uniform(0, np.pi)
    for _ in range(count):
        middle = rng.uniform(0.0, 1.0, 2) * (width, height)
        angle, length = lie + rng.normal(0, 0.45), rng.uniform(0.35, 1.1) * min(size)
        half = length / 2 * np.array([np.cos(angle), np.sin(angle)])
        bend = rng.normal(0, 0.16) * length * np.array([-np.sin(angle), np.cos(angle)])
        t = np.linspace(0, 1, 48)[:, None]
        curve = (
            (1 - t) ** 2 * (middle - half)
            + 2 * t * (1 - t) * (middle + bend)
            + t**2 * (middle + half)
        )
        thick = rng.uniform(1.8, 4.6) * unit * (1 - 0.65 * t[:, 0] ** 2)  # root to tip
        shade = rng.uniform(0.06, 0.3)
        colour = (shade * 1.15, shade * 0.9, shade * 0.75)
        for a, b, across in zip(curve[:-1], curve[1:], thick[1:], strict=True):
            ends = [tuple(int(v) for v in np.rint(point * 16)) for point in (a, b)]
            cv2.line(colours, ends[0], ends[1], colour, max(1, round(across)) + 3, cv2.LINE_8, 4)
            ends = [(end[0] * fine, end[1] * fine) for end in ends]
            cv2.line(cover, ends[0], ends[1], 255, max(1, round(across * fine)), cv2.LINE_8, 4)
    small = cv2.resize(cover, (width, height), interpolation=cv2.INTER_AREA)
    return small.astype(np.float32) / 255, colours


def _turned(
    colours: Colours, lesion: Bool[np.ndarray, "h w"], rng: np.random.Generator
) -> tuple[Colours, Bool[np.ndarray, "h w"]]:
    """Another picture of the same lesion: turned, a little nearer or further."""
    height, width = lesion.shape
    matrix = cv2.getRotationMatrix2D(
        (width / 2, height / 2), rng.uniform(0, 360), rng.uniform(0.85, 1.2)
    )
    mirror = cv2.BORDER_REFLECT_101
    turned = cv2.warpAffine(colours, matrix, (width, height), borderMode=mirror)
    mask = cv2.warpAffine(
        lesion.astype(np.uint8), matrix, (width, height), flags=cv2.INTER_NEAREST, borderMode=mirror
    )
    return np.asarray(turned, np.float32), mask > 0


def _lit(colours: Colours, rng: np.random.Generator) -> Colours:
    """Brightness, white balance and a gentle fall of light across the picture."""
    height, width = colours.shape[:2]
    y, x = np.mgrid[-0.5 : 0.5 : height * 1j, -0.5 : 0.5 : width * 1j].astype(np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    fall = 1 + 0.08 * (x * np.cos(angle) + y * np.sin(angle)) - 0.12 * (x**2 + y**2)
    gains = rng.uniform(0.9, 1.04) * rng.uniform(0.97, 1.03, 3)
    return np.asarray(colours * fall[:, :, None] * gains, np.float32)


def _camera(
    size: tuple[int, int], vignette: bool, rng: np.random.Generator
) -> Callable[[Colours], UInt8[np.ndarray, "h w 3"]]:
    """Dark corners, a sharpness that is not perfect, and noise; the same for every call."""
    height, width = size
    y, x = np.mgrid[:height, :width].astype(np.float32)
    away = np.hypot(x - width / 2, y - height / 2)
    field = np.hypot(width, height) / 2 * np.float32(rng.uniform(0.84, 0.93))
    seen = 1 / (1 + np.exp(np.clip((away - field) / (0.012 * min(size)), -30, 30)))
    grain = rng.standard_normal((height, width, 3), np.float32) * np.float32(0.008)

    def finish(colours: Colours) -> UInt8[np.ndarray, "h w 3"]:
        if vignette:
            colours = colours * (0.04 + 0.96 * seen[:, :, None])
        return np.asarray(np.clip(np.rint((colours + grain) * 255), 0, 255), np.uint8)

    return finish


# --- textures ----------------------------------------------------------------------------------


def _clouds(
    size: tuple[int, ...], scale: float, rng: np.random.Generator, octaves: int = 1
) -> Plane:
    """Smooth noise with mean 0 and deviation about 1; features are about `scale` pixels."""
    height, width = size
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        step = max(2.0, scale / 2**octave)
        coarse = rng.standard_normal((int(height / step) + 3, int(width / step) + 3), np.float32)
        smooth = cv2.resize(
            coarse,
            (int(coarse.shape[1] * step), int(coarse.shape[0] * step)),
            interpolation=cv2.INTER_CUBIC,
        )
        top, left = (smooth.shape[0] - height) // 2, (smooth.shape[1] - width) // 2
        total += smooth[top : top + height, left : left + width] / 2**octave
    return np.asarray(
        total / np.float32(0.75 * np.sqrt(sum(0.25**k for k in range(octaves)))), np.float32
    )


def _cells(size: tuple[int, ...], spacing: float, rng: np.random.Generator) -> tuple[Plane, Plane]:
    """Worley noise: distance to the nearest of many scattered points, and the gap to the second.

    Both as a share of the points' spacing; the gap is 0 on the borders between cells.
    """
    height, width = size
    spacing = max(spacing, 2.0)
    rows, columns = int(height / spacing) + 3, int(width / spacing) + 3
    jitter = rng.uniform(0.1, 0.9, (rows, columns, 2)).astype(np.float32)
    y, x = (np.mgrid[:height, :width] / spacing + 1).astype(np.float32)
    row, column = y.astype(int), x.astype(int)
    first = np.full((height, width), 9, np.float32)
    second = first.copy()
    for i in (-1, 0, 1):
        for j in (-1, 0, 1):
            point = jitter[row + i, column + j]
            away = np.hypot(y - (row + i) - point[:, :, 0], x - (column + j) - point[:, :, 1])
            second = np.minimum(second, np.maximum(first, away))
            first = np.minimum(first, away)
    return first.astype(np.float32), (second - first).astype(np.float32)
