"""The facts of an exposure's events, as its product carries them."""

from pydantic import BaseModel


class ChargeHistogram(BaseModel):
    """Events by charge.

    Attributes
    ----------
    edges_e : list of float
        e-, equal steps of the logarithm; one more than bins. What lies beyond is in the outermost bins.
    events : list of int
        Events of positive charge.
    mirrored : list of int
        Those of negative charge, by its absolute value: what noise is expected to add to `events`.
    """

    edges_e: list[float]
    events: list[int]
    mirrored: list[int]


class JumpEvents(BaseModel):
    """What hit the detector in one exposure; every error is 1 sigma.

    An event is what touches: pixels with JUMP_DET, or that saturate at once, 8-connected in a group and the
    same pixel from group to group. Only usable science pixels take part, and an event counts if its
    largest step lies off the border of their area.

    Attributes
    ----------
    start_mjd, mid_mjd, end_mjd : float
        Of the exposure, UTC.
    events, negative_events : int
        Of positive and of negative charge. A particle leaves charge and takes none, and noise has no sign:
        there are as many false events among the former as there are of the latter.
    unmeasured_events : int
        Of unknown charge: no group before them was usable. In neither of the above.
    expected_false_events : float
        By the tail of a Gaussian beyond the jump step's threshold, of either sign; beside
        2 x `negative_events`, which is what is there.
    faint_single_events : int
        Of positive charge, a single pixel below 10 sigma: what most false ones look like.
    merged_events : float
        Pairs of events that met by chance and count as one, from planes laid upon each other shifted.
    hits, hits_low, hits_high : float
        events - negative_events + merged_events, and its 68.3 % interval (exact Poisson limits). Below 0
        where noise happens to outweigh few hits: means over exposures stay unbiased.
    area_cm2 : float
        Of the pixels in which an event counts.
    live_seconds : float
        Mean over those pixels: from the first frame of the first group to the last of the last one, while a
        pixel is usable and not yet saturated. What jumped before is still searched by jwst's jump step.
    lost_percent : float
        Part of the time from first to last groups that saturation and unusable groups took.
    hits_per_cm2_s, hits_per_cm2_s_error, hits_per_cm2_s_low, hits_per_cm2_s_high : float
        Over area and live time. Hits too faint to be flagged are not in it.
    expected_hits_per_cm2_s : (float, float)
        Least and most, in flight.
    verdict : str
    threshold_e : float
        Charge in one pixel from which the jump step flags it.
    pixels_per_event : float or None
        Mean over events of positive charge.
    median_charge_e, median_charge_error_e : float or None
        Per hit, noise's own events taken away; over flagged pixels only. None with too few hits.
    saturated_events : int
        Whose charge is a lower limit.
    charge : ChargeHistogram
    large_events : int
        Of 50 pixels or more in one group: snowballs.
    large_events_per_cm2_s, large_events_per_cm2_s_low, large_events_per_cm2_s_high : float
        68.3 %, exact Poisson limits.
    expected_large_events : float
        At about one in 20 s on a whole detector, which varies much (JWST documentation, "Shower and
        Snowball Artifacts").
    core_events : int
        What jwst's jump step would call a snowball: 5 pixels or more, one of which saturated. Most of them
        are ordinary hits of much charge.
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
    verdict: str
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
