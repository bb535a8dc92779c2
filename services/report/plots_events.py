"""The pictures of what hit the detector, over the exposures of one set."""

from collections.abc import Sequence

import numpy as np

from services.noise.jump_products import JumpEvents
from services.report.style import BLUE, EXPECTED, INK, RED, Picture, axes, legend_below, picture
from services.report.wording import count, number, plain, since_first


def charges(exposures: Sequence[JumpEvents]) -> Picture | None:
    """Draw how many events left how much charge, all exposures together; None without any event."""
    edges = np.array(exposures[0].charge.edges_e)
    same = [one.charge for one in exposures if one.charge.edges_e == exposures[0].charge.edges_e]
    events = np.sum([one.events for one in same], axis=0)
    mirrored = np.sum([one.mirrored for one in same], axis=0)
    if not events.sum():
        return None
    figure, plot = axes("Charge of each event", 3.4)
    plot.stairs(events, edges, color=BLUE, fill=True, alpha=0.75, label="events")
    middles = np.sqrt(edges[:-1] * edges[1:])
    plot.errorbar(middles, events, yerr=np.sqrt(events), color=INK, linewidth=0, elinewidth=0.8)
    plot.stairs(mirrored, edges, color=RED, linewidth=1.4, label="of negative charge: what noise adds")
    threshold = float(np.median([one.threshold_e for one in exposures]))
    plot.axvline(
        threshold,
        color=EXPECTED,
        linewidth=1.4,
        linestyle=(0, (4, 2)),
        label=f"threshold, {number(threshold)} e⁻",
    )
    medians = [
        one.median_charge_e
        for one in exposures
        # Where noise outweighs the hits, their median is known to nothing.
        if one.median_charge_e is not None and (one.median_charge_error_e or 0.0) < one.median_charge_e
    ]
    if medians:
        middle = float(np.median(medians))
        plot.axvline(middle, color=INK, linewidth=1.2, label=f"median of hits, {number(middle)} e⁻")
    plot.set_xscale("log")
    plot.set_xlabel("Charge (e⁻)")
    plot.set_ylabel("Events")
    plot.set_ylim(bottom=0)
    filled = np.flatnonzero(events + mirrored)
    plot.set_xlim(edges[max(filled[0] - 1, 0)], edges[min(filled[-1] + 2, len(edges) - 1)])
    legend_below(plot, 2)
    return picture(
        figure,
        f"Histogram of the charge of {count(int(events.sum()), 'event')} over "
        f"{count(len(same), 'exposure')}, from {number(edges[0])} to {number(edges[-1])} e⁻ in equal steps "
        f"of the logarithm, and of {count(int(mirrored.sum()), 'event')} of negative charge.",
        "Charge over the flagged pixels of an event; its neighbours below the threshold are not in it. A "
        "particle leaves charge and takes none, so events of negative charge are noise, which adds as many "
        "to the others. Errors are the roots of the counts.",
    )


def rates(exposures: Sequence[JumpEvents]) -> Picture:
    """Draw hits per area and live time of each exposure against time, in the range expected in flight."""
    times, label = since_first([one.mid_mjd for one in exposures])
    values = np.array([one.hits_per_cm2_s for one in exposures])
    low = values - np.array([one.hits_per_cm2_s_low for one in exposures])
    high = np.array([one.hits_per_cm2_s_high for one in exposures]) - values
    figure, plot = axes("Hits of each exposure", 3.4)
    least, most = exposures[0].expected_hits_per_cm2_s
    said = f"{plain(least)} to {plain(most)}"
    plot.axhspan(least, most, color=EXPECTED, alpha=0.22, linewidth=0, label=f"expected in flight, {said}")
    errors = np.maximum([low, high], 0)
    plot.errorbar(
        times,
        values,
        yerr=errors,
        color=BLUE,
        marker="o",
        markersize=4.5,
        linewidth=0,
        elinewidth=1.0,
        label="exposure",
    )
    plot.set_xlabel(label)
    plot.set_ylabel("Hits (1/cm²/s)")
    plot.margins(y=0.25)
    legend_below(plot, 2)
    return picture(
        figure,
        f"Hits per cm² and s against time, one point for each of {count(len(exposures), 'exposure')}, from "
        f"{number(float(values.min()))} to {number(float(values.max()))}; expected {said} in flight.",
        "Hits over the area and the live time in which one would be seen, noise's own events taken away; "
        "errors are 68.3 % Poisson limits. One exposure far above the others was taken in a particle event.",
    )
