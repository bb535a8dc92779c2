"""Rates of cosmic-ray hits: from the events of an exposure to hits/cm2/s, and what is expected.

Hits follow from events by their signs: particles leave charge, and the noise events among the flags have
either sign with the same probability, so that the events of negative charge say how many of the positive ones
are noise. Events that touch by chance count as one and are added again. The rate of a set is that of all hits
of its exposures over all their live time.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from services.noise.jumps.counts import (
    expected_percent,
    false_positive_percent,
    false_positive_probability,
    jump_refusal,
    live_seconds,
    threshold_sigma,
)
from services.noise.jumps.events import Events, Search
from shared.nircam.configuration import ConfigurationKey
from shared.nircam.detectors import FULL_FRAME, PIXEL_PITCH_UM
from shared.products.jumps import ChargeHistogram, JumpEvents
from shared.statistics.verdicts import Measured, Value, compare, not_measured, rate_against

#: Lowest and highest percentage of pixels that cosmic rays hit per 1000 s in flight.
FLIGHT_PERCENT = (5.0, 10.0)
#: Lowest and highest hits/cm2/s behind JWST's shielding: 4.3 falling to 2.3 over the first three years, and
#: about 6 expected at the next solar minimum (NIRSpec darks; Rauscher & Fixsen 2025, PASP 137, 095003).
FLIGHT_HITS = (2.3, 6.0)
#: Pixels that a hit flags, mean (same darks and source).
PIXELS_PER_HIT = 7.1
#: Area of a large event, pixels in one group: a disk of radius 4, by which mpi-astronomy's snowblind
#: separates snowballs from ordinary hits in NIRCam's long-wave detectors. A grazing track covers fewer
#: pixels.
LARGE_PIXELS = 50
#: Mean time from one snowball to the next on a whole detector, s: "a very rough estimate" (JWST
#: documentation, "Shower and Snowball Artifacts").
SNOWBALL_SECONDS = 20.0
#: Area from which jwst's jump step calls an event a snowball if it saturated a pixel (jwst 3.0.0,
#: ``JumpStep.spec``: min_jump_area; min_sat_area is 1).
JWST_SNOWBALL_PIXELS = 5
#: Significance from which the jump step flags the neighbours of a pixel too (min_jump_to_flag_neighbors).
_NEIGHBOUR_SIGMA = 10.0
#: Fewer hits have no median charge.
_FEWEST_HITS = 10
#: Probability of a normal deviate beyond 1 sigma, to either side.
_BEYOND = float(special.erfc(1 / math.sqrt(2)))
#: Edges of the charge histogram, e-: ten bins per decade, from below any threshold to several full wells.
_EDGES = np.logspace(1, 7, 61)
_NOTES = (
    "Event: pixels with JUMP_DET, or that a hit saturates, which touch (8-connected) in a group or are the "
    "same pixel in consecutive groups; usable science pixels only.",
    "Charge: sum of the steps of the flagged pixels, less each pixel's mean difference over the unflagged "
    "groups of the integration, times the median gain. Charge on pixels that are not flagged is not "
    "included; that of events which saturate is a lower limit.",
    "Hits: events of positive charge, minus events of negative charge (noise has either sign equally often), "
    "plus pairs of events that touch by chance. Hits too faint to be flagged are not included.",
)


def ramp_seconds(key: ConfigurationKey) -> float:
    """Return the time from the first to the last group, s."""
    return (key.ngroups - 1) * key.group_time


def false_flags(key: ConfigurationKey, integrations: int) -> float:
    """Return the expected number of flags from noise alone, over all pixels of `integrations` ramps."""
    differences = (key.ngroups - 1) * integrations * key.subsize1 * key.subsize2
    return differences * false_positive_probability(key.ngroups)


def compare_jumps(
    percent: float, error: float, key: ConfigurationKey, integrations: int, exposures: int = 1
) -> Measured:
    """Compare the percentage of hit pixels with 5 to 10 per cent per 1000 s in flight, plus flags from noise.

    The number of flags from noise depends on how well the read noise reference fits and on which method the
    jump step chooses; its uncertainty is taken to be as large as its expectation. Where few events are
    expected, they scatter by more than those that happened show: the error compared is at least that of the
    expected number, and so is the error of a percentage of 0.

    Parameters
    ----------
    percent, error : float
        Percentage of pixels hit at least once, and its 1-sigma error.
    key : ConfigurationKey
    integrations : int
        Of one exposure.
    exposures : int
        Number of exposures that the percentage is the mean of.
    """
    refusal = jump_refusal(key.ngroups)
    if refusal:
        return not_measured(refusal)
    seconds = live_seconds(ramp_seconds(key), integrations)
    false = false_positive_percent(key.ngroups, integrations)
    least, most = (expected_percent(limit, seconds) for limit in FLIGHT_PERCENT)
    middle = (least + most) / 2
    pixels = key.subsize1 * key.subsize2 * exposures
    variance = (middle * PIXELS_PER_HIT + false) / 100 / pixels
    surely = max(error, 100 * math.sqrt(variance))
    verdict = compare(
        Value(percent, surely),
        Value(middle + false, math.hypot((most - least) / 2, false)),
        f"{least:.2g} to {most:.2g} % by cosmic rays in {seconds:.0f} s, about {false:.2g} % by noise alone",
    )
    return Measured.of(Value(percent, error if percent else surely), verdict)


def poisson_interval(count: int) -> tuple[float, float]:
    """Return the exact central 68.3 % interval of a Poisson mean, given the number of events.

    Garwood 1936, Biometrika 28, 437; in terms of quantiles of the gamma distribution.

    Examples
    --------
    >>> low, high = poisson_interval(10)
    >>> round(low, 2), round(high, 2)
    (6.89, 14.27)
    """
    low = float(special.gammaincinv(count, _BEYOND / 2)) if count else 0.0
    return low, float(special.gammaincinv(count + 1, 1 - _BEYOND / 2))


@dataclass(frozen=True)
class HitCount:
    """A number of hits, and the limits of its 68.3 % interval."""

    hits: float
    low: float
    high: float


def count_hits(positive: int, negative: int, merged: float, merged_error: float) -> HitCount:
    """Return the number of hits, given that of events.

    Parameters
    ----------
    positive, negative : int
        Events of positive and of negative charge. Noise makes as many of either.
    merged, merged_error : float
        Expected number of pairs of events that touch by chance and count as one; 1 sigma.
    """
    hits = positive - negative + merged
    (least, most), (least_false, most_false) = poisson_interval(positive), poisson_interval(negative)
    # Where noise left no event, its own upper limit would widen a count of few hits too much.
    below = math.hypot(positive - least, most_false - negative if negative else 0.0, merged_error)
    above = math.hypot(most - positive, negative - least_false, merged_error)
    return HitCount(hits, hits - below, hits + above)


def median_charge(charge: NDArray[np.float64]) -> tuple[float, float] | None:
    """Return the median charge of hits and its 1-sigma error; None with fewer than ten hits.

    Events of negative charge are noise: each cancels one of the same positive charge.

    Parameters
    ----------
    charge : ndarray, 1D
        Of events, finite, in any unit.
    """
    sizes, signs = np.abs(charge), np.sign(charge)
    order = np.argsort(sizes, kind="stable")
    sizes, hits_below = sizes[order], np.cumsum(signs[order])
    hits = hits_below[-1] if hits_below.size else 0.0
    if hits < _FEWEST_HITS:
        return None
    # The number of hits below the median is binomial. Noise events, nearly all of them below it, add half of
    # their Poisson scatter, since they shift the middle too.
    middle, width = hits / 2, math.sqrt(sizes.size) / 2
    low, centre, high = (
        float(sizes[np.argmax(hits_below >= place)])
        for place in (max(middle - width, 1.0), middle, min(middle + width, hits))
    )
    # Charges spread over decades, so that the interval reaches further up than down; one number has to hold
    # on either side.
    return centre, max(high - centre, centre - low)


@dataclass(frozen=True)
class LiveExposure:
    """The area and the time over which hits were searched for; mean over the pixels of the area."""

    area_cm2: float
    seconds: float

    @property
    def per_cm2_s(self) -> float:
        """The rate of a single hit, 1/cm2/s."""
        return 1 / (self.area_cm2 * self.seconds)


def live_exposure(search: Search, key: ConfigurationKey) -> LiveExposure:
    """Return the area and live time in which hits were searched for.

    Live time runs from the first frame of the first group to the last frame of the last one: where frames are
    averaged into groups, a hit between two frames of a group still shows, in part, in a difference of groups.
    """
    averaged = (key.nframes - 1) * key.tframe / (key.ngroups - 1)
    return LiveExposure(
        area_cm2=search.pixels * (PIXEL_PITCH_UM * 1e-4) ** 2,
        seconds=search.searched / search.pixels * (key.group_time + averaged),
    )


def event_statistics(
    events: Events,
    search: Search,
    key: ConfigurationKey,
    gain: float,
    mjd: tuple[float, float],
) -> JumpEvents | None:
    """Return what the events of an exposure say about hits: their number, rate and charge.

    Parameters
    ----------
    events : Events
    search : Search
    key : ConfigurationKey
    gain : float
        e-/DN; its own error is in no figure's error.
    mjd : (float, float)
        Start and end of the exposure, UTC days.

    Returns
    -------
    JumpEvents or None
        None where no event could be found: with fewer groups than the jump step needs, or without a usable
        difference of groups.
    """
    probability = false_positive_probability(key.ngroups)
    if not probability or not search.searched:
        return None
    counted = events.counted
    known = counted & np.isfinite(events.charge)
    charge, noise = events.charge[known] * gain, search.noise * gain
    pixels, positive = events.pixels[known], charge > 0
    number, negative = int(positive.sum()), int(charge.size - positive.sum())
    inside = float(counted.mean()) if counted.size else 0.0
    hits = count_hits(number, negative, search.merged * inside, search.merged_error * inside)
    live = live_exposure(search, key)
    per = live.per_cm2_s
    rate = Value(hits.hits * per, (hits.high - hits.low) / 2 * per)
    comparison = rate_against(
        rate if hits.hits > 0 else Value(rate.value, (hits.high - hits.hits) * per),
        *_expected_hits(*FLIGHT_HITS),
    ).comparison
    faint = positive & (pixels == 1) & (charge < _NEIGHBOUR_SIGMA * noise)
    large = int((events.area[counted] >= LARGE_PIXELS).sum())
    large_low, large_high = poisson_interval(large)
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
        hits=hits.hits,
        hits_low=hits.low,
        hits_high=hits.high,
        area_cm2=live.area_cm2,
        live_seconds=live.seconds,
        lost_percent=100 * (1 - search.searched / search.possible),
        hits_per_cm2_s=rate.value,
        hits_per_cm2_s_error=rate.error,
        hits_per_cm2_s_low=hits.low * per,
        hits_per_cm2_s_high=hits.high * per,
        expected_hits_per_cm2_s=FLIGHT_HITS,
        verdict=str(comparison),
        comparison=comparison,
        threshold_e=threshold_sigma(key.ngroups) * noise,
        pixels_per_event=float(pixels[positive].mean()) if number else None,
        median_charge_e=median[0] if median else None,
        median_charge_error_e=median[1] if median else None,
        saturated_events=int(events.saturated[known].sum()),
        charge=_histogram(charge),
        large_events=large,
        large_events_per_cm2_s=large * per,
        large_events_per_cm2_s_low=large_low * per,
        large_events_per_cm2_s_high=large_high * per,
        expected_large_events=live.seconds / SNOWBALL_SECONDS * search.pixels / FULL_FRAME**2,
        core_events=int(core.sum()),
        notes=list(_NOTES),
    )


def set_hits(exposures: Sequence[JumpEvents]) -> Measured | None:
    """Return the hits/cm2/s of several exposures together; None where nothing was searched.

    The errors of the exposures are independent and add in quadrature. Where noise made more events than hits
    did, it is an upper limit (`rate_against`).
    """
    searched = [exposure.area_cm2 * exposure.live_seconds for exposure in exposures]
    total = sum(searched)
    if total <= 0:
        return None
    errors = (
        exposure.hits_per_cm2_s_error * exposure.area_cm2 * exposure.live_seconds for exposure in exposures
    )
    rate = Value(sum(exposure.hits for exposure in exposures) / total, math.hypot(*errors) / total)
    return rate_against(rate, *_expected_hits(*exposures[0].expected_hits_per_cm2_s))


def _expected_hits(least: float, most: float) -> tuple[Value, str]:
    return Value((least + most) / 2, (most - least) / 2), f"{least:g} to {most:g} hits/cm2/s in flight"


def _histogram(charge: NDArray[np.float64]) -> ChargeHistogram:
    inside = np.clip(np.abs(charge), _EDGES[0], _EDGES[-1])
    return ChargeHistogram(
        edges_e=[float(f"{edge:.6g}") for edge in _EDGES],
        events=np.histogram(inside[charge > 0], _EDGES)[0].tolist(),
        mirrored=np.histogram(inside[charge <= 0], _EDGES)[0].tolist(),
    )
