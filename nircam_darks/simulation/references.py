"""Reference files of a simulated detector, in the form that jwst's steps read."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from stdatamodels.jwst import datamodels
from stdatamodels.jwst.datamodels import JwstDataModel

from nircam_darks.simulation.detector import SimulatedPixels
from nircam_darks.simulation.plan import SimulationPlan
from shared.nircam.dq import PixelFlag

#: Start of validity of the references: before any exposure that could be simulated.
USEAFTER = "2021-12-25T00:00:00"
#: Types of reference files that the steps of ingest need.
REFTYPES = ("mask", "saturation", "superbias", "linearity", "gain", "readnoise")


def reference_name(plan: SimulationPlan, reftype: str) -> str:
    """Return the file name of a reference of the plan's detector and subarray."""
    return f"jwst_nircam_{reftype}_{plan.detector.lower()}{plan.subarray.lower()}sim_0001.fits"


def cds_noise_dn(pixels: SimulatedPixels, one_over_f_cds_variance: float) -> NDArray[np.float32]:
    """Return the noise of the difference of two frames (DN), 2D (rows, columns).

    This is what CRDS's READNOISE means for NIRCam: stcal's jump detection multiplies it by the gain and
    takes its square as the variance of the difference of two single frames.

    Parameters
    ----------
    one_over_f_cds_variance : float
        Variance of the 1/f noise that survives reference pixel correction (e-^2).
    """
    rounding = 2 * pixels.gain**2 / 12
    variance = 2 * pixels.white_noise.astype(np.float64) ** 2 + one_over_f_cds_variance + rounding
    noise: NDArray[np.float32] = (np.sqrt(variance) / pixels.gain).astype(np.float32)
    return noise


def write_references(
    plan: SimulationPlan, pixels: SimulatedPixels, noise_dn: NDArray[np.float32], folder: Path
) -> dict[str, Path]:
    """Write the six references of a detector and subarray.

    None of them marks hot and warm pixels: a dark is there to find them.

    Parameters
    ----------
    noise_dn : ndarray of float32, 2D (rows, columns)
        CDS noise (DN).
    folder : Path

    Returns
    -------
    dict of str to Path
        By reference type.
    """
    quality = np.where(pixels.science, 0, PixelFlag.REFERENCE_PIXEL.mask).astype(np.uint32)
    quality[pixels.dead] |= (PixelFlag.DEAD | PixelFlag.DO_NOT_USE).mask
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
    # A new array each time, because astropy shifts unsigned columns in place when it saves them.
    return np.array(
        [
            (flag.bit, int(flag), flag.name, description)
            for flag, description in (
                (PixelFlag.DO_NOT_USE, "Bad pixel, not to be used"),
                (PixelFlag.DEAD, "Collects nothing"),
                (PixelFlag.REFERENCE_PIXEL, "Reference pixel"),
            )
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
