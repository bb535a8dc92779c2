"""Verify a reference file before it is announced: the file, and what it does to an exposure not in it."""

from pathlib import Path

from astropy.io import fits

from services.darkref.build_config import BuildConfig, BuiltDark, LeaveOneOut
from services.darkref.measure.outlying_exposures import MOST_LEFT_OUT
from services.darkref.reference_file.reader import ReferencePlanes, read_planes
from services.darkref.verification.certify import violations
from services.darkref.verification.checks import LEAST_INTEGRATIONS, ReferenceBasis, run_checks
from services.darkref.verification.expectations import check_dark_current
from services.darkref.verification.flatness import check_flatness
from services.darkref.verification.leave_one_out import measure_residuals
from services.darkref.verification.measured_share import measured_share
from shared.nircam.configuration import ConfigurationKey
from shared.products.reference import LeaveOneOutResult, Verification, VerificationCheck
from shared.statistics.verdicts import Acceptance, Value


def check_set(config: BuildConfig, built: BuiltDark) -> list[VerificationCheck]:
    """Check what a set gave its dark: enough measurements, a dark current as expected, a flat image.

    Parameters
    ----------
    config : BuildConfig
        With what was left out of the set.
    built : BuiltDark
    """
    key, ramp, current = built.dark.key, built.dark.mean_ramp(), built.current
    quality = None if built.flags is None else built.flags.quality
    last = ramp.n_valid(ramp.groups - 1)
    share = measured_share(
        last, ramp.integrations, config.settings.min_valid, quality, ramp.science, ramp.amplifiers
    )
    rate = check_dark_current(key, Value(current.value, current.error))
    return [*share, rate, *check_flatness(key, ramp, current.image), _exposures_alike(config, built)]


def _exposures_alike(config: BuildConfig, built: BuiltDark) -> VerificationCheck:
    """Check that no more than a fifth of the set stands apart, or is not in use for any other reason."""
    apart = [entry for entry in built.left_out if not entry.left_out]
    sizes = {member.exposure_id: member.integrations for member in config.members}
    places = {(entry.exposure, entry.integration) for entry in built.left_out}
    gone = sum(sizes[exposure] if integration is None else 1 for exposure, integration in places)
    share = gone / sum(sizes.values())
    failed = bool(apart) or share > MOST_LEFT_OUT
    looked = built.flags is not None and not built.too_few_to_compare
    detail = "what stands apart from the set, if anything, was left out of it"
    if failed:
        named = ", ".join(f"{entry.exposure} ({entry.quantity})" for entry in built.left_out)
        detail = f"{named}: more than a fifth of the set, so nothing says which of them is right"
    elif not looked:
        detail = "not enough data: too few integrations, or notebook mode, which combines all"
    return VerificationCheck(
        name="exposures alike",
        where="detector",
        passed=not failed if failed or looked else None,
        on_failure=Acceptance.HELD,
        value=100 * share,
        limit=100 * MOST_LEFT_OUT,
        unit="%",
        detail=detail,
    )


def verify_reference(
    reference: Path, key: ConfigurationKey, basis: ReferenceBasis, left_out: LeaveOneOut | None
) -> Verification:
    """Verify the dark at `reference`; memory stays bounded whatever its size.

    Parameters
    ----------
    reference : Path
        The file that would be delivered.
    key : ConfigurationKey
        Of the exposures it was made from.
    basis : ReferenceBasis
    left_out : LeaveOneOut, optional
        None where no exposure could be left out.

    Raises
    ------
    TransientError
        If the process that runs CRDS's rules dies or hangs.
    """
    result: LeaveOneOutResult | str
    if left_out is None:
        result = "not enough data: no exposure was left out"
    elif left_out.n_valid < LEAST_INTEGRATIONS:
        result = (
            f"not enough data: without {left_out.exposure} a place of the reference is the mean of "
            f"{left_out.n_valid:g} integrations, and {LEAST_INTEGRATIONS} are needed"
        )
    else:
        try:
            result = measure_residuals(
                left_out.reference, left_out.ramp, left_out.key, left_out.exposure, left_out.n_valid
            )
        except (KeyError, ValueError) as error:
            # SCI or DQ is missing or of another shape, which `read_planes` reports too.
            result = f"not enough data: {error}"
    planes: ReferencePlanes | str
    try:
        planes = read_planes(reference, (key.ngroups, key.subsize2, key.subsize1))
    except ValueError as error:
        planes = str(error)
    header = fits.getheader(reference)
    return run_checks(key, header, violations(reference), planes, result, basis)
