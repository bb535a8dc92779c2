"""Reference files of a simulated detector, in the form in which jwst's steps take them."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from stdatamodels.jwst import datamodels
from stdatamodels.jwst.datamodels import JwstDataModel, dqflags

from services.simulation.detector import Pixels
from services.simulation.plan import SimulationPlan

#: From when on the references hold: before any exposure that could be asked for.
USEAFTER = "2021-12-25T00:00:00"
#: Types of reference files that the steps of ingest ask for.
REFTYPES = ("mask", "saturation", "superbias", "linearity", "gain", "readnoise")


def reference_name(plan: SimulationPlan, reftype: str) -> str:
    """Return the file name of a reference of the plan's detector and subarray."""
    return f"jwst_nircam_{reftype}_{plan.detector.lower()}{plan.subarray.lower()}sim_0001.fits"


def cds_noise_dn(pixels: Pixels, pink_cds_variance: float) -> NDArray[np.float32]:
    """Return the noise of the difference of two frames, DN, 2D (rows, columns).

    This is what CRDS's READNOISE means for NIRCam: stcal's jump detection multiplies it by the gain and
    takes its square as the variance of the difference of two single frames.

    Parameters
    ----------
    pink_cds_variance : float
        The part of 1/f noise that survives reference pixel correction, e-^2.
    """
    rounding = 2 * pixels.gain**2 / 12
    variance = 2 * pixels.white_noise.astype(np.float64) ** 2 + pink_cds_variance + rounding
    noise: NDArray[np.float32] = (np.sqrt(variance) / pixels.gain).astype(np.float32)
    return noise


def write_references(
    plan: SimulationPlan, pixels: Pixels, noise_dn: NDArray[np.float32], folder: Path
) -> dict[str, Path]:
    """Write the six references of a detector and subarray.

    Hot and warm pixels are in none of them: finding them is what a dark is for.

    Parameters
    ----------
    noise_dn : ndarray of float32, 2D (rows, columns)
        CDS noise, DN.
    folder : Path

    Returns
    -------
    dict of str to Path
        By reference type.
    """
    quality = np.where(pixels.science, 0, dqflags.pixel["REFERENCE_PIXEL"]).astype(np.uint32)
    quality[pixels.dead] |= dqflags.pixel["DEAD"] | dqflags.pixel["DO_NOT_USE"]
    ones = np.ones(plan.shape, np.float32)
    models: dict[str, JwstDataModel] = {
        "mask": datamodels.MaskModel(dq=quality, dq_def=_dq_def()),
        "saturation": datamodels.SaturationModel(data=pixels.saturation.copy()),
        "superbias": datamodels.SuperBiasModel(data=pixels.superbias.copy()),
        "linearity": datamodels.LinearityModel(
            coeffs=np.stack([0 * ones, ones, pixels.nonlinearity]), dq=np.zeros(plan.shape, np.uint32)
        ),
        "gain": datamodels.GainModel(data=np.float32(pixels.gain) * ones),
        "readnoise": datamodels.ReadnoiseModel(data=noise_dn.copy()),
    }
    paths = {}
    for reftype, model in models.items():
        with model:
            _describe(model, plan, reftype)
            path = folder / reference_name(plan, reftype)
            model.save(str(path), overwrite=True)
            paths[reftype] = path
    return paths


def _dq_def() -> NDArray[np.void]:
    # Made anew each time: to save an unsigned column, astropy shifts it in place.
    return np.array(
        [
            (0, 1, "DO_NOT_USE", "Bad pixel, not to be used"),
            (10, 1024, "DEAD", "Collects nothing"),
            (31, 2147483648, "REFERENCE_PIXEL", "Reference pixel"),
        ],
        dtype=[("BIT", "<i4"), ("VALUE", "<u4"), ("NAME", "S40"), ("DESCRIPTION", "S80")],
    )


def _describe(model: JwstDataModel, plan: SimulationPlan, reftype: str) -> None:
    meta, geometry = model.meta, plan.geometry
    meta.telescope = "JWST"
    meta.reftype = reftype.upper()
    meta.pedigree = "SIMULATION"
    meta.description = f"SIMULATED {reftype} of {plan.detector} {plan.subarray}"
    meta.author = "nircam-darks simulate"
    meta.useafter = USEAFTER
    meta.instrument.name = "NIRCAM"
    meta.instrument.detector = plan.detector
    meta.instrument.channel = "LONG" if plan.device.channel == "LW" else "SHORT"
    meta.instrument.module = plan.device.module
    meta.exposure.type = "NRC_DARK"
    meta.exposure.noutputs = plan.outputs
    meta.subarray.name = plan.subarray
    meta.subarray.xstart = geometry.substrt1
    meta.subarray.ystart = geometry.substrt2
    meta.subarray.xsize = geometry.subsize1
    meta.subarray.ysize = geometry.subsize2
    meta.subarray.fastaxis = plan.device.fastaxis
    meta.subarray.slowaxis = plan.device.slowaxis
    model.add_history_entry("SIMULATED by nircam-darks simulate; not made from flight data.")
