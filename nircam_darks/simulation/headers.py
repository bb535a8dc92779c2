"""Headers of a simulated exposure: those of a real NIRCam exposure, changed to those of a dark."""

import functools
from importlib import resources
from typing import Any

from astropy.io import fits
from astropy.time import Time, TimeDelta

from nircam_darks.simulation.plan import SimulationPlan

#: A flight exposure that ships with jwst; its pixels are a stub, but its headers are complete.
_REAL = "associations/tests/data/exposures/jw01075001001_03105_00009_nrca2_uncal.fits"
_SCA = {"NRCA1": 481, "NRCA2": 482, "NRCA3": 483, "NRCA4": 484, "NRCALONG": 485}
_SCA |= {name.replace("NRCA", "NRCB"): number + 5 for name, number in _SCA.items()}

#: Keywords about the target, pointing, guide star and file of the real exposure, untrue for this one.
_UNTRUE = (
    "PWFSEET",
    "NWFSEST",
    "TARGPROP",
    "TARGTYPE",
    "TARG_RA",
    "TARG_DEC",
    "TARGURA",
    "TARGUDEC",
    "MU_RA",
    "MU_DEC",
    "MU_EPOCH",
    "PROP_RA",
    "PROP_DEC",
    "OSF_FILE",
    "ENGQLPTG",
    "ENG_QUAL",
    "VSTSTART",
    "VISITEND",
    "VA_RA",
    "VA_DEC",
    "BARTDELT",
    "BSTRTIME",
    "BENDTIME",
    "BMIDTIME",
    "HELIDELT",
    "HSTRTIME",
    "HENDTIME",
    "HMIDTIME",
    "GS_ORDER",
    "GSSTRTTM",
    "GSENDTIM",
    "GDSTARID",
    "GS_RA",
    "GS_DEC",
    "GS_URA",
    "GS_UDEC",
    "GS_MAG",
    "GS_UMAG",
    "GS_V3_PA",
    "PATTTYPE",
    "PRIDTYPE",
    "PRIDTPTS",
    "PATT_NUM",
    "NUMDTHPT",
    "SMGRDPAT",
    "SUBPXPTS",
    "SUBPXPAT",
    "XOFFSET",
    "YOFFSET",
    "OBSLABEL",
    "OBSFOLDR",
    "PI_NAME",
    "APERNAME",
    "PPS_APER",
)
_UNTRUE_SCI = (
    "TDB-BEG",
    "TDB-MID",
    "TDB-END",
    "REFFRAME",
    "EPH_TYPE",
    "EPH_TIME",
    "JWST_X",
    "JWST_Y",
    "JWST_Z",
    "OBSGEO-X",
    "OBSGEO-Y",
    "OBSGEO-Z",
    "JWST_DX",
    "JWST_DY",
    "JWST_DZ",
    "OBSGEODX",
    "OBSGEODY",
    "OBSGEODZ",
    "PA_APER",
    "VA_SCALE",
    "RADESYS",
    "RA_V1",
    "DEC_V1",
    "PA_V3",
    "WCSAXES",
    "CRPIX1",
    "CRPIX2",
    "CRVAL1",
    "CRVAL2",
    "CTYPE1",
    "CTYPE2",
    "CUNIT1",
    "CUNIT2",
    "CDELT1",
    "CDELT2",
    "PC1_1",
    "PC1_2",
    "PC2_1",
    "PC2_2",
    "S_REGION",
    "V2_REF",
    "V3_REF",
    "VPARITY",
    "V3I_YANG",
    "RA_REF",
    "DEC_REF",
    "ROLL_REF",
    "VELOSYS",
)


def exposure_name(plan: SimulationPlan, observation: int, exposure: int) -> str:
    """Return the file name; `observation` and `exposure` count from 1."""
    detector = plan.detector.lower()
    return f"jw{plan.program}{observation:03d}001_02101_{exposure:05d}_{detector}_uncal.fits"


def exposure_headers(
    plan: SimulationPlan, observation: int, exposure: int, start: Time
) -> tuple[fits.Header, fits.Header]:
    """Return the primary and the SCI header of one exposure.

    Parameters
    ----------
    plan : SimulationPlan
    observation, exposure : int
        Counted from 1.
    start : astropy.time.Time
        UTC at which the first reset begins.

    Returns
    -------
    primary, science : astropy.io.fits.Header
    """
    primary, science = (header.copy() for header in _real_headers())
    for header, untrue in ((primary, _UNTRUE), (science, _UNTRUE_SCI)):
        for keyword in untrue:
            header.remove(keyword, ignore_missing=True, remove_all=True)
    middle, end = _later(start, plan.exposure_seconds / 2), _later(start, plan.exposure_seconds)
    cards = (
        _identity(plan, observation, exposure, start, end)
        | _optics(plan)
        | {"EXPSTART": start.mjd, "EXPMID": middle.mjd, "EXPEND": end.mjd}
        | _readout(plan)
    )
    for keyword, value in cards.items():
        primary[keyword] = value
    primary["PEDIGREE"] = ("SIMULATION", "these are not flight data")
    primary["SIMSEED"] = (plan.seed, "seed of the simulation")
    primary["SIMCRATE"] = (plan.hit_rate, "[hits/cm2/s] simulated cosmic rays")
    primary["SIMSCENE"] = (plan.scene, "charge library of the cosmic rays")
    primary.add_history("SIMULATED by nircam-darks simulate: not flight data.")
    primary.add_history("Header after a real exposure that ships with jwst, edited for a dark.")
    science["MJD-BEG"] = start.mjd
    science["MJD-AVG"] = middle.mjd
    science["MJD-END"] = end.mjd
    science["XPOSURE"] = _exposure_time(plan)
    science["TELAPSE"] = round(plan.exposure_seconds, 5)
    rows, columns = plan.shape
    for axis, length in enumerate((columns, rows, plan.ngroups, plan.nints), start=1):
        science[f"NAXIS{axis}"] = length
    return primary, science


def _later(start: Time, seconds: float) -> Time:
    return start + TimeDelta(seconds, format="sec")


def _exposure_time(plan: SimulationPlan) -> float:
    return round(plan.nints * plan.integration_time, 5)


def _identity(
    plan: SimulationPlan, observation: int, exposure: int, start: Time, end: Time
) -> dict[str, Any]:
    """Return the cards that say which exposure of which visit it is, and when it was taken."""
    visit = f"{plan.program}{observation:03d}001"
    return {
        "DATE": start.isot,
        "FILENAME": exposure_name(plan, observation, exposure),
        "TITLE": "SIMULATED NIRCam dark exposures",
        "DATE-OBS": start.isot[:10],
        "TIME-OBS": start.isot[11:],
        "DATE-BEG": start.isot,
        "DATE-END": end.isot,
        "OBS_ID": f"V{visit}P0000000002101",
        "VISIT_ID": visit,
        "PROGRAM": plan.program,
        "OBSERVTN": f"{observation:03d}",
        "VISIT": "001",
        "VISITGRP": "02",
        "SEQ_ID": "1",
        "ACT_ID": "01",
        "EXPOSURE": str(exposure),
        "EXPCOUNT": exposure,
        "NEXPOSUR": plan.exposures,
        "TEMPLATE": "NIRCam Dark",
        "VISITYPE": "PRIME_UNTARGETED",
        "INTARGET": True,
        "TARGNAME": "",
        "PCS_MODE": "NONE",
    }


def _optics(plan: SimulationPlan) -> dict[str, Any]:
    """Return the cards about detector, filter and pupil."""
    long_wave = plan.device.channel == "LW"
    return {
        "DETECTOR": plan.detector,
        "MODULE": plan.device.module,
        "CHANNEL": "LONG" if long_wave else "SHORT",
        "FILTER": "F277W" if long_wave else "F150W",
        # A dark is taken with the pupil wheel at its flat position, which is opaque with the lamps off.
        "PUPIL": "FLAT",
        "CORONMSK": plan.geometry.coronmsk,
        "EXP_TYPE": "NRC_DARK",
    }


def _readout(plan: SimulationPlan) -> dict[str, Any]:
    """Return the cards about readout pattern, times (s) and subarray."""
    geometry, device = plan.geometry, plan.device
    return {
        "READPATT": plan.readpatt,
        "NOUTPUTS": plan.outputs,
        "NINTS": plan.nints,
        "NGROUPS": plan.ngroups,
        "NFRAMES": plan.nframes,
        "FRMDIVSR": plan.nframes,
        "GROUPGAP": plan.groupgap,
        "TFRAME": plan.tframe,
        "TGROUP": plan.tgroup,
        "EFFINTTM": round(plan.integration_time, 5),
        "EFFEXPTM": _exposure_time(plan),
        "DURATION": _exposure_time(plan),
        "SCA_NUM": _SCA[plan.detector],
        "IS_PSF": False,
        "SELFREF": False,
        "SUBARRAY": plan.subarray,
        "SUBSTRT1": geometry.substrt1,
        "SUBSTRT2": geometry.substrt2,
        "SUBSIZE1": geometry.subsize1,
        "SUBSIZE2": geometry.subsize2,
        "FASTAXIS": device.fastaxis,
        "SLOWAXIS": device.slowaxis,
    }


@functools.cache
def _real_headers() -> tuple[fits.Header, fits.Header]:
    with (
        resources.as_file(resources.files("jwst").joinpath(_REAL)) as path,
        fits.open(path, do_not_scale_image_data=True) as hdus,
    ):
        primary, science = hdus[0].header.copy(), hdus["SCI"].header.copy()
    return primary, science
