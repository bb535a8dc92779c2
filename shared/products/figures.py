"""Every figure of the products, declared once.

A row says what a figure is called, its unit, and where it stands in the typed product. The rows feed
``summary.json``, the tables of the report, ``figures.ecsv``, the messages ``noise.measured`` and
``reference.built``, the metrics, and the series of ``nircam-darks stability``.

To add a figure, write the function that computes it, list the function under the name of the figure in
`services.noise.set_summary.FURTHER_SET_FIGURES` or `services.noise.exposure.FURTHER_EXPOSURE_FIGURES`, and
add one row here.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from shared.nircam.detectors import ChannelExpectation
from shared.products.noise import ExposureNoiseResults, SetNoiseResults, TheoryFit
from shared.products.reference import ReferenceResults
from shared.statistics.verdicts import Measured, Value, Verdict, VerdictState, finite, not_measured

#: The gauge of every figure that has none of its own.
GENERIC_METRIC = "darks_figure"
#: Results of a product that holds figures.
FigureResults = ReferenceResults | SetNoiseResults | ExposureNoiseResults


@dataclass(frozen=True)
class FigureDefinition:
    """A figure of a product.

    Attributes
    ----------
    name : str
        Key in ``summary.json``, ``figures.ecsv`` and messages, and the metrics' label; unique in its product.
    label : str
        What the report calls it.
    unit : str
        In ASCII, such as ``e-`` and ``e-/1000 s``.
    take : callable, optional
        Gives the figure from the product's results, None where they do not have it. By default what stands
        under `name` in their `figures`.
    verdict_name : str, optional
        What the one-line verdict of a set calls it; without one, that verdict leaves it out.
    chapter : str, optional
        Table of the set's report page: ``verdicts``, which is the index's too, ``noise`` or ``jumps``. None:
        the page has it elsewhere.
    series : str, optional
        What `stability` calls it; by default the label. Empty: it is not followed in time.
    group : str
        What it is measured with: the label `figure` of the metrics that say when that was and whether it is
        out of its band.
    metric, error_metric : str, optional
        The gauges of value and error; empty: none.
    metric_scale : float
        The gauge's unit in the figure's.
    band_metric : str, optional
        The gauge of the band in which `expected` has the figure.
    expected : callable, optional
        Gives what a channel's table expects, for bands and pictures. Verdicts are made where the figure is
        measured, and hold their own expectation.
    expected_for : str
        What alone `expected` holds for; pictures of other data leave it out.
    """

    name: str
    label: str
    unit: str
    take: Callable[[Any], Measured | None] | None = None
    verdict_name: str | None = None
    chapter: Literal["verdicts", "noise", "jumps"] | None = "noise"
    series: str | None = None
    group: Literal["dark_current", "noise", "jumps"] = "noise"
    metric: str = GENERIC_METRIC
    error_metric: str = ""
    metric_scale: float = 1.0
    band_metric: str = ""
    expected: Callable[[ChannelExpectation], Value] | None = None
    expected_for: str = ""

    @property
    def quantity(self) -> str:
        """The name of its series in time; empty if it has none."""
        return self.label if self.series is None else self.series

    def of(self, results: FigureResults) -> Measured | None:
        """Return the figure of a product; None where the product does not have it."""
        if self.take is not None:
            return self.take(results)
        return getattr(results, "figures", {}).get(self.name)


def _field(name: str) -> Callable[[Any], Measured | None]:
    return lambda results: getattr(results, name)


def _plain(value: float, error: float, expectation: str | None = None) -> Measured:
    """Return a figure without a verdict; `expectation` is what a reader may hold it against."""
    reason = "no table says what is expected"
    return Measured.of(
        Value(value, error),
        Verdict(state=VerdictState.NOT_COMPARED, reason=reason, expectation=expectation),
    )


def _dark_current(results: ReferenceResults) -> Measured:
    return Measured(
        value=finite(results.dark_current_e_per_ks),
        error=finite(results.dark_current_error_e_per_ks),
        expected=results.expected_e_per_ks,
        expected_sigma=results.expected_sigma_e_per_ks,
        verdict=results.verdict,
        comparison=results.comparison,
    )


def _no_jumps(results: SetNoiseResults | ExposureNoiseResults) -> str | None:
    """Return why no jump could be flagged in the ramps of a product, or None."""
    judged = (
        results.jump_pixel_percent if isinstance(results, SetNoiseResults) else results.jump_pixels_judged
    )
    return None if judged.value is not None else judged.comparison.reason or "no jump can be flagged"


def _jump_flags(results: SetNoiseResults | ExposureNoiseResults) -> Measured:
    refusal = _no_jumps(results)
    if refusal:
        return not_measured(refusal)
    false = results.expected_false_positive_flags
    if not math.isfinite(false):
        return _plain(results.jump_flags, results.jump_flags_error)
    alone = f"{false:.2g}" if false < 10 else f"{false:,.0f}"
    return _plain(results.jump_flags, results.jump_flags_error, f"{alone} from noise alone")


def _theory_term(fit: TheoryFit | None, name: Literal["p0", "p1"]) -> Measured | None:
    if fit is None:
        return None
    value, error, usual = {
        "p0": (fit.p0, fit.p0_error, fit.usual_p0),
        "p1": (fit.p1, fit.p1_error, fit.usual_p1),
    }[name]
    expectation = f"{usual:g} for the channel"
    if value is None:
        verdict = Verdict(state=VerdictState.NOT_ENOUGH, reason=fit.said, expectation=expectation)
        return Measured(value=None, error=None, verdict=str(verdict), comparison=verdict)
    return _plain(value, math.nan if error is None else error, expectation)


def _exposure_hits(results: ExposureNoiseResults) -> Measured | None:
    events = results.events
    if events is None:
        refusal = _no_jumps(results)
        return not_measured(refusal) if refusal else None
    return Measured.of(events.hits_shown_per_cm2_s, events.comparison)


def _exposure_cds(results: ExposureNoiseResults) -> Measured | None:
    known = [noise for noise in results.cds_noise_e if math.isfinite(noise)]
    return _plain(math.fsum(known) / len(known), math.nan) if known else None


def _jump_rate(results: ExposureNoiseResults) -> Measured | None:
    """Return the rate at which pixels are hit: unlike their share, it is the same for every length."""
    refusal = _no_jumps(results)
    if refusal:
        return not_measured(refusal)
    share = results.science_jump_pixel_percent / 100
    if share >= 1 or results.live_seconds <= 0:
        return None
    per_ks = 1e5 / results.live_seconds
    error = results.science_jump_pixel_percent_error / 100 / (1 - share) * per_ks
    return _plain(-math.log1p(-share) * per_ks, error)


def _exposure_jump_percent(results: ExposureNoiseResults) -> Measured:
    refusal = _no_jumps(results)
    if refusal:
        return not_measured(refusal)
    return _plain(results.jump_pixel_percent, results.jump_pixel_percent_error)


REFERENCE_FIGURES = (
    FigureDefinition(
        "dark_current_e_per_ks",
        "Dark current",
        "e-/1000 s",
        _dark_current,
        chapter="verdicts",
        series="dark rate",
        group="dark_current",
        metric="darks_dark_current_electrons_per_kilosecond",
        error_metric="darks_dark_current_error_electrons_per_kilosecond",
        band_metric="darks_expected_dark_current_electrons_per_kilosecond",
        expected=lambda channel: channel.dark_current_nrc09,
    ),
)

SET_FIGURES = (
    FigureDefinition(
        "cds_noise_e",
        "CDS noise",
        "e-",
        _field("cds_noise"),
        verdict_name="CDS noise",
        chapter="verdicts",
        metric="darks_cds_noise_electrons",
        band_metric="darks_expected_cds_noise_electrons",
        expected=lambda channel: channel.cds_noise,
    ),
    FigureDefinition(
        "spatial_effective_noise_e",
        "Spatial effective noise",
        "e-",
        _field("spatial_effective_noise"),
        verdict_name="spatial noise",
        chapter="verdicts",
        series="spatial effective noise",
        metric="darks_effective_noise_electrons",
        band_metric="darks_expected_effective_noise_electrons",
        expected=lambda channel: channel.effective_noise,
        expected_for="1000 s of RAPID",
    ),
    FigureDefinition(
        "temporal_effective_noise_e",
        "Temporal effective noise",
        "e-",
        _field("temporal_effective_noise"),
        verdict_name="temporal noise",
        chapter="verdicts",
        series="temporal effective noise",
    ),
    FigureDefinition(
        "cds_noise_median_removed_e",
        "CDS noise, common drifts removed",
        "e-",
        _field("cds_noise_median_removed"),
        series="CDS noise, drifts removed",
    ),
    FigureDefinition(
        "ktc_noise_e",
        "Reset noise (kTC)",
        "e-",
        _field("ktc_noise"),
        series="kTC noise",
        verdict_name="kTC noise",
    ),
    FigureDefinition(
        "jump_pixel_percent",
        "Pixels with a jump in any integration",
        "%",
        _field("jump_pixel_percent"),
        verdict_name="jumps",
        chapter="verdicts",
        series="",
        group="jumps",
        metric="darks_jump_pixel_fraction",
        metric_scale=0.01,
    ),
    FigureDefinition(
        "jump_pixel_percent_integration_0",
        "Pixels with a jump in integration 0 (the notebook's)",
        "%",
        chapter="jumps",
        series="",
        group="jumps",
    ),
    FigureDefinition(
        "correlated_noise_e",
        "1/f noise common to all amplifiers",
        "e-",
        _field("correlated_noise"),
        series="common 1/f noise",
    ),
    FigureDefinition(
        "uncorrelated_noise_e",
        "1/f noise of each amplifier alone",
        "e-",
        _field("uncorrelated_noise"),
        series="amplifier 1/f noise",
    ),
    FigureDefinition(
        "white_noise_e", "White noise of one group", "e-", _field("white_noise"), series="white noise"
    ),
    FigureDefinition("column_noise_e", "Column noise of one group", "e-", series="column noise"),
    FigureDefinition("common_one_over_f_exponent", "Exponent of the common 1/f noise", "", series=""),
    FigureDefinition("amplifier_one_over_f_exponent", "Exponent of the amplifiers' 1/f noise", "", series=""),
    FigureDefinition(
        "common_spectrum_chi2", "Reduced chi-square of the common spectrum's fit", "", series=""
    ),
    FigureDefinition(
        "amplifier_spectrum_chi2", "Reduced chi-square of the amplifiers' spectrum fit", "", series=""
    ),
    FigureDefinition(
        "reference_cds_noise_e",
        "CDS noise of reference pixels",
        "e-",
        _field("reference_cds_noise"),
        series="CDS noise of reference pixels",
    ),
    FigureDefinition(
        "theory_p0_e",
        "Theory term p0",
        "e-",
        lambda results: _theory_term(results.theory_fit, "p0"),
        series="",
    ),
    FigureDefinition(
        "theory_p1_e",
        "Theory term p1",
        "e-",
        lambda results: _theory_term(results.theory_fit, "p1"),
        series="",
    ),
    FigureDefinition(
        "science_jump_pixel_percent",
        "Science pixels with a jump",
        "%",
        _field("science_jump_pixel_percent"),
        series="",
    ),
    FigureDefinition("jump_flags", "Jump flags", "", _jump_flags, series=""),
    FigureDefinition(
        "hits_per_cm2_s", "Hits", "hits/cm2/s", _field("hits_per_cm2_s"), chapter=None, series=""
    ),
)

#: Figures of single exposures; the report shows them in its tables of exposures.
EXPOSURE_FIGURES = (
    FigureDefinition(
        "cds_noise_e", "CDS noise", "e-", _exposure_cds, chapter=None, series="CDS noise", metric=""
    ),
    # The set's noise has the same with a smaller error, of each of its exposures but those it leaves out.
    FigureDefinition(
        "dark_rate_e_per_ks",
        "Dark rate",
        "e-/1000 s",
        chapter=None,
        series="dark rate",
        metric="",
    ),
    FigureDefinition(
        "jump_rate_percent_per_ks",
        "Jump rate",
        "% of pixels per 1000 s",
        _jump_rate,
        chapter=None,
        series="jump rate",
        metric="",
    ),
    FigureDefinition(
        "hits_per_cm2_s", "Hits", "hits/cm2/s", _exposure_hits, chapter=None, series="hits", metric=""
    ),
    FigureDefinition("jump_flags", "Jump flags", "", _jump_flags, chapter=None, series="", metric=""),
    FigureDefinition(
        "jump_pixel_percent",
        "Pixels with a jump in any integration",
        "%",
        _exposure_jump_percent,
        chapter=None,
        series="",
        group="jumps",
        metric="darks_jump_pixel_fraction",
        metric_scale=0.01,
    ),
    FigureDefinition(
        "jump_pixel_percent_integration_0",
        "Pixels with a jump in integration 0 (the notebook's)",
        "%",
        chapter=None,
        series="",
        group="jumps",
        metric="",
    ),
    FigureDefinition(
        "science_jump_pixel_percent",
        "Science pixels with a jump",
        "%",
        _field("jump_pixels_judged"),
        verdict_name="jumps",
        chapter=None,
        series="",
        metric="",
    ),
)


def rows_of(results: FigureResults) -> tuple[FigureDefinition, ...]:
    """Return the rows of a product's figures."""
    if isinstance(results, ReferenceResults):
        return REFERENCE_FIGURES
    return SET_FIGURES if isinstance(results, SetNoiseResults) else EXPOSURE_FIGURES


def figures_of(results: FigureResults) -> dict[str, Measured]:
    """Return the figures of a product by name; those it does not have are left out."""
    return {row.name: figure for row, figure in declared_figures(results)}


def declared_figures(results: FigureResults) -> Iterator[tuple[FigureDefinition, Measured]]:
    """Yield each figure of a product beside its row, in the order of the rows."""
    for row in rows_of(results):
        figure = row.of(results)
        if figure is not None:
            yield row, figure


def verdicts_of(results: FigureResults) -> dict[str, Verdict]:
    """Return the verdicts that a product's one-line verdict is made of, by the names it uses."""
    return {
        row.verdict_name: figure.comparison
        for row, figure in declared_figures(results)
        if row.verdict_name is not None
    }


def headline_of(figures: Mapping[str, Measured]) -> dict[str, float | None]:
    """Return the values of figures by name, as messages carry them beside the figures themselves."""
    return {name: figure.value for name, figure in figures.items()}
