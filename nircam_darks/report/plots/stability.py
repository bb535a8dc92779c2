"""The pictures of what changes from integration to integration of one set."""

from collections.abc import Sequence
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes

from services.darkref.products import ReferenceFacts
from services.noise.products import ExposureNoiseFacts, Measured, Stability, Trend
from services.report.plots_reference import RATE_UNIT, expected_span
from services.report.style import (
    AMPLIFIERS,
    BLUE,
    EXPECTED,
    RED,
    SEQUENTIAL,
    Picture,
    axes,
    legend_below,
    picture,
)
from services.report.wording import count, expected, measured, number, since_first


def of_exposures(exposures: Sequence[ExposureNoiseFacts]) -> Stability:
    """Put the series of single exposures together where the noise of their set was not measured."""
    each = [(one, mjd) for one in exposures for mjd in one.integration_mjd]
    return Stability(
        integration_mjd=[mjd for _, mjd in each],
        exposure_ids=[one.exposure_id for one, _ in each],
        median_dn=[row for one in exposures for row in one.median_dn],
        amplifier_median_dn=[row for one in exposures for row in one.amplifier_median_dn],
        dark_rate_e_per_ks=[],
        dark_rate_error_e_per_ks=[],
        cds_noise_e=[value for one in exposures for value in one.cds_noise_e],
        dark_rate_per_hour=None,
        cds_noise_per_hour=None,
        amplifier_pedestal_per_hour=[],
        amplifier_ramp_per_second=[],
    )


def within_integrations(
    series: Stability, group_time: float, reference: ReferenceFacts | None = None
) -> Picture:
    """Draw the median of every group since the first one, a line an integration."""
    levels = np.array(series.median_dn, dtype=float)
    figure, plot = axes("Median signal within each integration", 3.3)
    within = np.arange(levels.shape[1]) * group_time
    if reference:
        said = expected(reference.expected_e_per_ks, reference.expected_sigma_e_per_ks)
        low, high = (
            within
            * (reference.expected_e_per_ks + side * reference.expected_sigma_e_per_ks)
            / (1000 * reference.gain)
            for side in (-1, 1)
        )
        plot.fill_between(
            within, low, high, color=EXPECTED, alpha=0.3, linewidth=0, label=f"expected, {said} {RATE_UNIT}"
        )
        plot.legend(loc="upper left")
    for row, colour in zip(levels, SEQUENTIAL(np.linspace(0.12, 0.78, len(levels))), strict=True):
        plot.plot(within, row - row[0], color=colour, linewidth=1.0, marker="o", markersize=2.0)
    plot.set_xlabel("Time since first group (s)")
    plot.set_ylabel("Median since first group (DN)")
    return picture(
        figure,
        "Median over science pixels since the first group, in DN, against time in s; one line for each of "
        f"{count(len(levels), 'integration')}.",
        "One line an integration, the first dark blue, the last pale. They should lie on each other; a bend "
        "in the first groups is a reset transient.",
    )


def first_groups(series: Stability) -> Picture:
    """Draw the level at which each amplifier starts, against time."""
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
    plot.set_ylabel("Median of the first group (DN)")
    plot.margins(y=0.2)
    legend_below(plot, 4)
    return picture(
        figure,
        f"Median of the first group, in DN, of {count(first.shape[1], 'amplifier')} against time; one point "
        f"for each of {count(len(first), 'integration')}.",
        "The level at which integrations start. Amplifiers that move together move with the reset (kTC); "
        "one that leaves the others drifts.",
    )


def dark_rates(series: Stability, reference: ReferenceFacts | None) -> Picture | None:
    """Draw the dark current of each integration against time; None where none was measured.

    The rates of the set's noise come first, for their errors; else those of the reference.
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
        said = measured(reference.dark_current_e_per_ks, reference.dark_current_error_e_per_ks)
        plot.axhline(
            reference.dark_current_e_per_ks,
            color=RED,
            linewidth=1.2,
            linestyle=(0, (5, 2)),
            label=f"dark reference, {said}",
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
    legend_below(plot, 3)
    return picture(
        figure,
        f"Dark current against time, one point for each of {count(len(rates), 'integration')}, "
        f"{_range(rates)} {RATE_UNIT}.",
        "Median slope of each integration; its error counts independent pixels only, so that a larger "
        "scatter is drift; blue and dashed: the straight line fitted to them. A trend, or a first "
        "integration that stands apart, is a thermal or a reset transient.",
    )


def cds_noise(series: Stability, cds: Measured | None) -> Picture:
    """Draw the CDS noise of each integration against time."""
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
    return picture(
        figure,
        "CDS noise in e⁻ against time, one point for each of "
        f"{count(len(series.cds_noise_e), 'integration')}, {_range(series.cds_noise_e)} e⁻.",
        "Scatter from pixel to pixel, group to group, within one integration; dashed: the straight line "
        "fitted to them. Level and flat is good; "
        "an integration that stands apart was disturbed.",
    )


def _line(
    plot: Axes,
    times: Sequence[float],
    values: Sequence[float],
    trend: Trend | None,
    mjd: Sequence[float],
    unit: str,
) -> None:
    """Draw the line of a trend, which goes through the middle of the points it was fitted to."""
    good = np.isfinite(np.array(values, dtype=float))
    if trend is None or not good.any():
        return
    hours = (np.array(mjd) - np.mean(np.array(mjd)[good])) * 24
    said = measured(trend.slope, trend.slope_error)
    plot.plot(
        times,
        np.mean(np.array(values, dtype=float)[good]) + trend.slope * hours,
        color=BLUE,
        linewidth=1.2,
        linestyle=(0, (2, 2)),
        label=f"{said} {unit} an hour",
    )


def _range(values: Sequence[float]) -> str:
    finite = [value for value in values if np.isfinite(value)]
    return f"from {number(min(finite))} to {number(max(finite))}" if finite else "none of them measured"
