"""A chest: body wall, ribs, spine, mediastinum and two lungs, as smooth shapes of one patient's size.

Anatomical frame in mm, directions as in LPS: x to the patient's left, y to the back, z to the head; x = y = 0 in the
middle of the chest, z = 0 at the level of the domes of the diaphragm. A chest of scale 1 is an adult's.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.synthetic.canvas import Canvas, between, covered
from data.synthetic.shapes import Ellipsoid, Mm, Tube

AIR_HU, FAT_HU, MUSCLE_HU, BLOOD_HU = -1000.0, -100.0, 50.0, 42.0
CORTEX_HU, MARROW_HU = 650.0, 220.0

CAVITY_MM = (122.0, 92.0)
"""Semi-axes of the chest cavity, left-right and front-back."""
APEX_MM, WIDEST_MM = 235.0, 70.0
"""Heights of the lungs' tips, and of the level above which the cavity narrows."""
RIB_STEP_MM, RIB_HALF_HEIGHT_MM, RIB_HALF_DEPTH_MM, RIB_OUTSIDE_MM, RIB_SLOPE = 27.0, 6.0, 3.6, 6.5, 0.45
"""Ribs: distance from one to the next, half their section, depth behind the pleura, descent towards the front."""
CORTEX_FROM = 0.62
"""Share of a rib's section that is marrow."""
BREASTBONE_MM = 14.0
"""Nearer the middle than this are breastbone and spine, which are drawn on their own."""
BACKBONE = (
    (0.0, 6.0, 18.0, CORTEX_HU - 150),
    (0.0, 6.0, 15.5, MARROW_HU - 40),
    (0.0, 31.0, 8.0, MUSCLE_HU - 20),
)
"""Vertebrae, their marrow, and the ligaments behind: x, distance behind the cavity, radius (mm), HU."""
AORTA_MM = (22.0, -28.0, 12.0)
"""x, distance behind the cavity's back, radius."""
GREAT_VESSELS_MM = ((-12.0, -22.0, 15.0), (16.0, -16.0, 13.0))
"""Ascending aorta and pulmonary trunk: x, y, radius."""
ABOVE_HEART_MM = 60.0
"""Scans whose middle is above this level show the great vessels."""
TEXTURE_MM, TEXTURE_HU = 7.0, 28.0
"""Length over which the density of lung tissue wanders, and how far."""


@dataclass(frozen=True)
class Thorax:
    """One patient's chest: `draw_thorax` makes one, `paint_thorax` fills a scan with it, `lung` says where lung is."""

    scale: float
    """1 is an adult's; smaller people are drawn smaller all over."""
    depth: float
    """Front-back size relative to the rest: a barrel chest is above 1."""
    fat_mm: float
    heart: Ellipsoid
    domes: tuple[Ellipsoid, Ellipsoid]
    blood_hu: float
    """Of heart and great vessels: about 40, more with contrast agent."""
    lung_hu: float
    dependent_hu: float
    """How much denser the lung's lowest part (the back, lying) is than its highest."""
    rib_phase_mm: float

    def cavity(self, x: Mm, y: Mm, z: Mm) -> Mm:
        """Signed distance to the inner surface of the chest wall."""
        narrow = np.sqrt(np.clip(1.0 - ((z / self.scale - WIDEST_MM) / (APEX_MM - WIDEST_MM)) ** 2, 0.04, 1.0))
        narrow = np.where(z < WIDEST_MM * self.scale, np.float32(1.0), narrow).astype(np.float32)
        wide, deep = CAVITY_MM[0] * self.scale, CAVITY_MM[1] * self.scale * self.depth
        return _ellipse(x, y, np.float32(wide) * narrow, np.float32(deep) * narrow)

    def lung(self, x: Mm, y: Mm, z: Mm) -> Mm:
        """Signed distance to the lungs' surface, negative in lung."""
        s = self.scale
        distance = self.cavity(x, y, z)
        wide = np.float32(s) * (30.0 + 6.0 * np.cos(z / (35.0 * s))).astype(np.float32)
        np.maximum(distance, -_ellipse(x, y + 14 * s, wide, np.float32(88 * s * self.depth)), out=distance)
        spine_y = CAVITY_MM[1] * s * self.depth
        np.maximum(distance, -_ellipse(x, y - spine_y + 6 * s, np.float32(25 * s), np.float32(30 * s)), out=distance)
        for organ in (self.heart, *self.domes):
            np.maximum(distance, -organ.distance(x, y, z), out=distance)
        return distance

    def outward(self, point: NDArray[np.float64]) -> NDArray[np.float64]:
        """Unit direction in which the lungs' surface is nearest."""
        steps = 0.5 * np.concatenate([np.eye(3), -np.eye(3)])
        ahead, behind = np.split(self.at(point + steps), 2)
        slope = ahead - behind
        direction: NDArray[np.float64] = slope / max(float(np.linalg.norm(slope)), 1e-9)
        return direction

    def at(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """`lung` at points (N, 3)."""
        x, y, z = points.T.astype(np.float32)
        return self.lung(x, y, z).astype(np.float64)


def draw_thorax(rng: np.random.Generator, *, scale: float) -> Thorax:
    """One patient of about this scale."""
    s = scale * rng.uniform(0.93, 1.07)
    contrast = rng.uniform(60, 180) if rng.random() < 0.3 else 0.0
    return Thorax(
        scale=s,
        depth=rng.uniform(0.92, 1.1),
        fat_mm=rng.uniform(6, 22) * s,
        heart=Ellipsoid((22 * s, -26 * s, 30 * s), (rng.uniform(48, 58) * s, 46 * s, rng.uniform(46, 60) * s)),
        domes=(_dome(rng, -60 * s, s), _dome(rng, 62 * s, s)),
        blood_hu=BLOOD_HU + contrast,
        lung_hu=rng.uniform(-900, -830),
        dependent_hu=rng.uniform(10, 70),
        rib_phase_mm=rng.uniform(0, RIB_STEP_MM),
    )


def paint_thorax(canvas: Canvas, thorax: Thorax, rng: np.random.Generator) -> None:
    """Fill a canvas with everything but vessels and findings."""
    grid, hu_ZYX = canvas.grid, canvas.hu_ZYX
    cavity = grid.smooth(thorax.cavity)
    wall_mm = 16 * thorax.scale
    hu_ZYX[:] = AIR_HU
    _fill(hu_ZYX, covered(cavity - wall_mm - thorax.fat_mm, grid.voxel_mm), FAT_HU)
    _fill(hu_ZYX, covered(cavity - wall_mm, grid.voxel_mm), MUSCLE_HU)
    _paint_ribs(canvas, thorax, cavity)
    _paint_middle(canvas, thorax)
    _fill(hu_ZYX, covered(grid.smooth(thorax.lung), grid.voxel_mm), _parenchyma(canvas, thorax, rng))
    _paint_airway(canvas, thorax)


def _ellipse(x: Mm, y: Mm, a: Mm | np.float32, b: Mm | np.float32) -> Mm:
    """Signed distance to an ellipse in each slice, to first order; a few 3D operations, the rest on short axes."""
    level: Mm = np.sqrt((x / a) ** 2 + (y / b) ** 2)
    slope = np.sqrt((x / (a * a)) ** 2 + (y / (b * b)) ** 2)
    # In the very middle both vanish, level being the distance in radii: there the short radius is near enough.
    level *= (level - np.float32(1.0)) / np.maximum(slope, np.float32(1e-6))
    return np.where(slope < 1e-6, -np.minimum(a, b), level)


def _dome(rng: np.random.Generator, x: float, s: float) -> Ellipsoid:
    height = rng.uniform(-45, -25)
    return Ellipsoid((x, 4 * s, height * s), (72 * s, 86 * s, rng.uniform(40, 52) * s))


def _fill(hu_ZYX: NDArray[np.float32], share: NDArray[np.float32], hu: float | NDArray[np.float32]) -> None:
    share *= hu - hu_ZYX
    hu_ZYX += share


def _paint_ribs(canvas: Canvas, thorax: Thorax, cavity: Mm) -> None:
    """Ribs as bands of the chest wall that descend from the spine to the front: a few per cent of the voxels."""
    s, grid = thorax.scale, canvas.grid
    middle, reach = RIB_OUTSIDE_MM * s, (RIB_HALF_DEPTH_MM + 1) * s
    where = np.flatnonzero(np.abs(cavity - np.float32(middle)) < reach)
    k, j, i = np.unravel_index(where, grid.shape_zyx)
    x, y, z = (axis.ravel() / s for axis in grid.axes)
    level = z[k] - RIB_SLOPE * y[j] + thorax.rib_phase_mm
    height = (level + RIB_STEP_MM / 2) % RIB_STEP_MM - RIB_STEP_MM / 2
    depth = cavity.ravel()[where] / s - RIB_OUTSIDE_MM
    section = np.hypot(depth / RIB_HALF_DEPTH_MM, height / RIB_HALF_HEIGHT_MM)
    share = covered((section - 1) * RIB_HALF_DEPTH_MM * s, grid.voxel_mm)
    share *= np.abs(x[i]) > BREASTBONE_MM
    flat = canvas.hu_ZYX.ravel()
    flat[where] += share * (np.where(section > CORTEX_FROM, CORTEX_HU, MARROW_HU) - flat[where])


def _paint_middle(canvas: Canvas, thorax: Thorax) -> None:
    """Spine, breastbone, heart and great vessels; organs below the diaphragm."""
    s, back = thorax.scale, CAVITY_MM[1] * thorax.scale * thorax.depth
    canvas.paint(Ellipsoid((0, -8 * s, 100 * s), (28 * s, 60 * s, 400 * s)), FAT_HU + 20)
    for x, behind, radius, hu in BACKBONE:
        canvas.paint(_column(x * s, back + behind * s, radius * s, s), hu)
    canvas.paint(Ellipsoid((0, -back - 9 * s, 100 * s), (17 * s, 5 * s, 400 * s)), MARROW_HU + 60)
    canvas.paint(thorax.heart, thorax.blood_hu)
    for dome in thorax.domes:
        canvas.paint(dome, MUSCLE_HU + 10)
    x, behind, radius = AORTA_MM
    canvas.paint(_column(x * s, back + behind * s, radius * s, s), thorax.blood_hu)
    if canvas.grid.axes[2].mean() > ABOVE_HEART_MM * s:
        for x, y, radius in GREAT_VESSELS_MM:
            canvas.paint(_column(x * s, y * s, radius * s, s), thorax.blood_hu)


def _column(x: float, y: float, radius: float, s: float) -> Tube:
    """Upright, through every scan there can be."""
    return Tube((x, y, -60 * s), (x, y, 260 * s), radius, radius)


def _paint_airway(canvas: Canvas, thorax: Thorax) -> None:
    """Windpipe, and the main bronchi it divides into."""
    s = thorax.scale
    fork = (0.0, 10 * s, 118 * s)
    canvas.paint(Tube(fork, (0.0, 4 * s, 260 * s), 8.5 * s, 8.5 * s), AIR_HU + 10)
    for side in (-1, 1):
        canvas.paint(Tube(fork, (side * 42 * s, 14 * s, 88 * s), 6.5 * s, 5.0 * s), AIR_HU + 10)


def _parenchyma(canvas: Canvas, thorax: Thorax, rng: np.random.Generator) -> NDArray[np.float32]:
    """Lung tissue: denser towards the back, and wandering a little from place to place."""
    grid = canvas.grid
    back = grid.axes[1] / (2 * CAVITY_MM[1] * thorax.scale * thorax.depth)
    knots = [int(n * step / TEXTURE_MM) + 2 for n, step in zip(grid.shape_zyx, grid.spacing_zyx_mm, strict=True)]
    texture = TEXTURE_HU * rng.standard_normal(knots, dtype=np.float32)
    for axis, n in enumerate(grid.shape_zyx):
        texture = between(n, texture, axis)
    texture += np.float32(thorax.lung_hu) + np.float32(thorax.dependent_hu) * back
    return texture
