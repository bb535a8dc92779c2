"""From where on a pixel of a dark is flagged, and how many pixels were."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Thresholds:
    """From where on a pixel is flagged; `services.darkref.pixel_flags` says what for.

    Attributes
    ----------
    hot_sigma, warm_sigma, rc_sigma : float
        Robust sigmas over the science pixels.
    fraction : float
        Of the integrations in which a pixel must be above.
    hot_e_per_s, warm_e_per_s : float
        Least rate of the mean ramp.
    rc_excess : float
        Least excess of the first difference, in units of the later slope.
    dead_noise, noisy_noise : float
        In units of the median pixel's noise.
    min_measurements : int
        Fewest measurements of a reliable (group, pixel).
    """

    hot_sigma: float = 5.0
    warm_sigma: float = 3.0
    fraction: float = 0.75
    hot_e_per_s: float = 0.5
    warm_e_per_s: float = 0.1
    rc_sigma: float = 5.0
    rc_excess: float = 0.5
    dead_noise: float = 0.1
    noisy_noise: float = 3.0
    min_measurements: int = 3


@dataclass(frozen=True)
class PixelCounts:
    """How many pixels were flagged, and the cuts as they came out for this set.

    Attributes
    ----------
    science : int
        Science pixels in all.
    hot, warm, dead : int
    rc : int or None
        None where the ramp has too few groups to tell.
    few_measurements, noisy : int
        The two reasons for UNRELIABLE_DARK; a pixel may have both.
    unreliable : int
    hot_cut_e_per_s, warm_cut_e_per_s : float
        Median over integrations of the cut in one integration's rates; NaN without any.
    rc_cut_e : float
        Cut in the excess of the first difference, e-; NaN where it was not looked for.
    """

    science: int
    hot: int
    warm: int
    dead: int
    rc: int | None
    few_measurements: int
    noisy: int
    unreliable: int
    hot_cut_e_per_s: float
    warm_cut_e_per_s: float
    rc_cut_e: float
