"""Cosmic-ray hits of an exposure, as the product ``exposure-noise`` carries them."""

from pydantic import BaseModel

from shared.statistics.verdicts import ONE_SIDED_95, HasVerdict, Value


class ChargeHistogram(BaseModel):
    """Number of events by charge.

    Attributes
    ----------
    edges_e : list of float
        e-, in equal logarithmic steps, one more than bins. The outermost bins include what lies beyond them.
    events : list of int
        Events of positive charge.
    mirrored : list of int
        Events of negative charge, by its absolute value: as many as noise is expected to add to `events`.
    """

    edges_e: list[float]
    events: list[int]
    mirrored: list[int]


class JumpEvents(HasVerdict):
    """What hit the detector in one exposure; every error is 1 sigma.

    An event is a connected set of pixels with JUMP_DET or that a hit saturates at once: 8-connected within a
    group, and the same pixel from group to group. Only usable science pixels take part. An event counts if
    its largest step is not at the border of their area.

    Attributes
    ----------
    start_mjd, mid_mjd, end_mjd : float
        Of the exposure, UTC.
    events, negative_events : int
        Events of positive and of negative charge. Particles only add charge, and noise is symmetric, so as
        many of the positive events are false as there are negative ones.
    unmeasured_events : int
        Events of unknown charge, because no group before them was usable; not counted above.
    expected_false_events : float
        From the two tails of a Gaussian beyond the threshold of the jump step; compare it with the observed
        2 x `negative_events`.
    faint_single_events : int
        Events of positive charge in a single pixel below 10 sigma, as most false ones are.
    merged_events : float
        Pairs of events that touch by chance and count as one, estimated from shifted copies of the flags.
    hits, hits_low, hits_high : float
        events - negative_events + merged_events, and its 68.3 % interval (exact Poisson limits). It may be
        negative with few hits, so that sums over exposures are unbiased; `hits_shown_per_cm2_s` is never.
    area_cm2 : float
        Area of the pixels in which an event counts.
    live_seconds : float
        Mean over those pixels of the time from the first frame of the first group to the last frame of the
        last group, while the pixel is usable and not saturated. jwst's jump step goes on searching a pixel
        after a jump.
    lost_percent : float
        Percentage of the time from first to last group lost to saturation and unusable groups.
    hits_per_cm2_s, hits_per_cm2_s_error, hits_per_cm2_s_low, hits_per_cm2_s_high : float
        Hits per area and live time. Hits too faint to be flagged are not included.
    expected_hits_per_cm2_s : (float, float)
        Lowest and highest rate in flight.
    comparison, verdict : Verdict, str
        The hit rate compared with that expectation, and the same as a sentence.
    threshold_e : float
        Charge above which the jump step flags a pixel.
    pixels_per_event : float or None
        Mean over the events of positive charge.
    median_charge_e, median_charge_error_e : float or None
        Median charge of a hit, false events subtracted, over flagged pixels only. None with too few hits.
    saturated_events : int
        Events that saturated a pixel, whose charge is a lower limit.
    charge : ChargeHistogram
    large_events : int
        Events of 50 pixels or more in one group: snowballs.
    large_events_per_cm2_s, large_events_per_cm2_s_low, large_events_per_cm2_s_high : float
        68.3 %, exact Poisson limits.
    expected_large_events : float
        At about one per 20 s on a whole detector, a rate that varies a lot (JWST documentation, "Shower and
        Snowball Artifacts").
    core_events : int
        Events that jwst's jump step takes for snowballs: 5 pixels or more, one of them saturated. Most are
        ordinary hits of high charge.
    notes : list of str
    """

    start_mjd: float
    mid_mjd: float
    end_mjd: float
    events: int
    negative_events: int
    unmeasured_events: int
    expected_false_events: float
    faint_single_events: int
    merged_events: float
    hits: float
    hits_low: float
    hits_high: float
    area_cm2: float
    live_seconds: float
    lost_percent: float
    hits_per_cm2_s: float
    hits_per_cm2_s_error: float
    hits_per_cm2_s_low: float
    hits_per_cm2_s_high: float
    expected_hits_per_cm2_s: tuple[float, float]
    threshold_e: float
    pixels_per_event: float | None
    median_charge_e: float | None
    median_charge_error_e: float | None
    saturated_events: int
    charge: ChargeHistogram
    large_events: int
    large_events_per_cm2_s: float
    large_events_per_cm2_s_low: float
    large_events_per_cm2_s_high: float
    expected_large_events: float
    core_events: int
    notes: list[str]

    @property
    def hits_shown_per_cm2_s(self) -> Value:
        """The hit rate; 0 and its 1-sigma error where it comes out negative, see `Verdict.upper_limit`."""
        if self.hits_per_cm2_s > 0:
            return Value(self.hits_per_cm2_s, self.hits_per_cm2_s_error)
        return Value(0.0, max(self.hits_per_cm2_s_high - self.hits_per_cm2_s, 0.0))

    @property
    def hits_limit_per_cm2_s(self) -> float | None:
        """What the hit rate is below, with 95 per cent confidence, where it comes out negative."""
        return None if self.hits_per_cm2_s > 0 else ONE_SIDED_95 * self.hits_shown_per_cm2_s.error
