"""The picture of the noise's power spectrum."""

import numpy as np

from services.noise.set_products import NoiseSpectrum
from services.report.style import AMPLIFIERS, FULL, INK, Picture, axes, legend_below, picture
from services.report.wording import count, number


def spectrum(found: NoiseSpectrum) -> Picture | None:
    """Draw the power of each amplifier's noise, and of what they share, against frequency.

    None where no bin has a positive power.
    """
    frequencies = np.array(found.frequencies_hz, dtype=float)
    curves = [np.array(one, dtype=float) for one in found.amplifiers]
    if not any((curve > 0).any() for curve in curves):
        return None
    figure, plot = axes("Power spectrum of the noise", 4.2, FULL)
    error = 1 / np.sqrt(np.maximum(np.array(found.modes, dtype=float) * max(found.frames, 1), 1))
    fits = [np.array(one, dtype=float) for one in found.fitted_amplifiers]
    for number_of, (curve, colour) in enumerate(zip(curves, AMPLIFIERS, strict=False), start=1):
        shown = np.where(curve > 0, curve, np.nan)
        plot.errorbar(
            frequencies,
            shown,
            yerr=shown * error,
            color=colour,
            marker="o",
            markersize=3,
            linewidth=0,
            elinewidth=0.8,
            label=f"amplifier {number_of}",
        )
    for fit, colour in zip(fits, AMPLIFIERS, strict=False):
        plot.plot(frequencies, np.where(fit > 0, fit, np.nan), color=colour, linewidth=1.0)
    if found.common is not None:
        common = np.array(found.common, dtype=float)
        plot.plot(
            frequencies,
            np.where(common > 0, common, np.nan),
            color=INK,
            marker="s",
            markersize=3,
            linewidth=0,
            label="common to all",
        )
        if found.fitted_common is not None:
            fit = np.array(found.fitted_common, dtype=float)
            plot.plot(
                frequencies, np.where(fit > 0, fit, np.nan), color=INK, linewidth=1.0, linestyle=(0, (4, 2))
            )
    line = 1 / found.line_seconds
    plot.axvline(
        line, color="#8a949e", linewidth=1.0, linestyle=(0, (2, 2)), label=f"line rate, {number(line)} Hz"
    )
    plot.set_xscale("log")
    plot.set_yscale("log")
    plot.set_xlabel("Frequency (Hz)")
    plot.set_ylabel("Power (e⁻²/Hz)")
    legend_below(plot, 6)
    shared = " and for what they share" if found.common is not None else ""
    clock, line_time = number(found.pixel_seconds * 1e6), number(found.line_seconds * 1e3)
    return picture(
        figure,
        f"Power in e⁻² per Hz against frequency from {number(frequencies[0])} to "
        f"{number(frequencies[-1])} Hz, for {count(len(curves), 'amplifier')}{shared}, with fitted curves.",
        f"One-sided, of one group, along the time of the readout: a pixel takes {clock} µs, a line "
        f"{line_time} ms with its overhead of {found.line_overhead} pixels; from "
        f"{count(found.frames, 'difference')} of groups. Lines: white noise and A/f fitted to the points. "
        "The rise to the left is 1/f noise; peaks are interference.",
        place="wide",
    )
