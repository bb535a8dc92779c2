"""Build a dark reference from a set of ramps: the recipe, in eight steps.

1. `combine_alike`: the ramps of all integrations into a mean ramp, in files of the product's own; once more
   without those that do not belong to the set, if there are any (flight mode).
2. `refine`: the mean ramp once more, from what lies between the hits (flight mode).
3. `measure`: the dark current of the mean ramp.
4. `flag_bad`: hot, warm, dead, RC and unreliable pixels (flight mode).
5. `put_model_ramps`: the model ramp of each pixel that fits it, in place of its measured one (flight mode).
6. `compare_with_previous`: what changes against the reference that this one replaces (flight mode).
7. `write_results`: the results, into the header and the maps.
8. `verify`: the rules of CRDS, the noise, and an exposure that was left out.

Each step takes what the steps before it returned; `services.darkref.build_config` holds these types.
"""

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from services.darkref.build_config import (
    SIGMA,
    BuildConfig,
    BuiltDark,
    CombinedDark,
    FlagResult,
    LeaveOneOut,
    PreviousComparison,
    Stopwatch,
)
from services.darkref.combine.combine_set import CombinedSet, combine_set
from services.darkref.combine.pooled_errors import judge_scatter
from services.darkref.combine.segments import (
    LEAST_INTEGRATIONS,
    SegmentFit,
    combine_segments,
    plan_segments,
)
from services.darkref.combine.unclipped import ClippedPlaces
from services.darkref.combine.windows import plan_combine
from services.darkref.describe import describe_dark
from services.darkref.kernels.segments import PLANES
from services.darkref.measure.bad_pixels import PixelScatter, Thresholds, average_rates, flag_pixels
from services.darkref.measure.dark_current import DarkCurrent, measure_dark_current, median_ramps
from services.darkref.measure.difference import Dark
from services.darkref.measure.model_ramp import (
    cds_about_ramp,
    end_variance,
    pixels_with_model,
    write_model_ramps,
)
from services.darkref.measure.outlying_exposures import (
    IntegrationFigures,
    Outlying,
    find_outlying,
    integration_figures,
)
from services.darkref.measure.reset_settling import find_settling, without_settling
from services.darkref.previous import read_and_compare
from services.darkref.reference_file import writer
from services.darkref.reference_file.history import SPARE_LINES
from services.darkref.reference_file.reader import read_model_ramp
from shared.contracts.messages import SetMember
from shared.errors import PermanentError
from shared.nircam.geometry import amplifiers, science_pixels
from shared.products.reference import CONTRIBUTIONS, DARK_CURRENT_MAP, DIFFERENCE_MAP, Verification
from shared.ramps.cube import Cube


@contextmanager
def build_dark(config: BuildConfig, folder: Path, watch: Stopwatch) -> Iterator[BuiltDark]:
    """Build the dark of a set in a folder of this machine's disk.

    Parameters
    ----------
    config : BuildConfig
    folder : Path
        Takes the reference file, `CONTRIBUTIONS` and `DARK_CURRENT_MAP`; empty, and removed by the caller.
    watch : Stopwatch
        Takes the seconds of each step.

    Yields
    ------
    BuiltDark
        Its planes can be read until the context ends.

    Raises
    ------
    PermanentError
        If a ramp does not have its configuration's shape, no measurement is left anywhere, or there is no
        dark current to measure.
    """
    with ExitStack() as stack:
        with watch.step("combine"):
            config, dark, too_few = stack.enter_context(combine_alike(config, folder))
        if config.mode.flags_pixels:
            with watch.step("segments"):
                dark = stack.enter_context(refine(config, dark, config.members))
        _sync_meanwhile(dark, stack)
        with watch.step("dark current"):
            current = measure(config, dark)
        flags = comparison = None
        if config.mode.flags_pixels:
            with watch.step("bad pixels"):
                flags = flag_bad(config, dark, current)
            with watch.step("model ramps"):
                flags = replace(flags, model_ramp=put_model_ramps(dark, flags.quality))
            with watch.step("comparison"):
                comparison = compare_with_previous(config, dark, flags)
        with watch.step("write"):
            built = write_results(config, dark, current, flags, comparison)
            built = replace(built, left_out=config.left_out, too_few_to_compare=too_few)
        if config.settings.verify:
            with watch.step("verification"):
                built = replace(built, verification=verify(config, built))
        yield built


@contextmanager
def combine_alike(config: BuildConfig, folder: Path) -> Iterator[tuple[BuildConfig, CombinedDark, bool]]:
    """Combine the integrations of a set that are alike.

    Parameters
    ----------
    config : BuildConfig
    folder : Path

    Yields
    ------
    config : BuildConfig
        With what was left out.
    dark : CombinedDark
    too_few : bool
        Whether there were too few integrations to tell which of them are alike.

    Raises
    ------
    PermanentError
        See `combine`.
    """
    with combine(config, config.members, folder) as dark:
        outlying = (
            find_outlying(judge_integrations(config, dark)) if config.mode.flags_pixels else Outlying([])
        )
        chosen = config.leaving_out(outlying.entries)
        if chosen.integrations in (config.integrations, 0):
            yield chosen, dark, outlying.too_few
            return
    with combine(chosen, config.members, folder) as dark:
        yield chosen, dark, outlying.too_few


def judge_integrations(config: BuildConfig, dark: CombinedDark) -> list[IntegrationFigures]:
    """Return the figures by which the integrations in use are compared with each other."""
    config.progress(0, 1, "comparing the exposures")
    science, flags = science_pixels(dark.key), config.mode.bad_group_flags.mask
    scale = dark.gain / dark.key.group_time * 1000
    first = slice(0, 1)
    with config.open(config.members) as integrations:
        return [
            integration_figures(
                (member.exposure_id, index),
                dark.combined.slopes.plane(number),
                (
                    integration.ramp.read("SCI", index, first)[0],
                    (integration.ramp.read("GROUPDQ", index, first)[0] & flags) == 0,
                ),
                science,
                scale,
            )
            for number, ((member, index), integration) in enumerate(
                zip(config.in_use(config.members), integrations, strict=True)
            )
        ]


@contextmanager
def combine(config: BuildConfig, members: Sequence[SetMember], folder: Path) -> Iterator[CombinedDark]:
    """Lay out the dark of some of the set's members in a folder, and combine their ramps into it.

    Raises
    ------
    PermanentError
        If a ramp is missing, does not have its configuration's shape, or nothing is left of all of them.
    """
    key, mode, settings = config.key, config.mode, config.settings
    count = len(config.in_use(members))
    shape = key.ngroups, key.subsize2, key.subsize1
    plan = plan_combine(count, shape, settings.max_memory, settings.max_fullframe_groups, mode.pedestals)
    path = folder / writer.dark_file_name(key)
    # The whole file is laid out at once; what will be measured goes into the spare room of its header.
    description = describe_dark(config, members)
    spare = SPARE_LINES if mode.flags_pixels else 0
    places = writer.lay_out_dark(path, key, description, flight=mode.flags_pixels, spare_history=spare)
    contributions = folder / CONTRIBUTIONS
    n_valid = writer.lay_out_contributions(contributions, key, model_ramp=mode.flags_pixels)
    with ExitStack() as stack:
        clipped = ClippedPlaces(folder / "clipped.raw") if mode.flags_pixels else None
        combined = CombinedSet(
            sci=stack.enter_context(places["SCI"].cube(path, np.float32)),
            err=stack.enter_context(places["ERR"].cube(path, np.float32)),
            n_valid=stack.enter_context(n_valid["NMEAS"].cube(contributions, np.uint16)),
            slopes=stack.enter_context(Cube(folder / "slopes.raw", (count, *shape[1:]), np.float32)),
            clipped=None if clipped is None else stack.enter_context(clipped),
        )
        with config.open(members) as integrations:
            combine_set(integrations, combined, plan, mode, SIGMA, folder, config.progress)
        if mode.flags_pixels:
            config.progress(0, 1, "judging the scatter of pixels")
            limits = Thresholds()
            hot = limits.hot_e_per_s * key.group_time / config.ready.gain
            judge_scatter(combined, science_pixels(key), config.ready.gain, limits.noisy_noise, hot)
        yield CombinedDark(path, places | n_valid, combined, plan, key, config.ready.gain)


@contextmanager
def refine(config: BuildConfig, dark: CombinedDark, members: Sequence[SetMember]) -> Iterator[CombinedDark]:
    """Combine the segments between hits, in place of what comes before each integration's first.

    Yields
    ------
    CombinedDark
        The same where the mode does not do so, a single integration has nothing to be compared with, or
        nothing was measured.
    """
    combined, key = dark.combined, dark.key
    several = combined.integrations >= LEAST_INTEGRATIONS and combined.total_valid > 0
    if not (config.mode.flags_pixels and several):
        yield dark
        return
    plane = key.subsize2, key.subsize1
    settling = find_settling(dark.mean_ramp())
    curve = np.zeros(key.ngroups) if settling is None else settling.curve(key.ngroups)
    bands = plan_segments(combined.integrations, (key.ngroups, *plane), config.settings.max_memory)
    left_alone = combined.noisy | combined.telegraph
    shape, scratch = (PLANES, *plane), dark.path.with_name("segments.raw")
    with Cube(scratch, shape, np.float32, as_fits=False) as planes:
        fit = SegmentFit(planes, curve)
        with config.open(members) as integrations:
            combine_segments(integrations, combined, fit, dark.gain, left_alone, bands, config.progress)
        yield replace(dark, fit=fit)


def measure(config: BuildConfig, dark: CombinedDark) -> DarkCurrent:
    """Measure the dark current of the mean ramp.

    Raises
    ------
    PermanentError
        If there is no measurement, or none in two groups of one pixel.
    """
    config.progress(0, 1, "measuring the dark current")
    first = config.members[0].exposure_id
    if dark.combined.total_valid == 0:
        raise PermanentError(
            f"{config.set_name}: all pixels flagged: every pixel of every integration is flagged from its "
            f"first group on, so no measurement is left; look at GROUPDQ of {first} "
            f"({config.mode.bad_group_names})",
            where=first,
            keyword="GROUPDQ",
        )
    ramp = dark.mean_ramp()
    # With its pedestals a mean ramp begins anywhere, and notebook mode measures what the notebook does.
    settling = find_settling(ramp) if config.mode.pedestals else None
    current = measure_dark_current(ramp, settling)
    if not (math.isfinite(current.value) and math.isfinite(current.error)):
        raise PermanentError(
            f"{config.set_name}: no science pixel was measured in two groups, so there is no dark current to "
            f"measure; use exposures of more groups, or look at GROUPDQ of {first}",
            where=first,
            keyword="GROUPDQ",
        )
    return current


def flag_bad(config: BuildConfig, dark: CombinedDark, current: DarkCurrent) -> FlagResult:
    """Flag bad pixels in the DQ of the file."""
    config.progress(0, 1, "looking for bad pixels")
    science = science_pixels(dark.key)
    thresholds = Thresholds(min_measurements=config.settings.min_valid)
    ramp = without_settling(dark.mean_ramp(), current.settling)
    combined = dark.combined
    scatter = PixelScatter(combined.unclipped_ratio, combined.freedom, combined.telegraph)
    quality, counts = flag_pixels(ramp, scatter, thresholds)
    with dark.places["DQ"].cube(dark.path, np.uint32) as cube:
        cube.write(0, 0, quality[None])
    rates = average_rates(current.image / np.float32(1000), quality, science, current.value / 1000)
    return FlagResult(quality, counts, thresholds, rates)


def put_model_ramps(dark: CombinedDark, quality: NDArray[np.uint32]) -> int | None:
    """Put the model in place of each ramp that fits it; return how many, or None if there is none."""
    if dark.fit is None:
        return None
    chosen = pixels_with_model(dark.fit, quality, science_pixels(dark.key))
    write_model_ramps(dark.combined, dark.fit, chosen, dark.gain)
    with dark.places["MODELRAMP"].cube(dark.path.with_name(CONTRIBUTIONS), np.uint8) as cube:
        cube.write(0, 0, chosen[np.newaxis].astype(np.uint8))
    return int(np.count_nonzero(chosen))


def compare_with_previous(
    config: BuildConfig, dark: CombinedDark, flags: FlagResult
) -> PreviousComparison | None:
    """Compare with the reference that this one replaces; None if it replaces none."""
    previous = config.find_previous()
    if previous is None:
        return None
    combined = dark.combined
    new = Dark(
        name=dark.path.name,
        sci=combined.sci.plane,
        err=combined.err.plane,
        groups=dark.key.ngroups,
        quality=flags.quality,
        errors=config.mode.errors,
    )
    return read_and_compare(previous, new, config.ready, flags.thresholds)


def write_results(
    config: BuildConfig,
    dark: CombinedDark,
    current: DarkCurrent,
    flags: FlagResult | None,
    comparison: PreviousComparison | None,
) -> BuiltDark:
    """Complete the header of the reference file, and write the maps beside it."""
    ramps = median_ramps(dark.mean_ramp())
    description = describe_dark(config, config.members, current, flags, comparison)
    writer.complete_header(dark.path, dark.key, description)
    rates = None if flags is None else flags.average_rates
    writer.write_dark_current_map(dark.path.with_name(DARK_CURRENT_MAP), current.image, dark.key, rates)
    if comparison is not None and comparison.difference is not None:
        writer.write_difference_map(
            dark.path.with_name(DIFFERENCE_MAP), comparison.difference.image, dark.key, comparison.name
        )
    return BuiltDark(dark, current, flags, comparison, ramps, description.pedigree)


def verify(config: BuildConfig, built: BuiltDark) -> Verification:
    """Verify the finished file: what was measured, whether it is as expected, and an exposure not in it."""
    # Imported here, as it takes as long to load as all the rest.
    from services.darkref.verification.checks import ReferenceBasis
    from services.darkref.verification.expectations import expected_read_noise
    from services.darkref.verification.verify import check_set, verify_reference

    dark = built.dark
    fit, science = dark.fit, science_pixels(dark.key)
    basis = ReferenceBasis(
        gain=dark.gain,
        n_valid=dark.typical_n_valid,
        standard_error=config.mode.pedestals,
        read_noise=expected_read_noise(dark.key, dark.gain, config.read_noise_map),
        set_checks=check_set(config, built),
        cds=[] if fit is None else cds_about_ramp(fit, science, amplifiers(dark.key)),
        model_variance=None if fit is None else end_variance(fit, read_model_ramp(dark.path, science.shape)),
    )
    config.progress(0, 1, "verifying: the dark without one exposure")
    with (
        TemporaryDirectory(dir=dark.path.parent, prefix="without-") as folder,
        leave_one_out(config, Path(folder), built.flags) as left_out,
    ):
        config.progress(0, 1, "verifying: rules, noise, and the exposure left out")
        return verify_reference(dark.path, dark.key, basis, left_out)


@contextmanager
def leave_one_out(
    config: BuildConfig, folder: Path, flags: FlagResult | None
) -> Iterator[LeaveOneOut | None]:
    """Build the dark without the exposure in the middle of the set's time, to try it on that exposure.

    Parameters
    ----------
    config : BuildConfig
    folder : Path
        For temporary files.
    flags : FlagResult or None
        Of the whole set; they decide which pixels may have a model ramp.

    Yields
    ------
    LeaveOneOut or None
        None for a set of one exposure.
    """
    members = config.members_in_use
    chosen = members[len(members) // 2]
    rest = [member for member in members if member is not chosen]
    if not rest:
        yield None
        return
    with (
        combine(config, rest, folder) as coarse,
        refine(config, coarse, rest) as dark,
        config.open_ramps([chosen]) as integrations,
    ):
        if flags is not None:
            put_model_ramps(dark, flags.quality)
        yield LeaveOneOut(
            exposure=chosen.exposure_id,
            key=config.key,
            ramp=integrations[0].ramp,
            reference=dark.path,
            n_valid=dark.typical_n_valid,
        )


def _sync_meanwhile(dark: CombinedDark, stack: ExitStack) -> None:
    """Bring the large cubes to the disk while the dark current is measured; the store would wait for it."""
    disk = stack.enter_context(ThreadPoolExecutor(1, "disk"))
    for cube in (dark.combined.sci, dark.combined.n_valid):
        disk.submit(cube.sync)
