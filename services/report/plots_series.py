"""The picture of one figure of one configuration against time, over a whole store."""

import numpy as np

from services.operations.trends import StoreSeries
from services.report.plots_reference import expected_span
from services.report.style import BLUE, RED, Picture, axes, legend_below, picture
from services.report.wording import count, in_words, number, since_first
from shared.detectors import detectors


def series_picture(series: StoreSeries) -> Picture:
    """Draw a series with its errors, its line, its outliers, and what is expected of it."""
    points = series.points
    times, label = since_first([one.mjd for one in points])
    unit = in_words(series.unit)
    figure, plot = axes(f"{series.quantity[:1].upper()}{series.quantity[1:]}, {series.detector}", 3.4)
    aim = _expected(series)
    if aim:
        expected_span(plot, *aim)
    out = {(one.name, one.mjd) for one in series.test.outliers}
    good = [at for at, one in enumerate(points) if (one.name, one.mjd) not in out]
    off = [at for at in range(len(points)) if at not in set(good)]
    for which, colour, said in ((good, BLUE, series.of), (off, RED, "outlier")):
        if which:
            plot.errorbar(
                [times[at] for at in which],
                [points[at].value for at in which],
                yerr=[points[at].error or 0.0 for at in which],
                color=colour,
                marker="o",
                markersize=4.5,
                linewidth=0,
                elinewidth=1.0,
                label=said,
            )
    drift = series.test.drift
    if drift is not None:
        mjd = np.array([one.mjd for one in points])
        line = drift.level + drift.per_day * (mjd - drift.mjd)
        said = f"line, {number(abs(drift.sigma), 2)} sigma from level"
        plot.plot(times, line, color=BLUE, linewidth=1.2, linestyle=(0, (4, 2)), label=said)
    plot.set_xlabel(label)
    plot.set_ylabel(f"{series.quantity} ({unit})")
    plot.margins(y=0.25)
    legend_below(plot, 2)
    return picture(
        figure,
        f"{series.quantity} of {series.configuration} in {unit} against time, "
        f"{count(len(points), 'point')}, one {'an' if series.of == 'exposure' else 'a'} {series.of}.",
        f"{series.configuration}: {in_words(series.test.verdict)}.",
    )


def _expected(series: StoreSeries) -> tuple[float, float] | None:
    channel = detectors()[series.detector].expected
    aim = {"dark rate": channel.dark_current_nrc09, "CDS noise": channel.cds_noise}.get(series.quantity)
    return (aim.value, aim.sigma) if aim else None
