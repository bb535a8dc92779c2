"""Small sets of calibrated darks, written as proper FITS and committed to a store as ingest would."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray
from pydantic import BaseModel

from shared.contracts.messages import Envelope, SetMember, SetReady
from shared.nircam.configuration import ConfigurationKey
from shared.nircam.detectors import detectors
from shared.nircam.dq import GroupFlag
from shared.store.base import Store
from shared.store.manifest import MANIFEST
from support.ramp_products import commit_ramp

JUMP_DET = GroupFlag.JUMP_DET.mask
START_MJD = 59680.25


class KeyResults(BaseModel):
    key: ConfigurationKey


def write_ramp(
    path: Path, key: ConfigurationKey, data: NDArray[np.float32], groupdq: NDArray[np.uint8], **more: Any
) -> Path:
    """Write a ramp as jwst's jump step leaves it. `data` is 4-D, DN."""
    detector = detectors()[key.detector]
    primary = fits.PrimaryHDU()
    header = {
        "TELESCOP": "JWST",
        "INSTRUME": "NIRCAM",
        "FILENAME": path.name,
        "DETECTOR": key.detector,
        "CHANNEL": "LONG" if detector.channel == "LW" else "SHORT",
        "MODULE": detector.module,
        "DATAMODL": "RampModel",
        "EXP_TYPE": key.exp_type,
        "READPATT": key.readpatt,
        "NINTS": len(data),
        "NGROUPS": key.ngroups,
        "NFRAMES": key.nframes,
        "GROUPGAP": key.groupgap,
        "TFRAME": key.tframe,
        "TGROUP": key.group_time,
        "NOUTPUTS": key.noutputs,
        "SUBARRAY": key.subarray,
        "SUBSTRT1": key.substrt1,
        "SUBSTRT2": key.substrt2,
        "SUBSIZE1": key.subsize1,
        "SUBSIZE2": key.subsize2,
        "FASTAXIS": detector.fastaxis,
        "SLOWAXIS": detector.slowaxis,
        "DATE-OBS": "2022-04-11",
        "TIME-OBS": "06:00:00.000",
    }
    for keyword, value in (header | more).items():
        primary.header[keyword] = value
    hdus = [
        primary,
        fits.ImageHDU(data.astype(np.float32), name="SCI"),
        fits.ImageHDU(np.zeros(data.shape[2:], np.uint32), name="PIXELDQ"),
        fits.ImageHDU(groupdq.astype(np.uint8), name="GROUPDQ"),
    ]
    fits.HDUList(hdus).writeto(path)
    return path


def dark(
    rng: np.random.Generator,
    key: ConfigurationKey,
    integrations: int,
    rate: float = 0.02,
    read_noise: float = 5.0,
    kick: float = 20.0,
    hits: float = 0.02,
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return SCI (DN) and GROUPDQ of one exposure; `rate` in DN/s, `hits` a group and pixel.

    A hit stays in the ramp, as charge does, and is flagged where it falls.
    """
    shape = (integrations, key.ngroups, key.subsize2, key.subsize1)
    time = key.group_time * np.arange(1, key.ngroups + 1)
    data = rng.normal(0, read_noise, shape) + rate * time[:, None, None]
    data += rng.normal(0, kick, (integrations, 1, *shape[2:]))
    struck = rng.random(shape) < hits
    data += np.cumsum(struck * rng.exponential(400, shape), axis=1)
    return data.astype(np.float32), (struck * JUMP_DET).astype(np.uint8)


def commit_set(
    store: Store,
    files: Sequence[Path],
    keys: Sequence[ConfigurationKey],
    integrations: Sequence[int],
    gain: float = 1.84,
    simulated: bool = False,
    start_mjd: float = START_MJD,
) -> Envelope:
    """Put the files into the store (copies; the originals stay) and return their ``set.ready``."""
    members = []
    for n, (file, key, count) in enumerate(zip(files, keys, integrations, strict=True)):
        path = f"ingest/{key.slug}/{file.stem}/0123abcd{n}"
        entry = commit_ramp(store, path, file, KeyResults(key=key))
        start = start_mjd + 0.02 * n
        members.append(
            SetMember(
                exposure_id=file.stem,
                manifest=f"{path}/{MANIFEST}",
                ramp=entry,
                integrations=count,
                start_mjd=start,
                end_mjd=start + 0.015,
            )
        )
    set_id = hashlib.sha256("".join(m.exposure_id for m in members).encode()).hexdigest()[:16]
    ready = SetReady(
        configuration=keys[0].slug,
        key=keys[0],
        set_id=set_id,
        members=members,
        gain=gain,
        simulated=simulated,
    )
    return Envelope.of(ready, identity=set_id)
