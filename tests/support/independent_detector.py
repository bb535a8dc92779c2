"""A NIRCam detector as the literature on it reads: the pixels of the independent generator of ramps.

Written apart from `nircam_darks.simulation`, from other authors' conventions, so that an assumption that the
simulator shares with the code under test does not go unnoticed: nghxrg (Rauscher 2015, PASP 127, 1144) and
pynrc for noise and readout, mirage for the sequence reset, charge, IPC, non-linearity, converter; the CV3
ground test and the JWST documentation for the values of each detector, CRDS's READNOISE of NRCBLONG for the
spread of the read noise over pixels. `support.independent_ramps` reads such a detector out.

Units are electrons and seconds; DN only where a converter's output is meant.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from shared.nircam.configuration import ConfigurationKey

Image = NDArray[np.float64]

FULL_FRAME = 2048
BORDER = 4
#: Frames averaged into a group, and frames dropped between groups.
PATTERNS = {
    "RAPID": (1, 0),
    "BRIGHT1": (1, 1),
    "BRIGHT2": (2, 0),
    "SHALLOW2": (2, 3),
    "SHALLOW4": (4, 1),
    "MEDIUM2": (2, 8),
    "MEDIUM8": (8, 2),
    "DEEP2": (2, 18),
    "DEEP8": (8, 12),
}


@dataclass(frozen=True)
class Published:
    """What is published of one detector.

    Attributes
    ----------
    gain : float
        e-/DN.
    dark : float
        Dark current, e- per 1000 s (CV3).
    cds : tuple of float
        CDS noise of each amplifier, e-. NRCBLONG: medians of CRDS's READNOISE; NRCALONG: the table of NRC-09;
        SW: sqrt(2) times the noise of a read (flight), the same in all amplifiers.
    ktc : float
        Noise of the reset, DN (CV3).
    ipc : float
        Charge that a pixel shares with each of its four neighbours, in percent.
    """

    gain: float
    dark: float
    cds: tuple[float, float, float, float]
    ktc: float
    ipc: float


def _alike(cds: float) -> tuple[float, float, float, float]:
    return cds, cds, cds, cds


PUBLISHED = {
    "NRCA1": Published(2.08, 0.4, _alike(16.2), 22.6, 0.488),
    "NRCA2": Published(2.02, 3.0, _alike(14.9), 19.9, 0.516),
    "NRCA3": Published(2.17, 3.0, _alike(14.6), 17.4, 0.568),
    "NRCA4": Published(2.02, 3.2, _alike(15.0), 19.5, 0.557),
    "NRCALONG": Published(1.84, 33.9, _alike(13.25), 22.1, 0.597),
    "NRCB1": Published(2.01, 2.4, _alike(16.6), 27.2, 0.511),
    "NRCB2": Published(2.14, 0.9, _alike(18.1), 19.3, 0.464),
    "NRCB3": Published(1.94, 1.7, _alike(16.8), 23.3, 0.542),
    "NRCB4": Published(2.03, 1.2, _alike(15.77), 25.6, 0.570),
    "NRCBLONG": Published(1.80, 34.9, (14.85, 14.91, 15.35, 15.45), 24.4, 0.554),
}
DETECTORS = tuple(PUBLISHED)
_FAST_IS_MINUS_X = ("NRCA1", "NRCA3", "NRCALONG", "NRCB2", "NRCB4")


@dataclass(frozen=True)
class Scene:
    """What is planted in a set of exposures; a value of None is the detector's own.

    Attributes
    ----------
    rows, columns, first_row, first_column : int
        The subarray on the detector, first row and column 1-based.
    outputs : int
        1 or 4.
    ngroups, nints, exposures : int
    frame_time : float
        s. The full frame's by default: a cut-out at the cadence of a full frame.
    readpatt : str
    dark : float or None
        Dark current of an ordinary pixel, e- per 1000 s.
    dark_spread : float
        Its scatter from pixel to pixel, relative.
    cds : float or None
        Median CDS noise of white and 1/f noise together, e-.
    shared_pink, own_pink : float
        1/f noise that all outputs share, and of each output, e- rms over one frame (see
        `support.independent_ramps.pink_variances`).
    shared_exponent, own_exponent : float
        Power falls as f**-exponent.
    column_noise : float
        Alternating column noise: an own 1/f series of odd and of even columns, e- rms.
    ktc : float or None
        Noise of the reset, DN.
    level, level_scatter, amplifier_scatter : float
        DN: a level common to all exposures, its scatter from integration to integration, and that of each
        amplifier.
    settling, settling_time, settling_spread : float
        Charge of the transient after a reset (e-), its time constant (s), and the relative scatter of the
        pixels' shares in it.
    hits : float
        Cosmic rays, hits/cm2/s.
    snowballs : float
        Mean number of an exposure.
    hot, warm, fast_rc, telegraph, bistable : float
        Fraction of the science pixels.
    telegraph_dwell, telegraph_step : float, (float, float)
        Mean time in either state (s), and range of the step (e-).
    bistable_in : int
        Number of the set's integrations in which a bistable pixel is hot.
    bistable_rate : float
        e-/s while it is.
    persistence, persistence_charge, persistence_time : float
        Fraction of the pixels that the first exposure inherits charge of, that charge (e-), its decay (s).
    ipc, nonlinear : bool
    saturation : float
        DN above the superbias.
    """

    detector: str = "NRCALONG"
    rows: int = 160
    columns: int = 160
    first_row: int = 1201
    first_column: int = 801
    outputs: int = 1
    ngroups: int = 60
    nints: int = 1
    exposures: int = 5
    frame_time: float = 10.73677
    readpatt: str = "RAPID"
    dark: float | None = None
    dark_spread: float = 0.1
    cds: float | None = None
    shared_pink: float = 2.0
    own_pink: float = 1.5
    shared_exponent: float = 1.0
    own_exponent: float = 1.0
    column_noise: float = 0.0
    ktc: float | None = None
    level: float = 0.0
    level_scatter: float = 5.0
    amplifier_scatter: float = 5.0
    settling: float = 0.0
    settling_time: float = 20.0
    settling_spread: float = 0.3
    hits: float = 5.0
    snowballs: float = 0.0
    hot: float = 0.002
    warm: float = 0.005
    fast_rc: float = 0.0003
    telegraph: float = 0.0
    telegraph_dwell: float = 300.0
    telegraph_step: tuple[float, float] = (100.0, 200.0)
    bistable: float = 0.0
    bistable_in: int = 4
    bistable_rate: float = 2.0
    persistence: float = 0.0
    persistence_charge: float = 500.0
    persistence_time: float = 300.0
    ipc: bool = True
    nonlinear: bool = True
    saturation: float = 48000.0
    seed: int = 0

    @classmethod
    def plain(cls, **changes: Any) -> Self:
        """Return a scene of white noise and dark current alone, for closed forms."""
        nothing = dict.fromkeys(
            (
                "shared_pink",
                "own_pink",
                "level_scatter",
                "amplifier_scatter",
                "hits",
                "hot",
                "warm",
                "fast_rc",
            ),
            0.0,
        )
        return cls(**({"ktc": 0.0, "ipc": False, "nonlinear": False, "dark_spread": 0.0} | nothing | changes))

    def but(self, **changes: Any) -> Self:
        """Return this scene with some values changed."""
        return replace(self, **changes)

    @property
    def own(self) -> Published:
        """What is published of its detector."""
        return PUBLISHED[self.detector]

    @property
    def shape(self) -> tuple[int, int]:
        return self.rows, self.columns

    @property
    def frames(self) -> tuple[int, int]:
        """Frames averaged into a group, and dropped after it."""
        return PATTERNS[self.readpatt]

    @property
    def group_time(self) -> float:
        return self.frame_time * sum(self.frames)

    @property
    def read_times(self) -> NDArray[np.float64]:
        """Time since the reset of every frame that is kept, s; 2-D (group, frame of the group)."""
        averaged, dropped = self.frames
        first = np.arange(self.ngroups)[:, None] * (averaged + dropped)
        return (first + np.arange(averaged) + 1) * self.frame_time

    @property
    def fast_towards_plus_x(self) -> bool:
        return self.detector not in _FAST_IS_MINUS_X

    @property
    def subarray(self) -> str:
        if self.shape == (FULL_FRAME, FULL_FRAME):
            return "FULL"
        squares = {(n, n): f"SUB{n}" for n in (160, 320, 640)} | {(64, 64): "SUB64P"}
        return squares.get(self.shape, "SUBGRISM64" if self.outputs == 4 else "SUB160")

    @property
    def key(self) -> ConfigurationKey:
        """The configuration of its exposures."""
        averaged, dropped = self.frames
        return ConfigurationKey(
            detector=self.detector,
            subarray=self.subarray,
            substrt1=self.first_column,
            substrt2=self.first_row,
            subsize1=self.columns,
            subsize2=self.rows,
            noutputs=self.outputs,
            readpatt=self.readpatt,
            nframes=averaged,
            groupgap=dropped,
            tframe=self.frame_time,
            ngroups=self.ngroups,
            exp_type="NRC_DARK",
        )


class IndependentDetector:
    """The pixels of a scene, drawn once for all its exposures.

    All images are (rows, columns). Populations are disjoint.

    Attributes
    ----------
    scene : Scene
    light : ndarray of bool
        False for reference pixels.
    output : ndarray of int
        Amplifier of each column, from 0.
    gain : ndarray
        e-/DN.
    rate : ndarray
        Dark current before IPC, e-/s, without what bistable pixels add.
    superbias : ndarray
        DN.
    hot, warm, fast_rc, telegraph, bistable : ndarray of bool
    rc_charge, rc_time : ndarray
        e-, s; 0 and 1 where a pixel is no fast RC pixel.
    step : ndarray
        Step of a telegraph pixel, e-.
    hot_in : ndarray of bool, 2-D (integrations of the set, bistable pixels)
        In the order of ``np.flatnonzero(bistable)``.
    share : ndarray
        Share of each pixel in the transient after a reset.
    bend : float
        Of a true signal S, in DN, the converter gives S - bend * S**2.
    """

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        rng = np.random.default_rng([scene.seed, 1])
        shape = scene.shape
        self.light = self._light()
        self.output = np.minimum(
            np.arange(scene.columns) // (scene.columns // scene.outputs), scene.outputs - 1
        )
        self.gain = scene.own.gain * (1 + 0.005 * rng.standard_normal(shape))
        self.bend = 1e-6 if scene.nonlinear else 0.0
        self.superbias = self._superbias(rng)
        self._draw_populations(rng)
        dark = scene.own.dark if scene.dark is None else scene.dark
        rate = dark / 1000 * np.clip(1 + scene.dark_spread * rng.standard_normal(shape), 0.2, None)
        rate[self.hot] += 10 ** rng.uniform(-0.3, 1.3, self.hot.sum())
        rate[self.warm] += 10 ** rng.uniform(-1.5, -0.5, self.warm.sum())
        self.rate = np.where(self.light, rate, 0.0)
        share = 1 + scene.settling_spread * rng.standard_normal(shape)
        self.share = np.where(self.light, share, 0.0)
        # CRDS's READNOISE: a core of 4.5 % about the amplifier's median, and some percent of noisy pixels
        spread = np.exp(0.045 * rng.standard_normal(shape))
        noisy = rng.random(shape) < 0.03
        spread[noisy] *= 1 + 0.2 * rng.pareto(2.0, noisy.sum())
        self._spread = np.where(self.light, spread, 0.8 * spread)

    @cached_property
    def kernel(self) -> NDArray[np.float64]:
        """The 3 x 3 kernel of IPC; its sum is 1."""
        a = self.scene.own.ipc / 100 if self.scene.ipc else 0.0
        b = a * a
        return np.array([[b, a, b], [a, 1 - 4 * a - 4 * b, a], [b, a, b]])

    def median_cds(self) -> NDArray[np.float64]:
        """Return the CDS noise of a median pixel of each column's amplifier, e-."""
        scene = self.scene
        if scene.cds is not None:
            return np.full(scene.columns, scene.cds)
        if scene.outputs == 4:
            return np.array(scene.own.cds)[self.output]
        # A subarray's single output is the stripe of the full frame in which it lies
        stripe = (scene.first_column - 1 + scene.columns // 2) // (FULL_FRAME // 4)
        return np.full(scene.columns, scene.own.cds[stripe])

    def white(self, pink_cds_variance: float) -> Image:
        """Return the white noise of a read, e-: what 1/f noise leaves of the CDS noise of each pixel."""
        left = self.median_cds() ** 2 - pink_cds_variance
        if left.min() < 0:
            raise ValueError(f"1/f noise of {pink_cds_variance**0.5:.1f} e- CDS exceeds the CDS noise")
        return np.sqrt(left / 2) * self._spread

    def neighbours_share(self, image: NDArray[Any]) -> NDArray[Any]:
        """Return image(s) after IPC; the last two axes are (rows, columns)."""
        if not self.scene.ipc:
            return image
        a, centre, b = self.kernel[0, 1], self.kernel[1, 1], self.kernel[0, 0]
        result = image * image.dtype.type(centre)
        side = image * image.dtype.type(a)
        result[..., 1:, :] += side[..., :-1, :]
        result[..., :-1, :] += side[..., 1:, :]
        result[..., :, 1:] += side[..., :, :-1]
        result[..., :, :-1] += side[..., :, 1:]
        corner = image * image.dtype.type(b)
        result[..., 1:, 1:] += corner[..., :-1, :-1]
        result[..., 1:, :-1] += corner[..., :-1, 1:]
        result[..., :-1, 1:] += corner[..., 1:, :-1]
        result[..., :-1, :-1] += corner[..., 1:, 1:]
        # A reference pixel collects no charge and shares none
        return np.where(self.light, result, 0)

    def true_rate(self) -> Image:
        """Return the dark current that a measurement would find, e-/s: after IPC, bistable pixels cold."""
        return self.neighbours_share(self.rate)

    def true_ramp(self) -> Image:
        """Return the expected dark ramp minus its first group, e-, 3-D (groups, rows, columns).

        Of what every integration shares: dark current, settling and fast RC pixels.
        """
        scene = self.scene
        times = scene.read_times[..., None, None]
        charge = self.rate * times + self.steady_transients(times)
        groups = self.neighbours_share(charge).mean(axis=1)
        return groups - groups[0]

    def steady_transients(
        self, times: NDArray[np.float64], where: NDArray[np.bool_] | slice = np.s_[:]
    ) -> NDArray[np.float64]:
        """Return the charge of settling and of fast RC pixels at some times since the reset, e-."""
        scene = self.scene
        rising = scene.settling * self.share[where] * (1 - np.exp(-times / scene.settling_time))
        return rising + self.rc_charge[where] * (1 - np.exp(-times / self.rc_time[where]))

    def _light(self) -> NDArray[np.bool_]:
        scene = self.scene
        y = np.arange(scene.first_row - 1, scene.first_row - 1 + scene.rows)
        x = np.arange(scene.first_column - 1, scene.first_column - 1 + scene.columns)
        inside = [(axis >= BORDER) & (axis < FULL_FRAME - BORDER) for axis in (y, x)]
        return inside[0][:, None] & inside[1]

    def _superbias(self, rng: np.random.Generator) -> Image:
        """Return columns with offsets of their own, a glow towards a corner, and a pattern of pixels; DN."""
        scene = self.scene
        columns = 40 * rng.standard_normal(scene.columns)
        amplifier = 300 * rng.standard_normal(scene.outputs)[self.output]
        y, x = np.mgrid[: scene.rows, : scene.columns]
        glow = 200 * np.exp(-np.hypot(y / scene.rows, x / scene.columns) / 0.3)
        return 11000 + columns + amplifier + glow + 150 * rng.standard_normal(scene.shape)

    def _draw_populations(self, rng: np.random.Generator) -> None:
        scene, science = self.scene, np.flatnonzero(self.light)
        order = rng.permutation(science)
        begin = 0
        for name in ("hot", "warm", "fast_rc", "telegraph", "bistable"):
            count = round(getattr(scene, name) * science.size)
            mask = np.zeros(self.light.size, bool)
            mask[order[begin : begin + count]] = True
            setattr(self, name, mask.reshape(scene.shape))
            begin += count
        self.hot: NDArray[np.bool_]
        self.warm: NDArray[np.bool_]
        self.fast_rc: NDArray[np.bool_]
        self.telegraph: NDArray[np.bool_]
        self.bistable: NDArray[np.bool_]
        self.rc_charge, self.rc_time = np.zeros(scene.shape), np.ones(scene.shape)
        count = int(self.fast_rc.sum())
        self.rc_charge[self.fast_rc] = rng.uniform(1500, 5000, count)
        self.rc_time[self.fast_rc] = scene.group_time * rng.uniform(0.3, 0.8, count)
        self.step = np.zeros(scene.shape)
        self.step[self.telegraph] = rng.uniform(*scene.telegraph_step, int(self.telegraph.sum()))
        integrations = scene.exposures * scene.nints
        rank = rng.random((integrations, int(self.bistable.sum()))).argsort(axis=0)
        self.hot_in = rank < scene.bistable_in
