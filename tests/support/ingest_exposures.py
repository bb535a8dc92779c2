"""Small NIRCam darks and reference files for the tests of ingest and inspect."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.time import Time
from crds.core.utils import clear_function_caches
from stdatamodels.jwst import datamodels as dm

from services.ingest.handler import handle
from services.ingest.steps import STEPS
from shared.contracts.messages import Envelope, ExposureAnnounced
from shared.nircam.exposure_id import exposure_id
from shared.products.ramp import RampMetadata
from shared.runtime.handler import Outgoing, StageContext
from shared.settings.stage import StageSettings
from shared.store.local import LocalStore
from shared.store.manifest import Manifest, find, find_all

SIZE = 64
FRAME_TIME = 2.0
START_MJD = 61042.25
SECOND = 1 / 86400.0
DQ_DEF = np.array(
    [(0, 1, "DO_NOT_USE", "bad"), (1, 1024, "DEAD", "dead"), (2, 2048, "HOT", "hot")],
    dtype=[("BIT", "<u4"), ("VALUE", "<u4"), ("NAME", "S40"), ("DESCRIPTION", "S80")],
)
GAIN = 2.0


def place(model, detector="NRCA3", xstart=1, ystart=1, size=SIZE):
    """Say where the array lies, and on which detector."""
    meta = model.meta
    meta.telescope = "JWST"
    meta.instrument.name, meta.instrument.detector = "NIRCAM", detector
    meta.instrument.channel, meta.instrument.module = "SHORT", detector[3]
    meta.instrument.filter, meta.instrument.pupil = "F200W", "CLEAR"
    meta.exposure.type, meta.exposure.readpatt = "NRC_DARK", "RAPID"
    meta.subarray.name = "SUB64P"
    meta.subarray.xstart, meta.subarray.ystart = xstart, ystart
    meta.subarray.xsize = meta.subarray.ysize = size
    meta.subarray.fastaxis, meta.subarray.slowaxis = -1, 2
    return model


def write_references(folder: Path, detector="NRCA3", size=SIZE) -> dict[str, Path]:
    """One reference file of every type the steps use, for the corner of a detector."""
    folder.mkdir(parents=True, exist_ok=True)
    shape = (size, size)
    dq = np.zeros(shape, "u4")
    dq[10, 10] = 1
    coefficients = np.zeros((3, *shape), "f4")
    coefficients[1], coefficients[2] = 1.0, 1e-7
    none = np.zeros(shape, "u4")
    models = {
        "mask": dm.MaskModel(dq=dq, dq_def=DQ_DEF),
        "saturation": dm.SaturationModel(data=np.full(shape, 50000.0, "f4"), dq=none, dq_def=DQ_DEF),
        "superbias": dm.SuperBiasModel(
            data=np.full(shape, 10000.0, "f4"), err=np.ones(shape, "f4"), dq=none, dq_def=DQ_DEF
        ),
        "linearity": dm.LinearityModel(coeffs=coefficients, dq=none, dq_def=DQ_DEF),
        "gain": dm.GainModel(data=np.full(shape, GAIN, "f4")),
        "readnoise": dm.ReadnoiseModel(data=np.full(shape, 12.0, "f4")),
    }
    paths = {}
    for reftype, model in models.items():
        place(model, detector, size=size)
        model.meta.reftype, model.meta.pedigree = reftype.upper(), "DUMMY"
        model.meta.description, model.meta.author = f"synthetic {reftype}", "test"
        model.meta.useafter = "2022-01-01T00:00:00"
        paths[reftype] = folder / f"{detector.lower()}_{reftype}.fits"
        with model:
            model.save(paths[reftype])
    return paths


def write_exposure(
    path: Path,
    *,
    seed=0,
    ngroups=6,
    nints=2,
    start_mjd=START_MJD,
    detector="NRCA3",
    xstart=1,
    ystart=1,
    saturated=(),
    pedigree=None,
    finished=False,
) -> Path:
    """A level 1b dark with a cosmic ray at (y 30, x 30), integration 0, group 3.

    `saturated` are (y, x) that hold 65000 DN from the middle of every integration on. With `finished`
    the header says that every step is done, and flags are there, so that ingest has nothing to run and
    takes no time.
    """
    random = np.random.default_rng(seed)
    shape = (nints, ngroups, SIZE, SIZE)
    signal = 10000 + 3.0 * np.arange(ngroups)[None, :, None, None] + random.normal(0, 6, shape)
    signal[0, min(3, ngroups - 1) :, 30, 30] += 5000
    for y, x in saturated:
        signal[:, ngroups // 2 :, y, x] = 65000
    model = dm.Level1bModel(data=np.clip(np.rint(signal), 0, 65535).astype("u2"))
    place(model, detector, xstart, ystart)
    exposure = model.meta.exposure
    exposure.ngroups, exposure.nints, exposure.nframes, exposure.groupgap = ngroups, nints, 1, 0
    exposure.frame_time = exposure.group_time = FRAME_TIME
    exposure.nsamples, exposure.sample_time, exposure.noutputs = 1, 10, 1
    exposure.drop_frames1, exposure.frame_divisor = 0, 1
    exposure.integration_time = FRAME_TIME * ngroups
    exposure.exposure_time = FRAME_TIME * ngroups * nints
    exposure.start_time = start_mjd
    exposure.end_time = start_mjd + exposure.exposure_time * SECOND
    exposure.mid_time = (exposure.start_time + exposure.end_time) / 2
    day = Time(start_mjd, format="mjd", scale="utc").isot[:10]
    model.meta.observation.date, model.meta.observation.time = day, "06:00:00.000"
    path.parent.mkdir(parents=True, exist_ok=True)
    with model:
        model.save(path)
    if pedigree is not None:
        edit(path, PEDIGREE=pedigree)
    if finished:
        with fits.open(path, mode="append") as hdus:
            hdus.append(fits.ImageHDU(np.zeros(shape[2:], np.uint32), name="PIXELDQ"))
            hdus.append(fits.ImageHDU(np.zeros(shape, np.uint8), name="GROUPDQ"))
        edit(path, **dict.fromkeys(STEPS.values(), "COMPLETE"))
    return path


def write_segments(whole: Path, folder: Path, lengths: Sequence[int]) -> list[Path]:
    """Cut an exposure as the archive does, into segments of so many integrations; return their files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths, first = [], 0
    for number, length in enumerate(lengths, 1):
        root, _, rest = whole.name.rpartition("_nrca")
        path = folder / f"{root}-seg{number:03d}_nrca{rest}"
        with fits.open(whole, memmap=False) as hdus:
            header = hdus[0].header
            header["FILENAME"] = path.name
            header["EXSEGNUM"], header["EXSEGTOT"] = number, len(lengths)
            header["INTSTART"], header["INTEND"] = first + 1, first + length
            for name in ("SCI", "GROUPDQ", "ERR"):
                if name in hdus:
                    hdus[name].data = hdus[name].data[first : first + length]
            if "ASDF" in hdus:
                del hdus["ASDF"]
            hdus.writeto(path, overwrite=True)
        paths.append(path)
        first += length
    return paths


#: The keywords that say which exposure it is.
IDENTITY = {
    "PROGRAM": "01062",
    "OBSERVTN": "001",
    "VISIT": "001",
    "VISITGRP": "02",
    "SEQ_ID": "1",
    "ACT_ID": "01",
    "EXPOSURE": "1",
}
ARCHIVE_ID = "jw01062001001_02101_00001_nrca3"


def edit(path: Path, **keywords) -> Path:
    """Set keywords of a primary header; None takes one out. ``S_DARK`` and the like may be new."""
    with fits.open(path, mode="update", memmap=False) as hdus:
        for keyword, value in keywords.items():
            keyword = keyword.replace("__", "-")
            if value is None:
                hdus[0].header.remove(keyword, ignore_missing=True)
            else:
                hdus[0].header[keyword] = value
        # The metadata of jwst's own extension would win over the edited header.
        if "ASDF" in hdus:
            del hdus["ASDF"]
    return path


def put_nan(path: Path, *at: int) -> Path:
    """Make SCI float32, with a NaN at (integration, group, y, x)."""
    with fits.open(path, memmap=False) as hdus:
        data = hdus["SCI"].data.astype("f4")
        data[at] = np.nan
        hdus["SCI"] = fits.ImageHDU(data, name="SCI")
        hdus.writeto(path, overwrite=True)
    return path


def end_mjd(ngroups=6, nints=2, start_mjd=START_MJD) -> float:
    return start_mjd + FRAME_TIME * ngroups * nints * SECOND


def announce(path: Path, **other) -> Envelope:
    content = ExposureAnnounced(exposure_id=exposure_id(path.name), uri=str(path), **other)
    return Envelope.of(content, identity=str(path))


def write_server_config(cache: Path) -> None:
    """What CRDS needs to know of itself when no server answers: with it and overrides all steps run."""
    folder = cache / "config" / "jwst"
    folder.mkdir(parents=True, exist_ok=True)
    context = "jwst_0000.pmap"
    record = {
        "observatory": "jwst",
        "operational_context": context,
        "edit_context": context,
        "latest_context": context,
        "bad_files": "",
        "bad_files_set": [],
        "bad_files_list": [],
        "crds_version": {"str": "13.0.0"},
        "server_version": "13.0.0",
        "effective_mode": "local",
        "force_remote_mode": False,
        "reference_url": "none",
        "mapping_url": "none",
        "checksum_url": "none",
        "last_synced": "never",
        "status": "cache",
        "connected": False,
    }
    (folder / "server_config").write_text(repr(record))


def crds_environment(cache: Path) -> dict[str, str]:
    return {
        "CRDS_PATH": os.fspath(cache),
        "CRDS_SERVER_URL": "https://crds-serverless-mode.stsci.edu",
        "CRDS_CONTEXT": "jwst_0000.pmap",
        "STPIPE_DISABLE_CRDS_STEPPARS": "true",
    }


def bench_on(root: Path, references: dict[str, Path], monkeypatch) -> "Bench":
    """A bench that finds its references with no CRDS server."""
    write_server_config(root / "crds")
    for name, value in crds_environment(root / "crds").items():
        monkeypatch.setenv(name, value)
    # CRDS asks for its context once a process, and another test may have been there first.
    clear_function_caches()
    return Bench(root, references)


class Bench:
    """Ingest on a store of its own, called as a worker would call it."""

    def __init__(self, root: Path, references: dict[str, Path], **settings) -> None:
        self.root = root
        self.inbox = root / "in"
        self.store = LocalStore(root / "store")
        record = {"overrides": references, "persistence_time": 1000, **settings}
        self.settings = StageSettings(store=root / "store", **{"allowed_sources": ["file:///"], **record})
        self.progress: list[str] = []

    @property
    def context(self) -> StageContext:
        return StageContext(self.store, self.settings, lambda done, total, what: self.progress.append(what))

    def ingest(self, path: Path, **said) -> list[Outgoing]:
        return handle(announce(path, **said), self.context)

    def content(self, path: Path, **said):
        """The first message that comes of a file."""
        return self.ingest(path, **said)[0].message.content

    def manifest(self, path: Path) -> Manifest:
        key = self.content(path).member.manifest
        return find(self.store, key.removesuffix("/manifest.json"))

    def results(self, path: Path) -> RampMetadata:
        return RampMetadata.model_validate(self.manifest(path).results)

    def open(self, path: Path) -> dm.RampModel:
        return dm.open(self.root / "store" / self.manifest(path).object("ramp.fits").key)

    def products(self) -> list[str]:
        return [manifest.product for manifest in find_all(self.store, "ingest/")]
