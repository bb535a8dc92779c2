"""Plot of the power spectrum of the noise."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nircam_darks.report.plots.style import (
    AMPLIFIERS,
    EXPECTED,
    FULL,
    INK,
    Picture,
    axes,
    legend_below,
)
from nircam_darks.report.text import count, measured, number
from shared.products.noise import NoiseSpectrum

#: Reduced chi-square from which on a fit is called poor.
_POOR_FIT = 2.0


def spectrum(power: NoiseSpectrum) -> Picture | None:
    """Plot the noise power of each amplifier, and of what they have in common, against frequency.

    Parameters
    ----------
    power : NoiseSpectrum

    Returns
    -------
    Picture or None
        None if no bin of any amplifier has a positive power.
    """
    frequencies = np.array(power.frequencies_hz, dtype=float)
    amplifiers = [_positive(curve) for curve in power.amplifiers]
    if not any(np.isfinite(curve).any() for curve in amplifiers):
        return None
    figure, plot = axes("Power spectrum of the noise", 4.2, FULL)
    # A periodogram's power has an exponential distribution, whose sigma is its mean.
    modes = np.array(power.modes, dtype=float) * max(power.frames, 1)
    relative_error = 1 / np.sqrt(np.maximum(modes, 1))
    for amplifier, (curve, colour) in enumerate(zip(amplifiers, AMPLIFIERS, strict=False), start=1):
        plot.errorbar(
            frequencies,
            curve,
            yerr=curve * relative_error,
            color=colour,
            marker="o",
            markersize=3,
            linewidth=0,
            elinewidth=0.8,
            label=f"amplifier {amplifier}",
        )
    for fit, colour in zip(power.fitted_amplifiers, AMPLIFIERS, strict=False):
        plot.plot(frequencies, _positive(fit), color=colour, linewidth=1.0)
    if power.common is not None:
        common = _positive(power.common)
        plot.plot(
            frequencies, common, color=INK, marker="s", markersize=3, linewidth=0, label="common to all"
        )
        if power.fitted_common is not None:
            fit_line = (0, (4, 2))
            plot.plot(
                frequencies, _positive(power.fitted_common), color=INK, linewidth=1.0, linestyle=fit_line
            )
    line_rate = 1 / power.line_seconds
    plot.axvline(
        line_rate,
        color=EXPECTED,
        linewidth=1.0,
        linestyle=(0, (2, 2)),
        label=f"line rate, {number(line_rate)} Hz",
    )
    plot.set_xscale("log")
    plot.set_yscale("log")
    plot.set_xlabel("Frequency (Hz)")
    plot.set_ylabel("Power (e⁻²/Hz)")
    legend_below(plot, 6)
    shared = " and for what they have in common" if power.common is not None else ""
    pixel_time, line_time = number(power.pixel_seconds * 1e6), number(power.line_seconds * 1e3)
    return Picture(
        figure,
        f"Power in e⁻² per Hz against frequency from {number(frequencies[0])} to "
        f"{number(frequencies[-1])} Hz, for {count(len(amplifiers), 'amplifier')}{shared}, "
        "with fitted curves.",
        f"One-sided spectrum of one group, in the order of the readout: {pixel_time} µs per pixel, "
        f"{line_time} ms per line with an overhead of {power.line_overhead} pixels; from "
        f"{count(power.frames, 'difference')} of groups. {_fit(power)} "
        "The rise to the left is 1/f noise; peaks are interference.",
        place="wide",
    )


def _fit(power: NoiseSpectrum) -> str:
    """Return what the lines are, with the exponents and how well they fit."""
    fits = [
        (name, measured(exponent, error), chi2)
        for name, exponent, error, chi2 in (
            ("common", power.common_exponent, power.common_exponent_error, power.common_chi2),
            ("each amplifier's own", power.own_exponent, power.own_exponent_error, power.own_chi2),
        )
        if exponent is not None
    ]
    if not fits:
        return "Lines: white noise plus A/f, fitted to the points."
    described = "; ".join(
        f"{name}: exponent {exponent}, reduced chi-square {number(chi2)}" for name, exponent, chi2 in fits
    )
    worst = max((chi2 for _, _, chi2 in fits if chi2 is not None and np.isfinite(chi2)), default=0.0)
    poor = (
        " A chi-square far above 1 says that the spectrum is no power law; its root widens the errors."
        if worst > _POOR_FIT
        else ""
    )
    return f"Lines: white noise plus A over a power of f, fitted to the points ({described}).{poor}"


def _positive(values: Sequence[float | None]) -> NDArray[np.float64]:
    """Return an array in which what a logarithmic axis cannot show is NaN."""
    array = np.array(values, dtype=float)
    return np.where(array > 0, array, np.nan)
