"""How many hits there were, of what charge, and what is expected: by cosmic rays and by noise alone."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import special

from services.noise.jump_events import Events, Search
from services.noise.jump_products import ChargeHistogram, JumpEvents
from services.noise.jumps import (
    expected_percent,
    false_positive_percent,
    false_positive_probability,
    live_seconds,
    threshold_sigma,
)
from services.noise.products import Measured
from services.noise.verdicts import judge
from shared.configuration import ConfigurationKey
from shared.detectors import FULL_FRAME, PIXEL_PITCH_UM

#: Per cent of the pixels that cosmic rays hit per 1000 s in flight: least, and most.
FLIGHT_PERCENT = (5.0, 10.0)
#: Hits/cm2/s behind JWST's shielding: least, and most. 4.3 falling to 2.3 over the first three years, and
#: about 6 expected at the next solar minimum (NIRSpec darks; Rauscher & Fixsen 2025, PASP 137, 095003).
FLIGHT_HITS = (2.3, 6.0)
#: Pixels of a large event in one group: a disk of radius 4, which mpi-astronomy's snowblind takes to tell
#: snowballs of NIRCam's long-wave detectors from ordinary hits; a grazing track has fewer.
LARGE_PIXELS = 50
#: Seconds from one snowball to the next on a whole detector, "a very rough estimate" (JWST documentation,
#: "Shower and Snowball Artifacts").
SNOWBALL_SECONDS = 20.0
#: Pixels of what jwst's jump step calls a snowball if one of them saturated (jwst 3.0.0, ``JumpStep.spec``:
#: min_jump_area; min_sat_area is 1).
JWST_SNOWBALL_PIXELS = 5
#: From so many sigma on the jump step flags a pixel's neighbours too (min_jump_to_flag_neighbors).
_NEIGHBOUR_SIGMA = 10.0
#: A median of fewer hits is not given.
_FEWEST_HITS = 10
#: Two-sided probability beyond 1 sigma.
_BEYOND = float(special.erfc(1 / math.sqrt(2)))
#: Edges of the histogram, e-: ten bins a decade, from below any threshold to some full wells.
_EDGES = np.logspace(1, 7, 61)
_NOTES = (
    "An event is what touches: pixels with JUMP_DET, or that saturate at once, 8-connected in a group and "
    "the same pixel from group to group; usable science pixels only.",
    "Charge: over the flagged pixels, the steps less each pixel's own mean difference over the unflagged "
    "groups of the integration, times the median gain. Charge on pixels that are not flagged is not in it, "
    "and that of events which saturate is a lower limit.",
    "Hits: events of positive charge, less as many as have negative charge (noise has no sign), plus pairs "
    "that met by chance. Hits too faint to be flagged are not in it.",
)


def ramp_seconds(key: ConfigurationKey) -> float:
    """Return the time from the first to the last group, s."""
    return (key.ngroups - 1) * key.group_time


def false_flags(key: ConfigurationKey, integrations: int) -> float:
    """Return how many flags noise alone is expected to make, over all pixels of `integrations` ramps."""
    differences = (key.ngroups - 1) * integrations * key.subsize1 * key.subsize2
    return differences * false_positive_probability(key.ngroups)


def judge_jumps(percent: float, error: float, key: ConfigurationKey, integrations: int) -> Measured:
    """Compare hit pixels with flight's 5 to 10 per cent per 1000 s, and noise's own flags on top.

    How many those are depends on how well the read noise reference fits and on which of its methods the
    jump step takes; their expectation is taken to be as uncertain as it is large.
    """
    seconds = live_seconds(ramp_seconds(key), integrations)
    false = false_positive_percent(key.ngroups, integrations)
    least, most = (expected_percent(limit, seconds) for limit in FLIGHT_PERCENT)
    return judge(
        percent,
        error,
        (least + most) / 2 + false,
        math.hypot((most - least) / 2, false),
        f"{least:.2g} to {most:.2g} % by cosmic rays in {seconds:.0f} s, about {false:.2g} % by noise alone",
    )


def poisson_interval(count: int) -> tuple[float, float]:
    """Return the exact central 68.3 % interval of a Poisson mean of which `count` events were seen.

    Source: Garwood 1936, Biometrika 28, 437; by quantiles of the gamma distribution.
    """
    low = float(special.gammaincinv(count, _BEYOND / 2)) if count else 0.0
    return low, float(special.gammaincinv(count + 1, 1 - _BEYOND / 2))


def hits_of(positive: int, negative: int, merged: float, merged_error: float) -> tuple[float, float, float]:
    """Return how many hits there were, and the limits of the 68.3 % interval.

    Parameters
    ----------
    positive, negative : int
        Events by the sign of their charge; noise makes as many of either.
    merged, merged_error : float
        Pairs that met by chance.
    """
    hits = positive - negative + merged
    (least, most), (least_false, most_false) = poisson_interval(positive), poisson_interval(negative)
    # Where noise left no trace, its own upper limit would widen a count of few hits beyond what is known.
    below = math.hypot(positive - least, most_false - negative if negative else 0.0, merged_error)
    above = math.hypot(most - positive, negative - least_false, merged_error)
    return hits, hits - below, hits + above


def median_charge(charge: NDArray[np.float64]) -> tuple[float, float] | None:
    """Return the median charge of hits and its 1-sigma error; None with fewer than ten hits.

    Events of negative charge are noise's; they count against those of the same positive charge.

    Parameters
    ----------
    charge : ndarray, 1D
        Of events, finite, in any unit.
    """
    sizes, signs = np.abs(charge), np.sign(charge)
    order = np.argsort(sizes, kind="stable")
    sizes, below = sizes[order], np.cumsum(signs[order])
    hits = below[-1] if below.size else 0.0
    if hits < _FEWEST_HITS:
        return None
    # Hits below the median are binomial. Noise's events, nearly all below it, add half of their Poisson
    # scatter: they move the middle as well.
    middle, width = hits / 2, math.sqrt(sizes.size) / 2
    low, centre, high = (
        float(sizes[np.argmax(below >= place)])
        for place in (max(middle - width, 1.0), middle, min(middle + width, hits))
    )
    # Charges are spread over decades: the interval reaches further up than down, and one number has to hold
    # on either side.
    return centre, max(high - centre, centre - low)


def jump_events(
    events: Events,
    search: Search,
    key: ConfigurationKey,
    gain: float,
    mjd: tuple[float, float],
) -> JumpEvents | None:
    """Return the facts of an exposure's events; None where none could be seen.

    That is with fewer groups than the jump step needs, or if no difference was usable.

    Parameters
    ----------
    events : Events
    search : Search
    key : ConfigurationKey
    gain : float
        e-/DN; its own error is in no figure's error.
    mjd : (float, float)
        Start and end of the exposure, UTC days.
    """
    probability = false_positive_probability(key.ngroups)
    if not probability or not search.searched:
        return None
    counted = events.counted
    known = counted & np.isfinite(events.charge)
    charge = events.charge[known] * gain
    pixels, saturated = events.pixels[known], events.saturated[known]
    positive = charge > 0
    number, negative = int(positive.sum()), int(charge.size - positive.sum())
    inside = float(counted.mean()) if counted.size else 0.0
    hits, low, high = hits_of(number, negative, search.merged * inside, search.merged_error * inside)
    area = search.pixels * (PIXEL_PITCH_UM * 1e-4) ** 2
    # Frames averaged into a group: what hits after its first one shows in the difference to the next group
    # in part, and a hit in the last group before its last one.
    averaged = (key.nframes - 1) * key.tframe / (key.ngroups - 1)
    seconds = search.searched / search.pixels * (key.group_time + averaged)
    per = 1 / (area * seconds)
    rate, error = hits * per, (high - low) / 2 * per
    noise = search.noise * gain
    large = events.area[counted] >= LARGE_PIXELS
    large_number = int(large.sum())
    large_low, large_high = poisson_interval(large_number)
    faint = positive & (pixels == 1) & (charge < _NEIGHBOUR_SIGMA * noise)
    core = events.saturated[counted] & (events.area[counted] >= JWST_SNOWBALL_PIXELS)
    median = median_charge(charge)
    return JumpEvents(
        start_mjd=mjd[0],
        mid_mjd=sum(mjd) / 2,
        end_mjd=mjd[1],
        events=number,
        negative_events=negative,
        unmeasured_events=int(counted.sum() - known.sum()),
        expected_false_events=search.searched * probability,
        faint_single_events=int(faint.sum()),
        merged_events=search.merged * inside,
        hits=hits,
        hits_low=low,
        hits_high=high,
        area_cm2=area,
        live_seconds=seconds,
        lost_percent=100 * (1 - search.searched / search.possible),
        hits_per_cm2_s=rate,
        hits_per_cm2_s_error=error,
        hits_per_cm2_s_low=low * per,
        hits_per_cm2_s_high=high * per,
        expected_hits_per_cm2_s=FLIGHT_HITS,
        verdict=_judge_hits(rate, error),
        threshold_e=threshold_sigma(key.ngroups) * noise,
        pixels_per_event=float(pixels[positive].mean()) if number else None,
        median_charge_e=median[0] if median else None,
        median_charge_error_e=median[1] if median else None,
        saturated_events=int(saturated.sum()),
        charge=_histogram(charge),
        large_events=large_number,
        large_events_per_cm2_s=large_number * per,
        large_events_per_cm2_s_low=large_low * per,
        large_events_per_cm2_s_high=large_high * per,
        expected_large_events=seconds / SNOWBALL_SECONDS * search.pixels / FULL_FRAME**2,
        core_events=int(core.sum()),
        notes=list(_NOTES),
    )


def _judge_hits(rate: float, error: float) -> str:
    least, most = FLIGHT_HITS
    expected = f"{least:g} to {most:g} hits/cm2/s in flight"
    return judge(rate, error, (least + most) / 2, (most - least) / 2, expected).verdict


def _histogram(charge: NDArray[np.float64]) -> ChargeHistogram:
    inside = np.clip(np.abs(charge), _EDGES[0], _EDGES[-1])
    return ChargeHistogram(
        edges_e=[float(f"{edge:.6g}") for edge in _EDGES],
        events=np.histogram(inside[charge > 0], _EDGES)[0].tolist(),
        mirrored=np.histogram(inside[charge <= 0], _EDGES)[0].tolist(),
    )
