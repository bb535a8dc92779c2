"""What flight mode is asked on the independent generator's ramps; tests and the benchmark ask alike.

Each question builds references of some sets and returns numbers against the truth that was planted.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stcal.dark_current.dark_sub import do_correction
from stdatamodels.jwst.datamodels import DarkModel, RampModel

from shared.errors import DarksError
from shared.nircam.dq import PixelFlag
from support.independent_detector import IndependentDetector, Scene
from support.independent_faults import FAULTS, good_scenes
from support.independent_files import calibrated_ramp
from support.independent_measure import UNSTEADY, BuiltScene, build_scene
from support.independent_ramps import expose_independent

#: A set of 215 s ramps at the cadence of a full frame.
SHORT = {"rows": 128, "columns": 128, "ngroups": 20}


@dataclass(frozen=True)
class ErrorAnswer:
    """Whether ERR covers SCI; `beyond` is the fraction of pulls beyond 5 sigma."""

    values: int
    beyond: float
    spread: float
    covered: float


def ask_errors(integrations: int, sets: int, folder: Path, seed: int, **scene: Any) -> ErrorAnswer:
    """Compare SCI with the truth in units of ERR, at some number of integrations."""
    pulls, covered = [], []
    for number in range(sets):
        detector = ("NRCALONG", "NRCA1")[number % 2]
        values = SHORT | {"detector": detector, "exposures": integrations, "seed": seed + number} | scene
        built = build_scene(Scene(**values), folder, verify=False)
        pulls.append(built.pulls())
        covered.append(built.covered())
    every = np.concatenate(pulls)
    middle = 1.4826 * float(np.median(np.abs(every - np.median(every))))
    return ErrorAnswer(every.size, float((np.abs(every) > 5).mean()), middle, float(np.mean(covered)))


@dataclass(frozen=True)
class UnsteadyAnswer:
    """Fractions of pixels that are flagged.

    Attributes
    ----------
    planted, ordinary : int
        Pixels that were planted, and pixels of nothing but dark current, noise and hits.
    flagged : float
        Of the planted pixels, TELEGRAPH or UNRELIABLE_DARK.
    telegraph : float
        Of the ordinary pixels, TELEGRAPH.
    unreliable : float
        Of the ordinary pixels, UNRELIABLE_DARK: hits leave some, above all those beside pixels that jump
        often, without enough measurements.
    """

    planted: int
    flagged: float
    ordinary: int
    telegraph: float
    unreliable: float


def ask_unsteady(kind: str, sets: int, folder: Path, seed: int, **scene: Any) -> UnsteadyAnswer:
    """Count the flags of telegraph or bistable pixels, a hundredth of all pixels."""
    planted = flagged = ordinary = telegraph = unreliable = 0
    for number in range(sets):
        built = build_scene(
            Scene(**(SHORT | {"seed": seed + number, kind: 0.01} | scene)), folder, verify=False
        )
        pixels = getattr(built.detector, kind)
        unsteady = built.quality & UNSTEADY != 0
        planted += int(pixels.sum())
        flagged += int(unsteady[pixels].sum())
        ordinary += int(built.ordinary.sum())
        telegraph += int((built.quality[built.ordinary] & PixelFlag.TELEGRAPH.mask != 0).sum())
        unreliable += int(unsteady[built.ordinary].sum())
    return UnsteadyAnswer(planted, flagged / planted, ordinary, telegraph / ordinary, unreliable / ordinary)


def ask_dark_current(settling: float, sets: int, folder: Path, seed: int) -> NDArray[np.float64]:
    """Return the pulls of the dark current, with a transient of some e- after the reset."""
    pulls = []
    for number in range(sets):
        detector = ("NRCALONG", "NRCB1", "NRCBLONG", "NRCA3")[number % 4]
        scene = Scene(
            detector, rows=64, columns=64, ngroups=20, exposures=6, settling=settling, seed=seed + number
        )
        pulls.append(build_scene(scene, folder, verify=False).dark_current_pull())
    return np.array(pulls)


def ask_good(folder: Path, every: int = 1) -> dict[str, BuiltScene]:
    """Build the good sets, or every so many of them."""
    scenes = list(good_scenes().items())[::every]
    return {name: build_scene(scene, folder) for name, scene in scenes}


def ask_fault(kind: str, detector: str, seed: int, folder: Path) -> str:
    """Return what becomes of a bad set: held, rejected or refused; accepted where nobody saw it."""
    exposures = FAULTS[kind](detector, seed)
    try:
        return build_scene(exposures[0].detector.scene, folder, exposures).outcome
    except DarksError:
        return "refused"


def ask_slopes(detector: str, hits: float, folder: Path, seed: int) -> BuiltScene:
    """Build the dark of 5 x 60 groups whose slope's rms error issue 16 asks for."""
    return build_scene(Scene(detector, hits=hits, seed=seed), folder, verify=False)


@dataclass(frozen=True)
class SlopeNoise:
    """Scatter of the slopes of an exposure over ordinary pixels, e- per 1000 s.

    Attributes
    ----------
    ours, perfect, none : float
        After subtraction of the reference, of the true dark, and of nothing.
    """

    ours: float
    perfect: float
    none: float


def ask_exposure(built: BuiltScene, ngroups: int, readpatt: str = "RAPID") -> SlopeNoise:
    """Subtract a reference from an exposure that is not in it, and look at what is left.

    By the arithmetic of jwst's dark_current step (`stcal.dark_current.dark_sub`), which continues a dark that
    is shorter than the exposure along its last two groups.
    """
    scene = built.scene.but(ngroups=ngroups, readpatt=readpatt, exposures=built.scene.exposures + 1, hits=2.0)
    exposure = expose_independent(IndependentDetector(scene), built.scene.exposures)
    data, groupdq = calibrated_ramp(exposure)
    truth = exposure.detector.true_ramp() / exposure.detector.gain
    model = RampModel(data=data, groupdq=groupdq)
    meta = model.meta.exposure
    meta.nframes, meta.groupgap = scene.frames
    meta.ngroups, meta.nints = ngroups, scene.nints
    with model, DarkModel(built.path) as dark:
        subtracted = np.array(do_correction(model, dark)[0].data)
    quiet = built.ordinary & (built.quality & UNSTEADY == 0) & (groupdq == 0).all(axis=(0, 1))
    times = scene.read_times.mean(axis=1)
    weights = (times - times.mean()) / ((times - times.mean()) ** 2).sum()

    def scatter(ramps: NDArray[Any]) -> float:
        slopes = np.tensordot(ramps[0].astype(np.float64), weights, axes=(0, 0)) * scene.own.gain * 1000
        return float(slopes[quiet].std())

    return SlopeNoise(scatter(subtracted), scatter(data - truth), scatter(data))
