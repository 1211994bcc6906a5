"""A made-up production line: pictures of a turned flange on a belt, good and defective, and a small dataset of them.

Out: pictures uint8 `(size, size, 3)` BGR and masks bool `(size, size)`; outside its mask a defective part is the good
one to the last bit. Everything follows from the generator that is passed in: the same state gives the same pixels
(on one machine, with one version of NumPy and of OpenCV).

A part is a map of slopes on a grid twice as fine as the picture. Two area lights and a dome are reflected in it with
an anisotropic gloss (Ward 1992, with a Gaussian light): the marks of the tool spread a reflection across them, which
gives turned metal its bow-tie sheen. A defect changes slope and reflectance before the light falls on them.
"""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from simplenet_edge.errors import ConfigError, DataError
from simplenet_edge.spec import Frames
from simplenet_edge.synthetic import defects as demo_defects
from simplenet_edge.synthetic.defects import Damage, Field, Mask

__all__ = ["DEFECTS", "render_dent", "render_part", "render_scratch", "render_stain", "write_demo_dataset"]

_Make = Callable[[np.random.Generator, int, tuple[float, float]], Damage]

_FINE = 2  # grid points a pixel, each way
_MIN_SIZE, _MAX_SIZE = 64, 1024  # pixels

# The part; radii and lengths in shares of the picture's side.
_BORE, _HUB, _BOLT_CIRCLE, _BOLT, _RIM = 0.105, 0.200, 0.317, 0.026, 0.425
_CHAMFER, _SINK = 0.010, 0.007
_GROOVES, _N_BOLTS = (0.250, 0.384), 6
_THICKNESS_SEEN = 0.007  # how far the lower rim of a hole is shifted by the perspective

# The light. A flat mirror shows the camera at (0, 0); a slope moves the reflection by twice itself.
_LIGHTS = ((-0.66, -0.54, 0.40, 2.1), (0.85, 0.25, 0.60, 0.6))  # x (right), y (down), width, strength
_DOME = 0.17
_GLOSS = 0.45  # how far the marks of the tool spread a reflection across them
_NEARNESS = 0.50  # how far a light moves from one side of the part to the other
_STEEL_BGR = np.asarray([250, 247, 241], np.float32)

_VISIBLE = 3.5  # grey levels; a smaller change is lost in the noise of the sensor


@dataclass(frozen=True)
class _Part:
    """What varies between two good parts. Pixels of the picture, degrees."""

    size: int
    centre_xy: tuple[float, float]
    bolt_angle: float
    grain_angle: float
    brightness: float
    defocus: float
    texture_seed: int
    noise_seed: int


@dataclass(frozen=True)
class _Surface:
    """The fine grid, all `(H, W)`: downhill slope, unit vector across the tool marks, share of metal, light behind."""

    slope_x: Field
    slope_y: Field
    across_x: Field
    across_y: Field
    metal: Field
    backdrop: Field


def render_part(rng: np.random.Generator, size: int = 320) -> Frames:
    """A picture of a good part, uint8 `(size, size, 3)` BGR. Raises ConfigError for a size out of range."""
    part = _draw_part(rng, size)
    return _develop(part, _expose(part, _surface(part)))


def render_scratch(rng: np.random.Generator, size: int = 320) -> tuple[Frames, Mask]:
    """The part that `render_part` gives for the same generator, with a scratch, and its mask."""
    return _render_damaged(rng, size, demo_defects.scratch, clearance=0.025)


def render_dent(rng: np.random.Generator, size: int = 320) -> tuple[Frames, Mask]:
    """The part that `render_part` gives for the same generator, with a dent, and its mask."""
    return _render_damaged(rng, size, demo_defects.dent, clearance=0.040)


def render_stain(rng: np.random.Generator, size: int = 320) -> tuple[Frames, Mask]:
    """The part that `render_part` gives for the same generator, with a stain, and its mask."""
    return _render_damaged(rng, size, demo_defects.stain, clearance=0.035)


DEFECTS: dict[str, Callable[[np.random.Generator, int], tuple[Frames, Mask]]] = {
    "scratch": render_scratch,
    "dent": render_dent,
    "stain": render_stain,
}
"""The defect classes and what renders them."""

_SPLITS = ("train/good", "test/good", *(f"test/{name}" for name in DEFECTS))


def write_demo_dataset(
    root: Path,
    *,
    n_train: int = 60,
    n_test_good: int = 20,
    n_defect_per_class: int = 8,
    size: int = 320,
    seed: int = 0,
) -> None:
    """Write a dataset in the MVTec AD layout: good parts to train on, good and defective ones to test, with masks.

    A picture depends on `seed`, its folder and its number only. The folder appears at `root` when it is complete.
    Raises ConfigError for a count, size or seed that can't work, DataError where `root` exists and isn't an empty
    folder, or where the disk refuses.
    """
    if n_train < 1 or min(n_test_good, n_defect_per_class, seed) < 0:
        raise ConfigError(
            "expected n_train of at least 1 and no negative count or seed, found "
            f"{n_train=}, {n_test_good=}, {n_defect_per_class=}, {seed=}"
        )
    _check_size(size)
    root = root.resolve()
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise DataError(f"{root} exists and isn't an empty folder; name another folder or remove it first")
    counts = (n_train, n_test_good, *(n_defect_per_class for _ in DEFECTS))
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{root.name}.", dir=root.parent))
        try:
            for number, (split, count) in enumerate(zip(_SPLITS, counts, strict=True)):
                for index in range(count):
                    rng = np.random.default_rng((seed, number, index))
                    _write_sample(staging, split, f"{index:03d}", rng, size)
            staging.chmod(0o755)
            if root.exists():
                root.rmdir()
            os.replace(staging, root)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        raise DataError(f"{root} can't be written ({error}); nothing was left there") from error


def _write_sample(folder: Path, split: str, stem: str, rng: np.random.Generator, size: int) -> None:
    kind = split.rpartition("/")[2]
    if kind == "good":
        image = render_part(rng, size)
    else:
        image, mask = DEFECTS[kind](rng, size)
        _write_png(folder / "ground_truth" / kind / f"{stem}_mask.png", mask.astype(np.uint8) * 255)
    _write_png(folder / split / f"{stem}.png", image)


def _write_png(path: Path, image: npt.NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", image)[1].tobytes())


def _check_size(size: int) -> None:
    if not _MIN_SIZE <= size <= _MAX_SIZE:
        raise ConfigError(f"the side of a picture must be within {_MIN_SIZE}..{_MAX_SIZE} pixels, not {size}")


def _draw_part(rng: np.random.Generator, size: int) -> _Part:
    _check_size(size)
    return _Part(
        size=size,
        centre_xy=(size * (0.5 + rng.uniform(-0.009, 0.009)), size * (0.5 + rng.uniform(-0.009, 0.009))),
        bolt_angle=rng.uniform(-4, 4),
        grain_angle=rng.uniform(-15, 15),
        brightness=rng.uniform(0.96, 1.04),
        defocus=rng.uniform(0.40, 0.65) * size / 320,
        texture_seed=int(rng.integers(2**32)),
        noise_seed=int(rng.integers(2**32)),
    )


def _render_damaged(rng: np.random.Generator, size: int, make: _Make, clearance: float) -> tuple[Frames, Mask]:
    """A part with the damage that `make` gives, centred at least `clearance` (a share of the side) inside the metal."""
    part = _draw_part(rng, size)
    surface = _surface(part)
    side = size * _FINE
    solid = np.asarray(surface.metal == 1, np.uint8)
    places = np.flatnonzero(cv2.distanceTransform(solid, cv2.DIST_L2, 3) > clearance * side)
    y, x = divmod(int(rng.choice(places)), side)
    clean = _expose(part, surface)
    change = _expose(part, surface, make(rng, side, (x, y))) - clean
    inside = cv2.resize(solid, (size, size), interpolation=cv2.INTER_AREA) == 1
    mask = demo_defects.outline((np.abs(change).max(axis=2) >= _VISIBLE) & inside) & inside
    return _develop(part, clean + change * mask[:, :, None]), mask


def _surface(part: _Part) -> _Surface:
    """The part as a surface: a turned flange, a ground hub, a bore and bolt holes, above a belt."""
    side = part.size * _FINE
    rng = np.random.default_rng(part.texture_seed)
    centre_x, centre_y = (pixel * _FINE for pixel in part.centre_xy)
    grid = np.s_[:side, :side]
    radius, out_x, out_y = _polar(grid, (centre_x, centre_y))
    shadow_radius = _polar(grid, (centre_x + 0.010 * side, centre_y + 0.008 * side))[0]

    to_square = cv2.WARP_INVERSE_MAP | cv2.WARP_FILL_OUTLIERS | cv2.INTER_LINEAR
    turned = cv2.warpPolar(_turned(rng, side), (side, side), (centre_x, centre_y), side / 2, to_square)
    hub = (radius > (_BORE + _CHAMFER) * side) & (radius < _HUB * side)
    angle = math.radians(part.grain_angle)
    grain_x, grain_y = np.float32(math.cos(angle)), np.float32(math.sin(angle))
    to_patch = np.asarray([[grain_x, grain_y, 0], [-grain_y, grain_x, 0]], np.float64)
    to_patch[:, 2] = side / 4 - to_patch[:, :2] @ (centre_x, centre_y)
    patch = 0.045 * _streaks(rng, (side // 2, side // 2), 1.1, 20)
    grain = cv2.warpAffine(patch, to_patch, (side, side), flags=cv2.WARP_INVERSE_MAP | cv2.INTER_LINEAR)
    surface = _Surface(
        slope_x=np.where(hub, grain * grain_x, turned * out_x),
        slope_y=np.where(hub, grain * grain_y, turned * out_y),
        across_x=np.where(hub, grain_x, out_x),
        across_y=np.where(hub, grain_y, out_y),
        metal=_ramp(_RIM * side - radius) * _ramp(radius - _BORE * side),
        backdrop=_belt(rng, side) * (1 - 0.65 * _ramp((_RIM * side - shadow_radius) / (0.02 * side))),
    )
    for bolt in range(_N_BOLTS):
        angle = math.radians(part.bolt_angle + bolt * 360 / _N_BOLTS)
        _drill(surface, centre_x, centre_y, angle)
    return surface


def _turned(rng: np.random.Generator, side: int) -> Field:
    """The outward slope of a turned part in polar form: rows are angles, columns radii up to half a side."""
    radius = np.linspace(0, 0.5, side, endpoint=False, dtype=np.float32)
    profile = np.zeros((1, side), np.float32)
    profile[:, (radius > _BORE) & (radius < _BORE + _CHAMFER)] = -0.42
    profile[:, (radius > _HUB) & (radius < _HUB + _CHAMFER)] = 0.45
    profile[:, radius > _RIM - _CHAMFER] = 0.42
    for groove in _GROOVES:
        profile[:, np.abs(radius - groove + 0.002) < 0.002] = 0.16
        profile[:, np.abs(radius - groove - 0.002) < 0.002] = -0.16
    rings = 0.040 * _streaks(rng, (1, side), 1.5, 1) + 0.015 * _streaks(rng, (1, side), 6, 1)
    turns = np.tile(rng.standard_normal((side // 2, side), np.float32), (2, 1))
    arcs = _blurred(turns, 1.3, 6)[side // 4 : side // 4 + side // 2]  # one turn out of two: no seam
    return _field(_blurred(profile, 2.0, 1) + rings + cv2.resize(0.040 / arcs.std() * arcs, (side, side)))


def _belt(rng: np.random.Generator, side: int) -> Field:
    """The light from a woven belt: each picture shows another stretch of it, brighter towards the upper left."""
    thread = np.arange(side, dtype=np.float32) * (2 * math.pi * 80 / side)
    weave = np.sin(thread[None, :] + rng.uniform(0, 7)) * np.sin(thread[:, None] + rng.uniform(0, 7))
    fluff = cv2.resize(_streaks(rng, (side // 2, side // 2), 0.7, 0.7), (side, side))
    falloff = np.linspace(1.2, 0.8, side, dtype=np.float32)
    return _field(0.105 * (1 + 0.10 * weave + 0.14 * fluff) * falloff[None, :] * falloff[:, None])


def _drill(surface: _Surface, centre_x: float, centre_y: float, angle: float) -> None:
    """Cut a countersunk bolt hole into the surface, in place; a strip of its wall shows on the far side."""
    side = surface.metal.shape[0]
    cos, sin = math.cos(angle), math.sin(angle)
    x, y = centre_x + _BOLT_CIRCLE * side * cos, centre_y + _BOLT_CIRCLE * side * sin
    reach = math.ceil((_BOLT + _SINK) * side) + 2
    here = np.s_[int(y) - reach : int(y) + reach + 1, int(x) - reach : int(x) + reach + 1]
    radius, out_x, out_y = _polar(here, (x, y))

    sink = _ramp((_BOLT + _SINK) * side - radius)
    surface.slope_x[here] += sink * (-0.45 * out_x - surface.slope_x[here])
    surface.slope_y[here] += sink * (-0.45 * out_y - surface.slope_y[here])
    surface.across_x[here] = np.where(sink > 0.5, out_x, surface.across_x[here])
    surface.across_y[here] = np.where(sink > 0.5, out_y, surface.across_y[here])
    surface.metal[here] *= _ramp(radius - _BOLT * side)

    shift = _THICKNESS_SEEN * side
    through = _ramp((_BOLT * side - _polar(here, (x - shift * cos, y - shift * sin))[0]) / 2)
    wall = 0.24 + 0.12 * (0.78 * out_x + 0.62 * out_y)
    hole = through * 0.7 * surface.backdrop[here] + (1 - through) * wall
    surface.backdrop[here] = np.where(radius < _BOLT * side + 2, hole, surface.backdrop[here])


def _expose(part: _Part, surface: _Surface, damage: Damage | None = None) -> Field:
    """The light on the sensor without its noise: float32 `(size, size, 3)` BGR, 0 to 255."""
    slope_x, slope_y = surface.slope_x, surface.slope_y
    if damage is not None:
        slope_x = slope_x - cv2.Sobel(damage.height, cv2.CV_32F, 1, 0, scale=1 / 8)
        slope_y = slope_y - cv2.Sobel(damage.height, cv2.CV_32F, 0, 1, scale=1 / 8)
    metal = surface.metal
    scene = metal * _reflected(surface, slope_x, slope_y) + (1 - metal) * surface.backdrop
    response = 1 - np.exp(-part.brightness * _through_lens(part, scene))  # a soft shoulder instead of clipping
    light = response[:, :, None] * _STEEL_BGR
    if damage is not None:
        light *= _through_lens(part, 1 + metal[:, :, None] * (damage.reflectance - 1))
    return _field(light)


def _reflected(surface: _Surface, slope_x: Field, slope_y: Field) -> Field:
    """How much light metal with these slopes sends to the camera, `(H, W)`."""
    side = slope_x.shape[0]
    place = np.linspace(-_NEARNESS / 2, _NEARNESS / 2, side, dtype=np.float32)
    total = np.full((side, side), _DOME, np.float32)
    for light_x, light_y, width, strength in _LIGHTS:
        miss_x = light_x - place[None, :] - 2 * slope_x
        miss_y = light_y - place[:, None] - 2 * slope_y
        across = (miss_x * surface.across_x + miss_y * surface.across_y) ** 2
        along = miss_x * miss_x + miss_y * miss_y - across
        spread = width**2 + _GLOSS**2
        total += strength * width / math.sqrt(spread) * np.exp(-across / (2 * spread) - along / (2 * width**2))
    return total


def _through_lens(part: _Part, scene: Field) -> Field:
    """The fine grid out of focus by a little and gathered into pixels, `(size, size)` or `(size, size, 3)`."""
    sigma = part.defocus * _FINE
    return _field(cv2.resize(_blurred(scene, sigma, sigma), (part.size, part.size), interpolation=cv2.INTER_AREA))


def _develop(part: _Part, light: Field) -> Frames:
    """What the sensor makes of the light: noise that grows with it, 8 bits."""
    noise = np.random.default_rng(part.noise_seed).standard_normal(light.shape, np.float32)
    return np.asarray(np.clip(np.rint(light + (1 + 0.006 * light) * noise), 0, 255), np.uint8)


def _streaks(rng: np.random.Generator, shape: tuple[int, int], sigma_x: float, sigma_y: float) -> Field:
    noise = _blurred(rng.standard_normal(shape, np.float32), sigma_x, sigma_y)
    return _field(noise / noise.std())


def _blurred(image: Field, sigma_x: float, sigma_y: float) -> Field:
    return _field(cv2.GaussianBlur(image, (0, 0), sigmaX=sigma_x, sigmaY=sigma_y))


def _polar(grid: tuple[slice, slice], origin_xy: tuple[float, float]) -> tuple[Field, Field, Field]:
    """The distance of the grid's points (rows, columns) from the origin and the unit vector away from it, `(H, W)`."""
    y, x = np.ogrid[grid]
    dx, dy = np.float32(x - origin_xy[0]), np.float32(y - origin_xy[1])
    radius = np.sqrt(dx * dx + dy * dy)
    inverse = 1 / np.maximum(radius, 1)
    return _field(radius), _field(dx * inverse), _field(dy * inverse)


def _ramp(distance: Field) -> Field:
    """The share of a grid point that lies inside an edge at this distance, in grid points."""
    return _field(np.clip(distance + 0.5, 0, 1))


def _field(values: npt.NDArray[Any]) -> Field:
    return np.asarray(values, np.float32)
