"""Cosmic rays: their rate, their charge, and the pixels over which it spreads."""

import functools
import json
import math
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from shared.nircam.detectors import PIXEL_PITCH_UM

#: Depth of the HgCdTe layer in pixels: 8 um.
DEPTH = 8.0 / PIXEL_PITCH_UM
#: Width (sigma) of the cloud of charge when it is collected, in pixels: 2.5 um of lateral diffusion. With
#: it a flight-like rate flags about 10 % of the pixels in 1000 s, the upper end of what NIRCam shows.
DIFFUSION = 2.5 / PIXEL_PITCH_UM
#: Fraction of the charge that appears in each of the four neighbours, by inter-pixel capacitance: 0.5 %, as
#: in the ground test (0.46 to 0.60 %).
COUPLING = 0.005
#: The four pixels that share an edge with one: (down, right).
NEIGHBOURS = ((1, 0), (-1, 0), (0, 1), (0, -1))
#: Number of points along a track at which charge is deposited.
_STEPS = 9
#: Maximum length of a track (pixels), for grazing particles.
_LONGEST = 12.0
#: Distance (pixels) from the subarray within which hits still leave charge inside.
_MARGIN = 14


@dataclass(frozen=True)
class Scene:
    """Hits/cm2/s behind JWST's shielding, and the charge of a hit (e-) at the library's probabilities."""

    rate: float
    quantiles: NDArray[np.float64]


@dataclass(frozen=True)
class ChargeLibrary:
    """Charge per hit. Source: M. Robberto's library for JWST's detectors (MIT licence), as quantiles."""

    probabilities: NDArray[np.float64]
    scenes: dict[str, Scene]

    def draw(self, scene: str, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Return the charge of `count` hits, e-, shape (count,)."""
        logs = np.interp(rng.random(count), self.probabilities, np.log(self.scenes[scene].quantiles))
        return np.exp(logs)


@functools.cache
def charge_library() -> ChargeLibrary:
    """Return the charge library."""
    text = resources.files("nircam_darks.simulation").joinpath("cosmic_rays.json").read_text()
    content: dict[str, Any] = json.loads(text)
    return ChargeLibrary(
        probabilities=np.array(content["probabilities"]),
        scenes={
            name: Scene(rate=scene["rate"], quantiles=np.array(scene["quantiles"]))
            for name, scene in content["scenes"].items()
        },
    )


@dataclass(frozen=True)
class Deposit:
    """Charge deposited in some interval of time.

    Attributes
    ----------
    pixels : ndarray of int, 1D
        Flat indices, ascending, each once.
    charge : ndarray of float32, 1D
        e-, as long as `pixels`.
    hits : int
        Hits that enter in a pixel that collects charge.
    """

    pixels: NDArray[np.intp]
    charge: NDArray[np.float32]
    hits: int


#: No hit.
NOTHING = Deposit(np.empty(0, np.intp), np.empty(0, np.float32), 0)


def draw_deposit(
    collecting: NDArray[np.bool_],
    rate: float,
    seconds: float,
    scene: str,
    rng: np.random.Generator,
) -> Deposit:
    """Draw the hits of `seconds` on a subarray.

    Particles arrive isotropically, so that the flux through the layer goes as the cosine of the angle of
    incidence. Their charge is deposited evenly along the track, and spreads by diffusion and coupling.

    Parameters
    ----------
    collecting : ndarray of bool, 2D (rows, columns)
        False for reference and dead pixels.
    rate : float
        hits/cm2/s.
    """
    rows, columns = collecting.shape
    area = (rows + 2 * _MARGIN) * (columns + 2 * _MARGIN) * (PIXEL_PITCH_UM * 1e-4) ** 2
    count = int(rng.poisson(rate * seconds * area))
    if not count:
        return NOTHING
    y = rng.uniform(-_MARGIN, rows + _MARGIN, count)
    x = rng.uniform(-_MARGIN, columns + _MARGIN, count)
    charge = charge_library().draw(scene, count, rng)
    # Flux through a plane: the cosine of the angle of incidence is distributed as 2 c dc.
    cosine = np.sqrt(1 - rng.random(count))
    length = np.minimum(DEPTH * np.sqrt(1 - cosine**2) / cosine, _LONGEST)
    azimuth = rng.uniform(0, 2 * math.pi, count)
    along = (np.arange(_STEPS) + 0.5) / _STEPS
    ys = y[:, None] + along * (length * np.sin(azimuth))[:, None]
    xs = x[:, None] + along * (length * np.cos(azimuth))[:, None]
    parts = np.repeat(charge / _STEPS, _STEPS)
    pixels, values = _collect(ys.ravel(), xs.ravel(), parts, collecting)
    inside = (y >= 0) & (y < rows) & (x >= 0) & (x < columns)
    hits = int(collecting[y[inside].astype(int), x[inside].astype(int)].sum())
    return Deposit(pixels, values, hits)


def snowball(collecting: NDArray[np.bool_], rng: np.random.Generator) -> Deposit:
    """Draw one snowball: a round saturated core within a halo that falls off exponentially.

    The core has a radius of 2 to 5 pixels and the halo reaches about three times as far, like flight
    snowballs on NIRCam's detectors; core pixels receive several full wells.
    """
    rows, columns = collecting.shape
    radius = rng.uniform(2.0, min(5.0, 2.0 + min(rows, columns) / 64))
    y0, x0 = rng.uniform(0.2, 0.8, 2) * (rows, columns)
    y, x = np.indices(collecting.shape)
    distance = np.hypot(y + 0.5 - y0, x + 0.5 - x0)
    core = np.where(distance <= radius, 2.5e5, 0.0)
    halo = np.where(distance > radius, 2.0e4 * np.exp((radius - distance) / (0.8 * radius)), 0.0)
    charge = np.where(collecting, core + halo, 0.0)
    pixels = np.flatnonzero(charge > 1.0)
    return Deposit(pixels, charge.ravel()[pixels].astype(np.float32), 1)


def merge(deposits: list[Deposit], weights: list[float]) -> Deposit:
    """Return the weighted sum of deposits; each hit counts fully."""
    pixels = np.concatenate([deposit.pixels for deposit in deposits])
    charge = np.concatenate(
        [deposit.charge * np.float32(weight) for deposit, weight in zip(deposits, weights, strict=True)]
    )
    unique, where = np.unique(pixels, return_inverse=True)
    summed = np.bincount(where, weights=charge, minlength=unique.size).astype(np.float32)
    return Deposit(unique, summed, sum(deposit.hits for deposit in deposits))


def _collect(
    y: NDArray[np.float64],
    x: NDArray[np.float64],
    charge: NDArray[np.float64],
    collecting: NDArray[np.bool_],
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Spread points of charge over 3 x 3 pixels by diffusion, then to neighbours by coupling."""
    row, column = np.floor(y).astype(np.intp), np.floor(x).astype(np.intp)
    share_y, share_x = _shares(y - row), _shares(x - column)
    near = np.arange(-1, 2)
    shape = (y.size, 3, 3)
    rows = np.broadcast_to(row[:, None, None] + near[:, None], shape).ravel()
    columns = np.broadcast_to(column[:, None, None] + near, shape).ravel()
    values = (charge[:, None, None] * share_y[:, :, None] * share_x[:, None, :]).ravel()
    spread = (
        (0, 0, 1 - 4 * COUPLING),
        (0, 1, COUPLING),
        (0, -1, COUPLING),
        (1, 0, COUPLING),
        (-1, 0, COUPLING),
    )
    rows = np.concatenate([rows + dy for dy, _, _ in spread])
    columns = np.concatenate([columns + dx for _, dx, _ in spread])
    values = np.concatenate([values * part for _, _, part in spread])
    height, width = collecting.shape
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    flat = rows[inside] * width + columns[inside]
    values = values[inside]
    seen = collecting.ravel()[flat]
    unique, where = np.unique(flat[seen], return_inverse=True)
    return unique, np.bincount(where, weights=values[seen], minlength=unique.size).astype(np.float32)


def _shares(offset: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the parts of a Gaussian cloud that fall below, in and above its pixel, shape (n, 3)."""
    lower = special.ndtr((0 - offset) / DIFFUSION)
    upper = special.ndtr((1 - offset) / DIFFUSION)
    return np.stack([lower, upper - lower, 1 - upper], axis=1)
