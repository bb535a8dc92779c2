"""The hits of exposures in tables and plots: a negative rate is a limit, never a rate."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from nircam_darks.report.plots.events import rates
from nircam_darks.report.tables.events import event_figures, event_table
from nircam_darks.report.text import figure_or_limit
from services.noise.jumps.events import FlagCollector
from services.noise.jumps.rates import event_statistics, set_hits
from shared.products.noise import ExposureNoiseResults
from support.configurations import configuration

KEY = configuration(64, 64, 5)


def exposure(up, down, number):
    """Jump events of an exposure with so many of either sign."""
    rng = np.random.default_rng(number)
    collector = FlagCollector(np.ones((64, 64), bool), 5)
    columns = 4 + 3 * np.arange(up + down)
    sign = np.where(np.arange(up + down) < up, 1, -1)
    for group in range(5):
        signal = rng.normal(0, 5, (64, 64)).astype(np.float32)
        quality = np.zeros((64, 64), np.uint8)
        if group >= 2:
            signal[30, columns] += 80 * sign
        if group == 2:
            quality[30, columns] = 4
        collector.add(group, signal, quality)
    events = event_statistics(*collector.finish(), KEY, 2.0, (10.0 + number, 10.1 + number))
    assert (events.events, events.negative_events) == (up, down)
    return events


@pytest.fixture
def exposures():
    return [exposure(9, 1, 1), exposure(1, 6, 2), exposure(5, 0, 3)]


def as_results(events, number):
    return ExposureNoiseResults.model_construct(exposure_id=f"jw{number}", events=events)


def test_tables_have_limits_in_place_of_negative_rates(exposures):
    results = [as_results(events, number) for number, events in enumerate(exposures)]
    cells = [row[3].text for row in event_table(results).rows]
    limit = exposures[1].hits_limit_per_cm2_s
    assert cells[1] == f"< {limit:.2g}"
    assert "±" in cells[0]
    assert "±" in cells[2]
    [hits, _] = event_figures([exposures[1]])
    assert hits.value == f"< {set_hits([exposures[1]]).comparison.upper_limit:.2g}"
    assert figure_or_limit(1.0, 0.1, None) == "1.00 ± 0.10"


def test_the_plot_of_rates_begins_at_0_and_draws_limits_as_arrows(exposures):
    picture = rates(exposures)
    figure = picture.figure
    assert isinstance(figure, Figure)
    [plot] = figure.axes
    assert plot.get_ylim()[0] == 0
    drawn = [line.get_ydata() for line in plot.lines if len(line.get_ydata())]
    assert min(float(np.min(values)) for values in drawn) >= 0
    labels = plot.get_legend_handles_labels()[1]
    assert sum("limit" in label for label in labels) == 1
    # And of limits alone there is a plot, too
    assert rates([exposures[1]]).figure.axes[0].get_ylim()[0] == 0
