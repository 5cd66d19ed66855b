"""What the eight diagnoses look like when code draws them.

Skin is light absorbed by pigment and blood (Beer-Lambert): a scene is a map of melanin and a map
of blood, so browns, pinks and reds come out related as they are in skin. Each diagnosis adds the
structures it is known by (network, globules, vessels, scale, scars). `dermx.data.phantom`
photographs the result. The numbers were chosen by eye.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import cv2
import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Bool, Float32, UInt8

Plane: TypeAlias = "Float32[np.ndarray, 'h w']"
Colours: TypeAlias = "Float32[np.ndarray, 'h w 3']"

# How much each absorber takes from red, green and blue, per unit of density; by eye, so that
# the sequence tan, brown, black and the sequence pink, red, purple look right on a screen.
MELANIN = np.array([0.60, 1.00, 1.25], np.float32)
BLOOD = np.array([0.12, 0.80, 0.62], np.float32)
BARE = np.array([0.96, 0.91, 0.91], np.float32)  # skin without either, a little cold under LEDs


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


# --- skin and lesion ---------------------------------------------------------------------------


def draw_lesion(
    code: str, size: tuple[int, int], rng: np.random.Generator
) -> tuple[Colours, Bool[np.ndarray, "h w"]]:
    """Draw one of the seven dermoscopic diagnoses: colours in about [0, 1], and the lesion."""
    look = LOOKS[code]
    scene = _skin(size, rng)
    radial, radius = _outline(size, look.irregular, rng)
    softness = np.float32(look.edge)
    scene.radial = radial
    scene.inside = (1 / (1 + np.exp(np.clip((radial - 1) * 4 / softness, -30, 30)))).astype(
        np.float32
    )
    variation = 1 + look.uneven * _clouds(size, radius * 0.8, rng, octaves=3)
    fading = 1.15 - 0.45 * np.minimum(radial, 1) ** 2
    grain = 1 + 0.1 * _clouds(size, 9 * scene.unit, rng, octaves=2)
    scene.melanin += (
        rng.uniform(*look.melanin) * scene.inside * np.maximum(variation * fading, 0.05) * grain
    )
    scene.blood += rng.uniform(*look.blood) * scene.inside * np.maximum(2 - variation, 0.2)
    for detail in look.details:
        detail(scene, rng)
    return _coloured(scene), radial <= 1


def _skin(size: tuple[int, int], rng: np.random.Generator) -> Scene:
    unit = min(size) / 450
    # Mostly fine: large blotches alone make skin look out of focus.
    blotches = _clouds(size, 40 * unit, rng, octaves=4)
    flush = _clouds(size, 30 * unit, rng, octaves=4)
    _, furrows = _cells(size, 13 * unit, rng)
    lines = np.exp(-((furrows / 0.16) ** 2)) * (0.6 + 0.4 * _clouds(size, 60 * unit, rng))
    _, gap = _cells(size, 75 * unit, rng, bend=1.0)
    veins = np.exp(-((gap / 0.07) ** 2)) * np.clip(_clouds(size, 110 * unit, rng), 0, 1.5)
    pores, _ = _cells(size, 29 * unit, rng, bend=0.4)
    pale = np.clip(0.1 + 0.1 * _clouds(size, 29 * unit, rng), 0, 0.3)
    return Scene(
        unit=unit,
        melanin=np.float32(rng.uniform(0.03, 0.16)) * (1 + 0.1 * blotches)
        + np.float32(0.012) * lines,
        blood=np.float32(rng.uniform(0.14, 0.3)) * (1 + 0.12 * flush)
        + np.float32(0.02) * lines
        + np.float32(0.06) * veins,
        inside=np.zeros(size, np.float32),
        radial=np.full(size, 9, np.float32),
        paint=[((0.97, 0.9, 0.86), pale * np.exp(-((pores / 0.11) ** 2)))],
    )


def _outline(
    size: tuple[int, int], irregular: float, rng: np.random.Generator
) -> tuple[Plane, float]:
    """Distance from the lesion's centre as a share of the outline's radius, and the mean radius."""
    height, width = size
    shorter = min(size)
    radius = shorter * rng.uniform(0.22, 0.35)
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
        reach += irregular * rng.normal() / k**1.3 * np.cos(k * theta + rng.uniform(0, 2 * np.pi))
    ragged = 1 + 0.15 * irregular * _clouds(size, radius * 0.12, rng, octaves=2)
    return np.asarray(
        np.hypot(along, across) / (radius * np.maximum(reach, 0.35)) * ragged, np.float32
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
        _, gap = _cells(scene.inside.shape, spacing * scene.unit, rng, bend=0.9)
        lines = np.exp(-((gap / 0.3) ** 2)) - 0.4
        patchy = np.clip(0.6 + 0.4 * _clouds(scene.inside.shape, 50 * scene.unit, rng), 0.1, 1.2)
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
        area = np.clip((clouds - threshold) * 0.9 + 0.3, 0, 1) ** 1.5 * scene.inside
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
        near, gap = _cells(scene.inside.shape, spacing * scene.unit, rng, bend=0.3)
        clods = np.clip(gap * 3, 0, 1) * np.clip((0.6 - near) * 3, 0, 1) * scene.inside
        each = np.clip(1 + 0.3 * _clouds(scene.inside.shape, spacing * scene.unit, rng), 0.4, 1.6)
        scene.blood += np.float32(strength) * clods * each
        scene.melanin += np.float32(0.25 * strength) * clods * each

    return add


def vessels(count: int, strength: float) -> Callable[..., None]:
    """Branching vessels that thin out from stem to twig."""

    def add(scene: Scene, rng: np.random.Generator) -> None:
        canvas = np.zeros(scene.inside.shape, np.uint8)
        ys, xs = np.nonzero((scene.radial > 0.7) & (scene.radial < 1))
        centre = np.array([xs.mean(), ys.mean()])
        for start in rng.integers(len(xs), size=count):
            at = np.array([xs[start], ys[start]], float)
            towards = np.arctan2(*(centre - at)[::-1])
            _branch(canvas, at, towards + rng.normal(0, 0.4), 2.6 * scene.unit, scene.unit, rng)
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
        step = rng.uniform(5, 9) * unit
        angle += rng.normal(0, 0.33)
        onward = at + step * np.array([np.cos(angle), np.sin(angle)])
        ends = [tuple(int(v) for v in np.rint(point * 16)) for point in (at, onward)]
        cv2.line(canvas, ends[0], ends[1], 255, max(1, round(thickness)), cv2.LINE_AA, 4)
        if rng.random() < 0.2:
            side = rng.choice([-1, 1]) * rng.uniform(0.5, 1.0)
            _branch(canvas, onward, angle + side, thickness * 0.65, unit, rng)
        at, thickness = onward, thickness * 0.93


def _dots(
    scene: Scene, rng: np.random.Generator, spacing: float, radius: float, share: float
) -> Plane:
    """Cover of round dots in a share of the cells, inside the lesion only."""
    near, _ = _cells(scene.inside.shape, spacing * scene.unit, rng, bend=0.35)
    varied = np.clip(1 + 0.25 * _clouds(scene.inside.shape, spacing * scene.unit, rng), 0.4, 1.6)
    blur = 1.2 / (spacing * scene.unit) + 0.25 * radius  # a pixel, and softer the larger they are
    dots = np.clip((radius * varied - near) / blur + 0.5, 0, 1)
    some = np.clip(
        _clouds(scene.inside.shape, 2.5 * spacing * scene.unit, rng) * 2 + 4 * share - 2, 0, 1
    )
    return np.asarray(dots * some * scene.inside, np.float32)


LOOKS: dict[str, Look] = {
    "nv": Look(
        melanin=(0.6, 1.0), blood=(-0.05, 0.05), irregular=0.1, edge=0.4, uneven=0.12,
        details=(network(0.5, 8), globules(0.2, 14, 0.3)),
    ),
    "mel": Look(
        melanin=(1.0, 1.6), blood=(-0.05, 0.1), irregular=0.32, edge=0.2, uneven=0.42,
        details=(
            network(0.7, 12, 0.4),
            globules(0.8, 20, 0.35),
            patches_of((0.42, 0.44, 0.54), 0.6, 80, 0.3),
            patches_of((0.84, 0.70, 0.68), 0.5, 60, 0.12),
        ),
    ),
    "bkl": Look(
        melanin=(0.45, 0.8), blood=(-0.1, 0.0), irregular=0.18, edge=0.07, uneven=0.2,
        details=(
            network(0.4, 26),
            patches_of((0.62, 0.46, 0.37), 0.35, 24, 0.45),
            dots_of((0.93, 0.88, 0.78), 0.7, 32, 0.4, 0.12),
            dots_of((0.25, 0.17, 0.12), 0.7, 40, 0.4, 0.12),
        ),
    ),
    "bcc": Look(
        melanin=(0.0, 0.1), blood=(0.14, 0.26), irregular=0.2, edge=0.45, uneven=0.15,
        details=(
            patches_of((0.95, 0.83, 0.83), 0.35, 70, 0.5),
            dots_of((0.42, 0.40, 0.47), 0.65, 54, 0.45, 0.27),
            dots_of((0.45, 0.40, 0.44), 0.45, 15, 0.3, 0.16),
            vessels(7, 0.75),
        ),
    ),
    "akiec": Look(
        melanin=(0.08, 0.22), blood=(0.3, 0.5), irregular=0.35, edge=0.5, uneven=0.3,
        details=(
            dots_of((0.93, 0.82, 0.74), 0.5, 18, 0.7, 0.2),
            patches_of((0.93, 0.88, 0.80), 0.6, 26, 0.22),
        ),
    ),
    "vasc": Look(
        melanin=(0.05, 0.2), blood=(0.5, 0.8), irregular=0.15, edge=0.1, uneven=0.25,
        details=(lacunes(1.0, 34), patches_of((0.40, 0.18, 0.32), 0.5, 70, 0.3)),
    ),
    "df": Look(
        melanin=(0.25, 0.42), blood=(0.0, 0.1), irregular=0.1, edge=0.5, uneven=0.12,
        details=(network(0.3, 11, 0.5), centre_of((0.95, 0.87, 0.85), 0.6, 0.42)),
    ),
}  # fmt: skip


# --- acne: a photograph from further away ------------------------------------------------------


def draw_acne(
    size: tuple[int, int], rng: np.random.Generator
) -> tuple[Colours, Bool[np.ndarray, "h w"]]:
    """Draw skin with papules and pustules in slanting light; the mask is all of them."""
    scene = _skin(size, rng)
    height, width = size
    near, _ = _cells(size, 9 * scene.unit, rng)
    scene.melanin += np.float32(0.05) * np.clip(0.3 - near, 0, 1)  # pores
    relief = 0.3 * _clouds(size, 7 * scene.unit, rng)
    lesion = np.zeros(size, bool)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    for _ in range(int(rng.integers(10, 20))):
        radius = scene.unit * rng.uniform(7, 24)
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


# --- textures ----------------------------------------------------------------------------------


def _clouds(
    size: tuple[int, ...], scale: float, rng: np.random.Generator, octaves: int = 1
) -> Plane:
    """Smooth noise with mean 0 and deviation about 1; features are about `scale` pixels."""
    height, width = size
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        step = max(1.0, scale / 2 ** (octave + 1))  # two grid points a feature, then blurred:
        rows, columns = int(height / step) + 8, int(width / step) + 8  # else the grid would show
        grid = cv2.GaussianBlur(rng.standard_normal((rows, columns), np.float32), (0, 0), 1.0)
        enlarged = (int(columns * step), int(rows * step))
        smooth = cv2.resize(grid, enlarged, interpolation=cv2.INTER_CUBIC)
        top, left = (enlarged[1] - height) // 2, (enlarged[0] - width) // 2
        total += smooth[top : top + height, left : left + width] / 2**octave
    deviation = 0.28 * np.sqrt(sum(0.25**octave for octave in range(octaves)))
    return np.asarray(total / np.float32(deviation), np.float32)


def _cells(
    size: tuple[int, ...], spacing: float, rng: np.random.Generator, bend: float = 0.2
) -> tuple[Plane, Plane]:
    """Worley noise: distance to the nearest of many scattered points, and the gap to the second.

    Both as a share of the points' spacing; the gap is 0 on the borders between cells. `bend` is
    how far the borders are from straight, as a share of the spacing.
    """
    height, width = size
    spacing = max(spacing, 2.0)
    rows, columns = int(height / spacing) + 4, int(width / spacing) + 4
    jitter = rng.uniform(0.1, 0.9, (rows, columns, 2)).astype(np.float32)
    y, x = (np.mgrid[:height, :width] / spacing + 1.5).astype(np.float32)
    y += np.clip(bend * 0.3 * _clouds(size, 0.8 * spacing, rng), -0.5, 0.49)
    x += np.clip(bend * 0.3 * _clouds(size, 0.8 * spacing, rng), -0.5, 0.49)
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
