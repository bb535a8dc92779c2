"""Simulated sets of calibrated darks for the coverage test: the simulator's exposures, then what ingest does.

What ingest leaves is reached by a short cut: the superbias is subtracted and the linearity inverted with the
simulator's own maps, and jumps are flagged by stcal's detection with jwst's defaults. jwst's own steps, above
all the reference pixel correction, do not run.
"""

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.time import Time
from numpy.typing import NDArray
from stcal.jump.jump import detect_jumps_data
from stcal.jump.jump_class import JumpData
from stdatamodels.jwst.datamodels import RampModel, dqflags

from nircam_darks.simulation.detector import SimulatedPixels
from nircam_darks.simulation.exposure import clocking_of, expose
from nircam_darks.simulation.headers import exposure_headers
from nircam_darks.simulation.noise import ONE_OVER_F, one_over_f_cds_variance
from nircam_darks.simulation.references import cds_noise_dn
from nircam_darks.simulation.simulate import SimulationPlan, simulated_pixels
from shared.contracts.messages import Envelope, ExposureIngested
from shared.nircam.configuration import ConfigurationKey
from shared.store.local import LocalStore
from support.darkref_sets import commit_set, write_ramp

_START = Time("2022-04-18T00:00:00", scale="utc", format="isot", precision=3)
#: The full frame's frame time, s.
FULL_FRAME_SECONDS = 10.73677
_SATURATED = np.uint8(dqflags.pixel["SATURATED"])


@dataclass(frozen=True)
class SlowPlan(SimulationPlan):
    """A subarray read at the full frame's cadence: what a full frame shows, of a cut-out of it."""

    @property
    def tframe(self) -> float:
        """Frame time, s."""
        return FULL_FRAME_SECONDS


@dataclass(frozen=True)
class Layout:
    """How exposures are taken.

    Attributes
    ----------
    subarray : str
    slow : bool
        At the full frame's cadence.
    ngroups, nints : int
        Of an exposure.
    hit_rate : float or None
        hits/cm2/s; None: the library's own.
    """

    subarray: str
    slow: bool
    ngroups: int
    nints: int
    hit_rate: float | None


#: Short ramps have a raised rate of hits, so that an exposure has some hundred of them.
LAYOUTS = {
    "SUB160": Layout("SUB160", False, 20, 5, 40.0),
    "SUBGRISM64": Layout("SUBGRISM64", False, 8, 5, 40.0),
    "SUB160 slow": Layout("SUB160", True, 20, 1, None),
    "FULL": Layout("FULL", False, 4, 1, None),
}
#: Where a subarray can be read through one or four.
OUTPUTS = {"SUBGRISM64": 4, "FULL": 4}


def plan_of(detector: str, layout: str, ramps: int, seed: int) -> SimulationPlan:
    """Return the plan of a set; the seed draws its pixels, too."""
    how = LAYOUTS[layout]
    kind = SlowPlan if how.slow else SimulationPlan
    return kind(
        detector,
        how.subarray,
        ngroups=how.ngroups,
        nints=how.nints,
        exposures=ramps // how.nints,
        noutputs=OUTPUTS.get(how.subarray),
        cosmic_ray_rate=how.hit_rate,
        seed=seed,
    )


def pipeline_plan(detector: str, subarray: str, seed: int) -> SimulationPlan:
    """Return the plan of ten ramps that go through the whole pipeline."""
    rate = LAYOUTS["SUB160"].hit_rate
    return SimulationPlan(
        detector, subarray, ngroups=20, nints=5, exposures=2, cosmic_ray_rate=rate, seed=seed
    )


@dataclass(frozen=True)
class DrawnSet:
    """A set in a store: its plan and pixels, and the messages that announce it and its first exposure."""

    plan: SimulationPlan
    pixels: SimulatedPixels
    ready: Envelope
    first_exposure: Envelope


def draw_set(plan: SimulationPlan, store: LocalStore, folder: Path) -> DrawnSet:
    """Draw the exposures of a plan and commit them as ingest would; `folder` is for files in the making."""
    pixels = simulated_pixels(plan)
    primary, _ = exposure_headers(plan, 1, 1, _START)
    key = ConfigurationKey.from_header(primary, "simulated")
    files = []
    for n in range(plan.exposures):
        data, groupdq = calibrated(plan, pixels, np.random.default_rng([plan.seed, n]))
        files.append(write_ramp(folder / f"jw{n:03d}_jump.fits", key, data, groupdq))
    many = [key] * plan.exposures
    ready = commit_set(store, files, many, [plan.nints] * plan.exposures, gain=pixels.gain, simulated=True)
    for file in files:
        file.unlink()
    content = ready.content
    ingested = ExposureIngested(
        member=content.members[0],
        versions={},
        configuration=content.configuration,
        key=key,
        gain=pixels.gain,
        simulated=True,
    )
    return DrawnSet(plan, pixels, ready, Envelope.of(ingested, identity=content.set_id))


def calibrated(
    plan: SimulationPlan, pixels: SimulatedPixels, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return SCI (DN) and GROUPDQ of one exposure, both 4-D (integrations, groups, y, x)."""
    shape = (plan.nints, plan.ngroups, *plan.shape)
    data = np.empty(shape, np.float32)
    groupdq = np.zeros(shape, np.uint8)
    for group in expose(plan, pixels, rng):
        measured = group.data - pixels.superbias
        data[group.integration, group.group] = measured + pixels.nonlinearity * measured**2
        groupdq[group.integration, group.group].ravel()[group.saturated] |= _SATURATED
    pink = ONE_OVER_F[plan.device.channel]
    noise = cds_noise_dn(pixels, one_over_f_cds_variance(clocking_of(plan), pink.common + pink.each))
    return data, groupdq | _jumps(data, groupdq, noise, pixels)


def _jumps(
    data: NDArray[np.float32], groupdq: NDArray[np.uint8], noise: NDArray[np.float32], pixels: SimulatedPixels
) -> NDArray[np.uint8]:
    model: Any = RampModel(data.shape)
    model.data = data.copy()
    model.groupdq = groupdq.copy()
    model.pixeldq = np.where(pixels.science, 0, dqflags.pixel["REFERENCE_PIXEL"]).astype(np.uint32)
    model.meta.exposure.nframes = 1
    with _hushed():
        result = JumpData(model, np.full(data.shape[2:], pixels.gain, np.float32), noise, dqflags.pixel)
        result.max_cores = "1"
        flags = detect_jumps_data(result)[0]
    jumps: NDArray[np.uint8] = (flags & dqflags.pixel["JUMP_DET"]).astype(np.uint8)
    return jumps


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    log = logging.getLogger("stcal")
    level = log.level
    log.setLevel(logging.ERROR)
    yield
    log.setLevel(level)
