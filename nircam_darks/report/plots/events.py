"""Plots of the events that hit the detector, over the exposures of one set."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from nircam_darks.report.plots.style import BLUE, EXPECTED, INK, RED, Picture, axes, legend_below
from nircam_darks.report.text import count, number, since_first, tabulated
from shared.products.jumps import JumpEvents


def charges(exposures: Sequence[JumpEvents]) -> Picture | None:
    """Plot the charge distribution of the events of all exposures together; None without any event or bin.

    Parameters
    ----------
    exposures : sequence of JumpEvents
        Those whose charge bins differ from the first one's are left out.
    """
    edges = np.array(exposures[0].charge.edges_e)
    if not np.isfinite(edges).all():
        return None
    histograms = [each.charge for each in exposures if each.charge.edges_e == exposures[0].charge.edges_e]
    events = np.sum([histogram.events for histogram in histograms], axis=0)
    mirrored = np.sum([histogram.mirrored for histogram in histograms], axis=0)
    if not events.sum():
        return None
    figure, plot = axes("Charge of the events", 3.4)
    plot.stairs(events, edges, color=BLUE, fill=True, alpha=0.75, label="events")
    centres = np.sqrt(edges[:-1] * edges[1:])
    plot.errorbar(centres, events, yerr=np.sqrt(events), color=INK, linewidth=0, elinewidth=0.8)
    plot.stairs(mirrored, edges, color=RED, linewidth=1.4, label="negative events: noise")
    threshold = float(np.median([each.threshold_e for each in exposures]))
    plot.axvline(
        threshold,
        color=EXPECTED,
        linewidth=1.4,
        linestyle=(0, (4, 2)),
        label=f"threshold, {number(threshold)} e⁻",
    )
    medians = [
        each.median_charge_e
        for each in exposures
        # Where noise outweighs the hits, their median charge is unknown.
        if each.median_charge_e is not None and (each.median_charge_error_e or 0.0) < each.median_charge_e
    ]
    if medians:
        median = float(np.median(medians))
        plot.axvline(median, color=INK, linewidth=1.2, label=f"median of hits, {number(median)} e⁻")
    plot.set_xscale("log")
    plot.set_xlabel("Charge (e⁻)")
    plot.set_ylabel("Events")
    plot.set_ylim(bottom=0)
    filled = np.flatnonzero(events + mirrored)
    plot.set_xlim(edges[max(filled[0] - 1, 0)], edges[min(filled[-1] + 2, len(edges) - 1)])
    legend_below(plot, 2)
    return Picture(
        figure,
        f"Histogram of the charge of {count(int(events.sum()), 'event')} in "
        f"{count(len(histograms), 'exposure')}, from {number(edges[0])} to {number(edges[-1])} e⁻ in equal "
        f"logarithmic steps, and of {count(int(mirrored.sum()), 'event')} of negative charge.",
        "Charge summed over the flagged pixels of an event; neighbours below the threshold are not included. "
        "Particles only deposit charge, so events of negative charge are noise, and noise adds as many "
        "positive ones. Error bars are the square roots of the counts.",
    )


def rates(exposures: Sequence[JumpEvents]) -> Picture:
    """Plot the hits per area and live time of each exposure against time, over the range expected in flight.

    Parameters
    ----------
    exposures : sequence of JumpEvents
        In time order; at least one.
    """
    since, label = since_first([each.mid_mjd for each in exposures])
    limits = np.array([each.hits_limit_per_cm2_s or np.nan for each in exposures])
    is_limit = np.isfinite(limits)
    values = np.where(is_limit, limits, [each.hits_per_cm2_s for each in exposures])
    low = values - np.array([each.hits_per_cm2_s_low for each in exposures])
    high = np.array([each.hits_per_cm2_s_high for each in exposures]) - values
    # A rate cannot be negative, and neither can the end of its error bar.
    low = np.minimum(low, values)
    figure, plot = axes("Hit rate of each exposure", 3.4)
    lowest, highest = exposures[0].expected_hits_per_cm2_s
    expected = f"{tabulated(lowest)} to {tabulated(highest)}"
    plot.axhspan(
        lowest, highest, color=EXPECTED, alpha=0.22, linewidth=0, label=f"expected in flight, {expected}"
    )
    times = np.asarray(since)
    style: dict[str, Any] = {"color": BLUE, "linewidth": 0, "elinewidth": 1.0}
    if not is_limit.all():
        plot.errorbar(
            times[~is_limit],
            values[~is_limit],
            yerr=np.maximum([low, high], 0)[:, ~is_limit],
            marker="o",
            markersize=4.5,
            label="exposure",
            **style,
        )
    if is_limit.any():
        plot.errorbar(
            times[is_limit],
            values[is_limit],
            yerr=0.5 * values[is_limit],
            uplims=True,
            marker="_",
            label="upper limit, 95 %",
            **style,
        )
    plot.set_xlabel(label)
    plot.set_ylabel("Hits (1/cm²/s)")
    plot.margins(y=0.25)
    plot.set_ylim(bottom=0)
    legend_below(plot, 2)
    limit_note = " Arrows: where noise made as many events as there were, the rate is below its 95 % limit."
    return Picture(
        figure,
        f"Hits per cm² and s against time, one point for each of {count(len(exposures), 'exposure')}, from "
        f"{number(float(values.min()))} to {number(float(values.max()))}; expected {expected} in flight.",
        "Hits per area and live time in which a hit can be detected, with the events caused by noise "
        "subtracted. Error bars are 68.3 % Poisson limits. A single exposure far above the others was taken "
        "during a particle event." + limit_note * bool(is_limit.any()),
    )
