"""What the benchmarks compare with, each in a process of its own: `peers.py NAME ARGUMENTS`."""

import json
import os
import sys
import tempfile
import time
from pathlib import Path


def reffiles(store: str) -> dict[str, float]:
    """Combine a set with jwst_reffiles 1.0.1, without its plots, which take longer than all the rest."""
    begun = time.perf_counter()
    from jwst_reffiles.dark_current.dark_reffile import Dark

    imported = time.perf_counter()
    files = sorted(str(path) for path in Path(store).glob("ingest/*/*/*/ramp.fits"))
    marks = {}
    save = Dark.save_reffile

    def saving(self: Dark, *arguments: object) -> None:
        marks["saving"] = time.perf_counter()
        save(self, *arguments)

    Dark.save_reffile = saving
    Dark.create_num_contributions_plots = lambda *_: None
    from astropy.io import fits

    header = fits.getheader(files[0])
    ratio = 2048**2 // (header["SUBSIZE1"] * header["SUBSIZE2"])
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        sys.stdout = sys.stderr
        Dark(
            file_list=files,
            max_equivalent_groups=ratio * len(files) * header["NGROUPS"],
            sigma_threshold=3,
            pedigree="GROUND",
            descrip="benchmark",
            author="benchmark",
            use_after="2022-01-01T00:00:00",
            history="one string",
            output_file=f"{folder}/dark.fits",
        )
        sys.stdout = sys.__stdout__
        os.chdir("/")
    return {"imports": imported - begun, "combine": marks["saving"] - imported}


def read_and_write(store: str, written: str) -> dict[str, float]:
    """Read all ramps of a store once, and write (and sync) as many bytes as the product has once."""
    buffer = bytearray(8 * 1024**2)
    begun = time.perf_counter()
    for path in sorted(Path(store).glob("ingest/*/*/*/ramp.fits")):
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
    read = time.perf_counter()
    left = int(written)
    with tempfile.TemporaryFile(dir=store) as file:
        while left > 0:
            left -= file.write(buffer[: min(left, len(buffer))])
        file.flush()
        os.fsync(file.fileno())
    return {"read": read - begun, "write": time.perf_counter() - read}


def bucket(endpoint: str, name: str, requests: str, piece: str) -> dict[str, float]:
    """Read all ramps of a bucket with boto3, by ranged GETs of `piece` bytes, `requests` at once."""
    from concurrent.futures import ThreadPoolExecutor

    import boto3
    from botocore.config import Config

    at_once = int(requests)
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        config=Config(
            s3={"addressing_style": "path"},
            max_pool_connections=at_once,
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )
    step = int(piece)
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=name)
    results = [
        entry for page in pages for entry in page.get("Contents", ()) if entry["Key"].endswith("ramp.fits")
    ]
    ranges = [
        (entry["Key"], start, min(start + step, entry["Size"]) - 1)
        for entry in results
        for start in range(0, entry["Size"], step)
    ]

    def get(one: tuple[str, int, int]) -> int:
        key, first, last = one
        answer = client.get_object(Bucket=name, Key=key, Range=f"bytes={first}-{last}")
        return len(answer["Body"].read())

    begun = time.perf_counter()
    with ThreadPoolExecutor(at_once) as threads:
        total = sum(threads.map(get, ranges))
    return {"read": time.perf_counter() - begun, "bytes": total}


def pynrc(store: str) -> dict[str, float]:
    """Do what pynrc 2.0.1's ``calc_eff_noise`` does, but for its reference pixel correction.

    A polynomial fit of every number of groups of every ramp, once for the temporal noise and again for
    the spatial one; read from FITS once and kept in memory, where pynrc reads anew.
    """
    import numpy as np
    from astropy.io import fits

    files = sorted(Path(store).glob("ingest/*/*/*/ramp.fits"))
    ramps = [fits.getdata(path, "SCI")[0] for path in files]
    ngroups = len(ramps[0])
    time_of = np.arange(1, ngroups + 1) * 4.18584

    def slopes(ramp: np.ndarray, n: int) -> np.ndarray:
        # As webbpsf_ext's jl_poly_fit: QR first, several times faster than numpy's polyfit.
        q, r = np.linalg.qr(np.vander(time_of[:n], 2, increasing=True))
        return np.linalg.lstsq(r, q.T @ ramp[:n].reshape(n, -1), rcond=None)[0][1]

    begun = time.perf_counter()
    all_slopes = np.array([[slopes(ramp, n) for n in range(2, ngroups + 1)] for ramp in ramps])
    np.sqrt(np.median(np.std(all_slopes, axis=0) ** 2, axis=1))
    temporal = time.perf_counter()
    del all_slopes
    for ramp in ramps:
        for n in range(2, ngroups + 1):
            slope = slopes(ramp, n)
            np.median(np.abs(slope - np.median(slope))) / 0.67449
    done = time.perf_counter()
    return {"temporal": temporal - begun, "spatial": done - temporal, "both": done - begun}


def steps(folder: str) -> dict[str, float]:
    """Run the steps of ingest by hand on the one exposure of a folder, one after another, and save."""
    settings = json.loads((Path(folder) / "environment.json").read_text())
    os.environ.update(settings)
    begun = time.perf_counter()
    from jwst.dq_init import DQInitStep
    from jwst.jump import JumpStep
    from jwst.linearity import LinearityStep
    from jwst.persistence import PersistenceStep
    from jwst.refpix import RefPixStep
    from jwst.saturation import SaturationStep
    from jwst.superbias import SuperBiasStep
    from stdatamodels.jwst.datamodels import RampModel

    imported = time.perf_counter()
    [path] = sorted((Path(folder) / "darks").glob("*_uncal.fits"))
    with tempfile.TemporaryDirectory() as scratch:
        model = RampModel(path)
        chain = (DQInitStep, SaturationStep, SuperBiasStep, RefPixStep, LinearityStep, JumpStep)
        for step in chain:
            model = step.call(model, configure_log=False)
        # With a window, as ingest has it; by itself jwst skips this step.
        model = PersistenceStep.call(
            model,
            skip=False,
            persistence_time=1000,
            save_persistence=f"{scratch}/state.asdf",
            configure_log=False,
        )
        model.save(f"{scratch}/ramp.fits")
    return {"imports": imported - begun, "steps": time.perf_counter() - imported}


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
