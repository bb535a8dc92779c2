"""Plot of one figure of one configuration against time, over all products in a store."""

import numpy as np

from nircam_darks.operations.stability import StoreSeries
from nircam_darks.report.plots.reference import expected_span
from nircam_darks.report.plots.style import BLUE, RED, Picture, axes, legend_below
from nircam_darks.report.text import count, number, since_first, with_signs
from shared.nircam.detectors import detectors
from shared.products.figures import REFERENCE_FIGURES, SET_FIGURES

#: Characters from which an axis label takes two lines.
_LONG_LABEL = 24


def series_picture(series: StoreSeries) -> Picture:
    """Plot a series with its errors, fitted line and outliers, over the expected value.

    Parameters
    ----------
    series : StoreSeries
        Its drift is drawn if there were enough points to fit a line.
    """
    points = series.points
    times, label = since_first([point.mjd for point in points])
    unit = with_signs(series.unit)
    figure, plot = axes(f"{series.quantity[:1].upper()}{series.quantity[1:]}, {series.detector}", 3.4)
    expected = _expected(series)
    if expected:
        expected_span(plot, *expected)
    outliers = {(outlier.name, outlier.mjd) for outlier in series.test.outliers}
    is_outlier = [(point.name, point.mjd) in outliers for point in points]
    for outlying, colour, name in ((False, BLUE, series.of), (True, RED, "outlier")):
        chosen = [at for at in range(len(points)) if is_outlier[at] == outlying]
        if chosen:
            plot.errorbar(
                [times[at] for at in chosen],
                [points[at].value for at in chosen],
                yerr=[points[at].error or 0.0 for at in chosen],
                color=colour,
                marker="o",
                markersize=4.5,
                linewidth=0,
                elinewidth=1.0,
                label=name,
            )
    drift = series.test.drift
    if drift is not None:
        mjd = np.array([point.mjd for point in points])
        line = drift.level + drift.per_day * (mjd - drift.mjd)
        slope = f"line, slope {number(abs(drift.sigma), 2)} sigma from zero"
        plot.plot(times, line, color=BLUE, linewidth=1.2, linestyle=(0, (4, 2)), label=slope)
    plot.set_xlabel(label)
    # On paper, a long label is taller than the plot.
    gap = " " if len(series.quantity) + len(unit) < _LONG_LABEL else "\n"
    plot.set_ylabel(f"{series.quantity}{gap}({unit})")
    plot.margins(y=0.25)
    legend_below(plot, 2)
    return Picture(
        figure,
        f"{series.quantity} of {series.configuration} in {unit} against time, "
        f"{count(len(points), 'point')}, one per {series.of}.",
        f"{series.configuration}: {with_signs(series.test.verdict)}.",
    )


def _expected(series: StoreSeries) -> tuple[float, float] | None:
    channel = detectors()[series.detector].expected
    rows = (row for row in (*REFERENCE_FIGURES, *SET_FIGURES) if row.quantity == series.quantity)
    for row in rows:
        if row.expected is not None and not row.expected_for:
            aim = row.expected(channel)
            return aim.value, aim.error
    return None
