"""Plots of what changes from integration to integration of one set."""

from collections.abc import Sequence
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes

from nircam_darks.report.plots.reference import RATE_UNIT, expected_span
from nircam_darks.report.plots.style import (
    AMPLIFIERS,
    BLUE,
    EXPECTED,
    RED,
    SEQUENTIAL,
    Picture,
    axes,
    legend_below,
)
from nircam_darks.report.text import count, expected, measured, number, since_first
from shared.products.noise import ExposureNoiseResults, Stability, Trend
from shared.products.reference import ReferenceResults
from shared.statistics.verdicts import Measured


def of_exposures(exposures: Sequence[ExposureNoiseResults]) -> Stability:
    """Return the joined series of single exposures, for a set whose noise was not measured."""
    integrations = [(exposure.exposure_id, mjd) for exposure in exposures for mjd in exposure.integration_mjd]
    return Stability(
        integration_mjd=[mjd for _, mjd in integrations],
        exposure_ids=[exposure_id for exposure_id, _ in integrations],
        median_dn=[row for exposure in exposures for row in exposure.median_dn],
        amplifier_median_dn=[row for exposure in exposures for row in exposure.amplifier_median_dn],
        dark_rate_e_per_ks=[],
        dark_rate_error_e_per_ks=[],
        cds_noise_e=[value for exposure in exposures for value in exposure.cds_noise_e],
        dark_rate_per_hour=None,
        cds_noise_per_hour=None,
        amplifier_pedestal_per_hour=[],
        amplifier_ramp_per_second=[],
    )


def within_integrations(
    series: Stability, group_time: float, reference: ReferenceResults | None = None
) -> Picture:
    """Plot the median of each group relative to the first one, one line per integration.

    Parameters
    ----------
    series : Stability
    group_time : float
        Seconds from one group to the next.
    reference : ReferenceResults, optional
        Gives the expected dark current, which is drawn as a band.
    """
    levels = np.array(series.median_dn, dtype=float)
    figure, plot = axes("Median signal within each integration", 3.3)
    within = np.arange(levels.shape[1]) * group_time
    if reference:
        rate = expected(reference.expected_e_per_ks, reference.expected_sigma_e_per_ks)
        low, high = (
            within
            * (reference.expected_e_per_ks + side * reference.expected_sigma_e_per_ks)
            / (1000 * reference.gain)
            for side in (-1, 1)
        )
        plot.fill_between(
            within, low, high, color=EXPECTED, alpha=0.3, linewidth=0, label=f"expected, {rate} {RATE_UNIT}"
        )
        legend_below(plot, 1)
    for row, colour in zip(levels, SEQUENTIAL(np.linspace(0.12, 0.78, len(levels))), strict=True):
        plot.plot(within, row - row[0], color=colour, linewidth=1.0, marker="o", markersize=2.0)
    plot.set_xlabel("Time since first group (s)")
    plot.set_ylabel("Change of median (DN)")
    return Picture(
        figure,
        "Median over science pixels since the first group, in DN, against time in s; one line for each of "
        f"{count(len(levels), 'integration')}.",
        "One line per integration, from dark blue (first) to pale (last). The lines should coincide; a bend "
        "in the first groups is a reset transient.",
    )


def first_group_levels(series: Stability) -> Picture:
    """Plot the level at which each amplifier starts, against time."""
    first = np.array([row[0] for row in series.amplifier_median_dn], dtype=float)
    times, label = since_first(series.integration_mjd)
    figure, plot = axes("Median of the first group, by amplifier", 3.3)
    for amplifier, (values, colour) in enumerate(zip(first.T, cycle(AMPLIFIERS), strict=False), start=1):
        plot.plot(
            times,
            values,
            color=colour,
            marker="o",
            markersize=3.5,
            linewidth=0.9,
            label=f"amplifier {amplifier}",
        )
    plot.set_xlabel(label)
    plot.set_ylabel("First group (DN)")
    plot.margins(y=0.2)
    legend_below(plot, 4)
    return Picture(
        figure,
        f"Median of the first group, in DN, of {count(first.shape[1], 'amplifier')} against time; one point "
        f"for each of {count(len(first), 'integration')}.",
        "The level at which integrations start. A change common to all amplifiers is the reset (kTC) noise; "
        "an amplifier that departs from the others drifts.",
    )


def dark_rates(series: Stability, reference: ReferenceResults | None) -> Picture | None:
    """Plot the dark current of each integration against time; None if it was not measured.

    The rates measured with the set's noise are preferred, since they have errors, to those of the reference.
    """
    if series.dark_rate_e_per_ks:
        mjd, rates, errors = (
            series.integration_mjd,
            series.dark_rate_e_per_ks,
            series.dark_rate_error_e_per_ks,
        )
    elif reference and reference.dark_current_by_integration:
        mjd, rates, errors = reference.integration_mjd, reference.dark_current_by_integration, None
    else:
        return None
    times, label = since_first(mjd)
    figure, plot = axes("Dark current of each integration", 3.3)
    if reference:
        expected_span(plot, reference.expected_e_per_ks, reference.expected_sigma_e_per_ks)
        rate = measured(reference.dark_current_e_per_ks, reference.dark_current_error_e_per_ks)
        plot.axhline(
            reference.dark_current_e_per_ks,
            color=RED,
            linewidth=1.2,
            linestyle=(0, (5, 2)),
            label=f"dark reference, {rate}",
        )
    plot.errorbar(
        times,
        rates,
        yerr=errors,
        color=BLUE,
        marker="o",
        markersize=4.5,
        linewidth=0,
        elinewidth=1.0,
        label="integration",
    )
    _line(plot, times, rates, series.dark_rate_per_hour, mjd, RATE_UNIT)
    plot.set_xlabel(label)
    plot.set_ylabel(f"Dark current ({RATE_UNIT})")
    plot.margins(y=0.25)
    legend_below(plot, 2)
    return Picture(
        figure,
        f"Dark current against time, one point for each of {count(len(rates), 'integration')}, "
        f"{_range(rates)} {RATE_UNIT}.",
        "Median slope of each integration. Errors are those of independent pixels, so a larger scatter is "
        "drift. Dashed blue: the line fitted to the points. A trend, or a first integration apart from the "
        "others, is a thermal or a reset transient.",
    )


def cds_noise(series: Stability, cds: Measured | None) -> Picture:
    """Plot the CDS noise of each integration against time."""
    times, label = since_first(series.integration_mjd)
    figure, plot = axes("CDS noise of each integration", 3.3)
    if cds is not None:
        expected_span(plot, cds.expected, cds.expected_sigma)
    plot.plot(
        times, series.cds_noise_e, color=BLUE, marker="o", markersize=4.5, linewidth=0, label="integration"
    )
    _line(plot, times, series.cds_noise_e, series.cds_noise_per_hour, series.integration_mjd, "e⁻")
    plot.set_xlabel(label)
    plot.set_ylabel("CDS noise (e⁻)")
    plot.margins(y=0.25)
    legend_below(plot, 2)
    return Picture(
        figure,
        "CDS noise in e⁻ against time, one point for each of "
        f"{count(len(series.cds_noise_e), 'integration')}, {_range(series.cds_noise_e)} e⁻.",
        "Scatter of group differences over the pixels of one integration. Dashed: the line fitted to the "
        "points. The noise should be constant; an integration apart from the others was disturbed.",
    )


def _line(
    plot: Axes,
    times: Sequence[float],
    values: Sequence[float],
    trend: Trend | None,
    mjd: Sequence[float],
    unit: str,
) -> None:
    """Draw the line of a trend through the mean of the points it was fitted to."""
    good = np.isfinite(np.array(values, dtype=float))
    if trend is None or not good.any():
        return
    hours = (np.array(mjd) - np.mean(np.array(mjd)[good])) * 24
    slope = measured(trend.slope, trend.slope_error)
    plot.plot(
        times,
        np.mean(np.array(values, dtype=float)[good]) + trend.slope * hours,
        color=BLUE,
        linewidth=1.2,
        linestyle=(0, (2, 2)),
        label=f"{slope} {unit} per hour",
    )


def _range(values: Sequence[float]) -> str:
    finite = [value for value in values if np.isfinite(value)]
    return f"from {number(min(finite))} to {number(max(finite))}" if finite else "none measured"
