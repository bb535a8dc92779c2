"""Calibrated darks of any size, written as jwst leaves them and put into a store, for the noise stage."""

from pathlib import Path

import numpy as np
from astropy.io import fits

from shared.contracts.messages import Envelope, ExposureIngested, SetMember, SetReady
from shared.nircam.dq import GroupFlag
from shared.store.base import hash_file
from shared.store.manifest import MANIFEST
from support.darkref_sets import KeyResults
from support.ramp_products import commit_ramp

START_MJD = 59680.25
GAIN = 1.84
JUMP_DET = GroupFlag.JUMP_DET.mask


def white_ramps(key, nints=1, sigma=5.0, rate=0.1, seed=0, pedestal=20.0):
    """SCI (nints, groups, y, x), DN: white noise on a dark signal of `rate` DN/group, kTC on each ramp."""
    rng = np.random.default_rng(seed)
    shape = (nints, key.ngroups, key.subsize2, key.subsize1)
    signal = rng.normal(0, sigma, shape) + rng.normal(0, pedestal, (nints, 1, *shape[2:]))
    return (signal + rate * np.arange(key.ngroups)[:, None, None]).astype(np.float32)


def put_ramp(store, scratch, key, sci, groupdq=None, pixeldq=None, number=1):
    """Write one exposure into the store; return the member it is."""
    groupdq = np.zeros(sci.shape, np.uint8) if groupdq is None else groupdq
    pixeldq = np.zeros(sci.shape[-2:], np.uint32) if pixeldq is None else pixeldq
    path = Path(scratch) / f"ramp{number}.fits"
    fits.HDUList(
        [
            fits.PrimaryHDU(),
            fits.ImageHDU(sci, name="SCI"),
            fits.ImageHDU(pixeldq, name="PIXELDQ"),
            fits.ImageHDU(groupdq, name="GROUPDQ"),
        ]
    ).writeto(path, overwrite=True)
    exposure = f"jw01062001001_{number:05d}"
    product = f"ingest/{key.slug}/{exposure}/{hash_file(path)[:32]}"
    entry = commit_ramp(store, product, path, KeyResults(key=key))
    start = START_MJD + 0.01 * number
    return SetMember(
        exposure_id=exposure,
        manifest=f"{product}/{MANIFEST}",
        ramp=entry,
        integrations=len(sci),
        start_mjd=start,
        end_mjd=start + len(sci) * key.ngroups * key.group_time / 86400,
    )


def ingested(key, member):
    content = ExposureIngested(
        configuration=key.slug, key=key, member=member, gain=GAIN, simulated=True, versions={}
    )
    return Envelope.of(content, identity=member.exposure_id)


def set_ready(key, members):
    content = SetReady(
        configuration=key.slug, key=key, set_id="set1", members=members, gain=GAIN, simulated=True
    )
    return Envelope.of(content, identity="set1")
