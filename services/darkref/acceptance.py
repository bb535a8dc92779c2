"""A reference file on this machine, and an exposure that is not in it: verified before it is announced."""

from pathlib import Path

from astropy.io import fits

from services.darkref.building import Withheld
from services.darkref.certify import violations
from services.darkref.left_out import subtract
from services.darkref.reference_planes import ReferencePlanes, read_planes
from services.darkref.verification import LEAST_INTEGRATIONS, assess
from services.darkref.verification_products import LeftOut, Verification
from shared.configuration import ConfigurationKey


def verify(
    reference: Path,
    key: ConfigurationKey,
    gain: float,
    measurements: float,
    standard_error: bool,
    withheld: Withheld | None,
) -> Verification:
    """Verify the dark at `reference`; memory stays bounded whatever its size.

    Parameters
    ----------
    reference : Path
        The file that would be delivered.
    key : ConfigurationKey
        Of the exposures it was made from.
    gain : float
        e-/DN.
    measurements : float
        Median number of integrations in a (group, pixel) of it.
    standard_error : bool
        Whether ERR is a standard error of pedestal-free values (flight mode).
    withheld : Withheld, optional

    Raises
    ------
    TransientError
        If the process that asks CRDS's rules dies or hangs.
    """
    result: LeftOut | str
    if withheld is None:
        result = "not enough data: no exposure was left out"
    elif withheld.measurements < LEAST_INTEGRATIONS:
        result = (
            f"not enough data: without {withheld.exposure} a place of the reference is the mean of "
            f"{withheld.measurements:g} integrations, and {LEAST_INTEGRATIONS} are needed"
        )
    else:
        try:
            result = subtract(
                withheld.reference, withheld.ramp, withheld.key, withheld.exposure, withheld.measurements
            )
        except (KeyError, ValueError) as error:
            # SCI or DQ is not there or of another shape, which `read_planes` says too.
            result = f"not enough data: {error}"
    planes: ReferencePlanes | str
    try:
        planes = read_planes(reference, (key.ngroups, key.subsize2, key.subsize1))
    except ValueError as error:
        planes = str(error)
    header = fits.getheader(reference)
    return assess(key, header, violations(reference), planes, result, gain, measurements, standard_error)
