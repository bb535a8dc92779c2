"""Files of the independent generator's exposures: raw, calibrated, and the reference files they need.

`raw_exposure_file` and `independent_references` let the whole system run on them. `calibrated_ramp` is a
short cut past ingest for tests of what follows it: superbias, reference pixels and non-linearity by the
truth itself, jumps by stcal's own detection with jwst's defaults.
"""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stcal.jump.jump import detect_jumps_data
from stcal.jump.jump_class import JumpData
from stdatamodels.jwst import datamodels as dm
from stdatamodels.jwst.datamodels import dqflags

from services.ingest.steps import STEPS
from shared.contracts.messages import Envelope
from shared.store.base import Store
from support.darkref_sets import commit_set, write_ramp
from support.independent_detector import IndependentDetector, Scene
from support.independent_ramps import IndependentExposure, expose_set
from support.ingest_exposures import edit

#: Start of the first exposure, MJD UTC: 2022-04-18.
FIRST_MJD = 59687.25
_DAY = 86400.0
_FLAGS: dict[str, int] = dqflags.pixel
_DQ_DEF = np.array(
    [
        (0, _FLAGS["DO_NOT_USE"], "DO_NOT_USE", "bad"),
        (1, _FLAGS["REFERENCE_PIXEL"], "REFERENCE_PIXEL", "border"),
    ],
    dtype=[("BIT", "<u4"), ("VALUE", "<u4"), ("NAME", "S40"), ("DESCRIPTION", "S80")],
)


def calibrated_ramp(exposure: IndependentExposure) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return SCI (DN) and GROUPDQ as ingest would leave them, both 4-D (integrations, groups, y, x)."""
    detector = exposure.detector
    data = exposure.raw.astype(np.float32) - detector.superbias.astype(np.float32)
    groupdq = np.zeros(data.shape, np.uint8)
    full = data >= detector.scene.saturation - 1000
    groupdq[np.logical_or.accumulate(full, axis=1)] |= np.uint8(_FLAGS["SATURATED"])
    if not detector.light.all():
        _subtract_reference_pixels(data, detector)
    if detector.bend:
        bend = np.float32(detector.bend)
        data = (1 - np.sqrt(np.maximum(1 - 4 * bend * data, 0))) / (2 * bend)
    noise = np.float32(exposure.believed_noise) * read_noise_map(detector, exposure.truth.pink_cds_variance)
    return data, groupdq | stcal_jumps(data, groupdq, detector, noise)


def stcal_jumps(
    data: NDArray[np.float32],
    groupdq: NDArray[np.uint8],
    detector: IndependentDetector,
    noise: NDArray[np.float32],
) -> NDArray[np.uint8]:
    """Return JUMP_DET where stcal's detection with jwst's defaults finds a jump; `noise` is READNOISE, DN."""
    if data.shape[1] < 3:
        return np.zeros_like(groupdq)
    # What stcal reads of a RampModel; making one takes longer than finding the jumps
    model = SimpleNamespace(
        data=data.copy(),
        groupdq=groupdq.copy(),
        pixeldq=np.where(detector.light, 0, _FLAGS["REFERENCE_PIXEL"]).astype(np.uint32),
        meta=SimpleNamespace(exposure=SimpleNamespace(nframes=detector.scene.frames[0])),
    )
    with _hushed():
        gain = detector.gain.astype(np.float32)
        result = JumpData(model, gain, noise.copy(), _FLAGS)
        result.max_cores = "1"
        flags = detect_jumps_data(result)[0]
    jumps: NDArray[np.uint8] = (flags & _FLAGS["JUMP_DET"]).astype(np.uint8)
    return jumps


def read_noise_map(detector: IndependentDetector, pink_cds_variance: float) -> NDArray[np.float32]:
    """Return what READNOISE holds: the CDS noise of each pixel, DN."""
    cds = np.sqrt(2 * detector.white(pink_cds_variance) ** 2 + pink_cds_variance)
    return (cds / detector.scene.own.gain).astype(np.float32)


def commit_scene(
    scene: Scene, store: Store, folder: Path, exposures: Sequence[IndependentExposure] = ()
) -> Envelope:
    """Put a scene's set into a store as ingest would; return its ``set.ready``. `folder` is for its files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for exposure in exposures or expose_set(scene):
        path = folder / f"jw{scene.seed}_{exposure.number:03d}_jump.fits"
        files.append(write_ramp(path, scene.key, *calibrated_ramp(exposure)))
    count = len(files)
    ready = commit_set(store, files, [scene.key] * count, [scene.nints] * count, gain=scene.own.gain)
    for file in files:
        file.unlink()
    return ready


def raw_exposure_file(folder: Path, exposure: IndependentExposure, **keywords: Any) -> Path:
    """Write a level 1b file with the headers that ingest asks for."""
    scene = exposure.detector.scene
    model = dm.Level1bModel(data=exposure.raw)
    _describe(model, exposure)
    name = f"jw01062001001_02101_{exposure.number + 1:05d}_{scene.detector.lower()}_uncal.fits"
    folder.mkdir(parents=True, exist_ok=True)
    with model:
        model.save(folder / name)
    return edit(folder / name, PEDIGREE="SIMULATION", **keywords)


def calibrated_file(folder: Path, exposure: IndependentExposure) -> Path:
    """Write a ramp that has all steps behind it, for `nircam-darks run` without reference files."""
    data, groupdq = calibrated_ramp(exposure)
    model = dm.RampModel(data=data, groupdq=groupdq)
    model.pixeldq = np.where(exposure.detector.light, 0, _FLAGS["REFERENCE_PIXEL"]).astype(np.uint32)
    _describe(model, exposure)
    detector = exposure.detector.scene.detector.lower()
    path = folder / f"jw01062001001_02101_{exposure.number + 1:05d}_{detector}_jump.fits"
    folder.mkdir(parents=True, exist_ok=True)
    with model:
        model.save(path)
    return edit(path, PEDIGREE="SIMULATION", **dict.fromkeys(STEPS.values(), "COMPLETE"))


def independent_references(
    folder: Path, detector: IndependentDetector, pink_cds_variance: float
) -> dict[str, Path]:
    """Write a reference file of every type that the steps use, for a scene; return them by type."""
    scene, shape = detector.scene, detector.scene.shape
    folder.mkdir(parents=True, exist_ok=True)
    none = np.zeros(shape, np.uint32)
    border = np.where(detector.light, 0, _FLAGS["REFERENCE_PIXEL"]).astype(np.uint32)
    bend = detector.bend
    # The inverse of s - b s^2 as a series: 1, b, 2 b^2, 5 b^3 (Catalan's numbers)
    coefficients = np.zeros((5, *shape), np.float32)
    for power, value in enumerate((0.0, 1.0, bend, 2 * bend**2, 5 * bend**3)):
        coefficients[power] = value
    models = {
        "mask": dm.MaskModel(dq=border, dq_def=_DQ_DEF),
        "saturation": dm.SaturationModel(
            data=np.full(shape, scene.saturation - 1000, np.float32), dq=none, dq_def=_DQ_DEF
        ),
        "superbias": dm.SuperBiasModel(
            data=detector.superbias.astype(np.float32),
            err=np.ones(shape, np.float32),
            dq=none,
            dq_def=_DQ_DEF,
        ),
        "linearity": dm.LinearityModel(coeffs=coefficients, dq=none, dq_def=_DQ_DEF),
        "gain": dm.GainModel(data=detector.gain.astype(np.float32)),
        "readnoise": dm.ReadnoiseModel(data=read_noise_map(detector, pink_cds_variance)),
    }
    paths = {}
    for reftype, model in models.items():
        _place(model, scene)
        model.meta.reftype, model.meta.pedigree = reftype.upper(), "DUMMY"
        model.meta.description, model.meta.author = f"{reftype} of the independent generator", "test"
        model.meta.useafter = "2022-01-01T00:00:00"
        paths[reftype] = folder / f"{scene.detector.lower()}_{reftype}.fits"
        with model:
            model.save(paths[reftype])
    return paths


def _describe(model: Any, exposure: IndependentExposure) -> None:
    scene = exposure.detector.scene
    _place(model, scene)
    meta, key = model.meta, scene.key
    meta.exposure.ngroups, meta.exposure.nints = scene.ngroups, scene.nints
    meta.exposure.nframes, meta.exposure.groupgap = key.nframes, key.groupgap
    meta.exposure.frame_time, meta.exposure.group_time = scene.frame_time, scene.group_time
    meta.exposure.nsamples, meta.exposure.sample_time = 1, 10
    meta.exposure.drop_frames1, meta.exposure.frame_divisor = 0, key.nframes
    meta.exposure.integration_time = float(scene.read_times[-1, -1])
    meta.exposure.exposure_time = meta.exposure.integration_time * scene.nints
    length = (meta.exposure.exposure_time + 60) / _DAY
    meta.exposure.start_time = FIRST_MJD + exposure.number * length
    meta.exposure.end_time = meta.exposure.start_time + meta.exposure.exposure_time / _DAY
    meta.exposure.mid_time = (meta.exposure.start_time + meta.exposure.end_time) / 2
    seconds = int((meta.exposure.start_time % 1) * _DAY)
    meta.observation.date = f"2022-04-{18 + int(meta.exposure.start_time) - int(FIRST_MJD):02d}"
    meta.observation.time = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.000"


def _place(model: Any, scene: Scene) -> None:
    meta, key = model.meta, scene.key
    meta.telescope, meta.instrument.name, meta.instrument.detector = "JWST", "NIRCAM", scene.detector
    meta.instrument.channel = "LONG" if scene.detector.endswith("LONG") else "SHORT"
    meta.instrument.module = scene.detector[3]
    meta.instrument.filter, meta.instrument.pupil = "F200W", "CLEAR"
    meta.exposure.type, meta.exposure.readpatt, meta.exposure.noutputs = (
        "NRC_DARK",
        scene.readpatt,
        scene.outputs,
    )
    meta.subarray.name = scene.subarray
    meta.subarray.xstart, meta.subarray.ystart = key.substrt1, key.substrt2
    meta.subarray.xsize, meta.subarray.ysize = key.subsize1, key.subsize2
    towards_plus_x = scene.fast_towards_plus_x
    meta.subarray.fastaxis, meta.subarray.slowaxis = (1, -2) if towards_plus_x else (-1, 2)


def _subtract_reference_pixels(data: NDArray[np.float32], detector: IndependentDetector) -> None:
    """Subtract the mean of each amplifier's reference pixels from its columns, group by group."""
    for output in range(detector.scene.outputs):
        columns = detector.output == output
        border = ~detector.light[:, columns]
        if border.any():
            stripe = data[..., columns]
            data[..., columns] = stripe - stripe[..., border].mean(axis=-1)[..., None, None]


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    log = logging.getLogger("stcal")
    level = log.level
    log.setLevel(logging.ERROR)
    yield
    log.setLevel(level)
