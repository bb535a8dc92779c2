"""The figures and properties of one set, as tables of the report."""

import math
from collections.abc import Iterator

from nircam_darks.report.content import FigureRow, Properties, Table, text_rows
from nircam_darks.report.exposure_sets import ExposureSet
from nircam_darks.report.plots.reference import RATE_UNIT
from nircam_darks.report.tables.reference import TONES, acceptance_of_reference
from nircam_darks.report.text import (
    count,
    expected,
    figure_or_limit,
    measured,
    mjd,
    number,
    seconds,
    short_verdict,
    span,
    verdict_note,
    verdict_tone,
    when,
    with_signs,
)
from services.noise.stability.transients import SIGNIFICANT
from shared.nircam.configuration import ConfigurationKey
from shared.products.figures import REFERENCE_FIGURES, SET_FIGURES, FigureDefinition, declared_figures
from shared.products.noise import SetNoiseResults, Stability, Trend
from shared.products.reference import ReferenceResults
from shared.products.sign_off import SignOff
from shared.statistics.verdicts import Acceptance, Measured

_HEADLINE = [figure for figure in (*REFERENCE_FIGURES, *SET_FIGURES) if figure.chapter == "verdicts"]
#: The columns of the verdict table, in its order.
HEADLINES = ["Dark reference", *(figure.label for figure in _HEADLINE)]


#: Failures of a reference that the index shows.
_SHOWN = 2


def headline(
    reference: ReferenceResults | None, noise: SetNoiseResults | None, sign_off: SignOff | None = None
) -> Iterator[FigureRow]:
    """Yield the rows of the verdict table; figures that were not measured have a row too."""
    yield _reference_row(reference, sign_off)
    for definition in _HEADLINE:
        of_reference = definition in REFERENCE_FIGURES
        product, missing = (reference, "not built") if of_reference else (noise, "not measured")
        figure = None if product is None else definition.of(product)
        if figure is None:
            yield FigureRow(definition.label, "–", "", "–", missing, "none")
        else:
            yield figure_row(definition, figure)


def _reference_row(reference: ReferenceResults | None, sign_off: SignOff | None) -> FigureRow:
    if reference is None:
        return FigureRow("Dark reference", "–", "", "–", "not built", "none")
    acceptance = acceptance_of_reference(reference)
    if acceptance is None:
        return FigureRow("Dark reference", "built", "", "–", "not verified", "none")
    if sign_off is not None:
        return FigureRow("Dark reference", "accepted", "", "–", f"by {sign_off.by}, after review", "good")
    verdict = {
        Acceptance.ACCEPTED: "passed verification",
        Acceptance.HELD: "held for review",
        Acceptance.REJECTED: "failed verification",
    }[acceptance]
    return FigureRow(
        "Dark reference", str(acceptance), "", "–", verdict, TONES[acceptance], _failures(reference)
    )


def _failures(reference: ReferenceResults) -> str:
    """Return what a reference was held or rejected for, at most `_SHOWN` of the failures."""
    failures = [] if reference.verification is None else reference.verification.outcome.failures
    rest = f"; and {len(failures) - _SHOWN} more" if len(failures) > _SHOWN else ""
    return with_signs("; ".join(failures[:_SHOWN]) + rest)


def figure_row(definition: FigureDefinition, figure: Measured) -> FigureRow:
    """Return a measured figure as a row of a table."""
    verdict, aim = figure.comparison, expected(figure.expected, figure.expected_sigma)
    if figure.expected is None and verdict.expectation is not None:
        aim = with_signs(verdict.expectation)
    return FigureRow(
        definition.label,
        figure_or_limit(figure.value, figure.error, figure.comparison.upper_limit),
        with_signs(definition.unit) if figure.value is not None else "",
        aim,
        short_verdict(figure),
        verdict_tone(verdict),
        verdict_note(figure),
    )


def set_properties(exposure_set: ExposureSet, key: ConfigurationKey) -> list[tuple[str, str]]:
    """Return what the exposures of a set have in common."""
    ramps = [ramp for _, ramp in exposure_set.ramps]
    integrations = sum(ramp.integrations for ramp in ramps)
    properties = [
        ("Detector", key.detector),
        (
            "Subarray",
            f"{key.subarray}, {key.subsize1} × {key.subsize2} pixels from ({key.substrt1}, {key.substrt2})",
        ),
        ("Outputs", str(key.noutputs)),
        (
            "Readout",
            f"{key.readpatt} ({count(key.nframes, 'frame')}, gap {key.groupgap}), frame {key.tframe:g} s",
        ),
        ("Groups", f"{key.ngroups}, {key.group_time:g} s apart"),
        ("Coronagraphic mask", key.coronmsk),
        ("Exposures", f"{len(ramps)} with {count(integrations, 'integration')}"),
    ]
    if ramps:
        properties += [
            ("Observed", span(mjd(ramps[0].start_mjd), mjd(max(ramp.end_mjd for ramp in ramps)))),
            ("Gain", f"{number(min(ramp.gain for ramp in ramps))} e⁻/DN"),
            ("Pedigree", ", ".join(sorted({ramp.pedigree for ramp in ramps}))),
        ]
    return properties


def exposures_table(exposure_set: ExposureSet) -> Table:
    """Return one row per exposure of a set: what was ingested, and its jumps."""
    jumps = {exposure.exposure_id: exposure for _, exposure in exposure_set.jumps}
    rows = []
    for _, ramp in exposure_set.ramps:
        exposure = jumps.get(ramp.exposure_id)
        rows.append(
            [
                ramp.file,
                when(mjd(ramp.start_mjd)).removesuffix(" UTC"),
                str(ramp.integrations),
                f"{number(100 * ramp.flagged_fraction, 2)} %",
                f"{exposure.science_jump_flags:,}" if exposure else "–",
                f"{number(exposure.science_jump_pixel_percent)} %" if exposure else "–",
                ramp.persistence_from or "none",
            ]
        )
    head = ["File", "Start (UTC)", "Integrations", "DO_NOT_USE", "Jump flags", "Pixels with a jump"]
    return Table(
        [*head, "Persistence from"],
        text_rows(*rows, files=(0, 6)),
        widths=(0.315, 0.135, 0.09, 0.09, 0.06, 0.07, 0.24),
    )


def exposure_remarks(exposure_set: ExposureSet) -> list[Properties]:
    """Return what ingest met in the exposures of a set, such as frames that were never read, if anything."""
    remarks = [(ramp.exposure_id, remark) for _, ramp in exposure_set.ramps for remark in ramp.remarks]
    return [Properties(remarks)] if remarks else []


def made_from(reference: ReferenceResults) -> str:
    """Return how many integrations of the set are in the mean of a dark reference."""
    of_set = (
        f"{count(reference.integrations, 'integration')} of {count(len(reference.exposures), 'exposure')}"
    )
    if reference.in_use == reference.integrations:
        return of_set
    return f"{reference.in_use} of {of_set}"


def reference_properties(reference: ReferenceResults) -> list[tuple[str, str]]:
    """Return the properties of a dark reference other than its dark current."""
    rates, errors = reference.amplifier_dark_current_e_per_ks, reference.amplifier_dark_current_error_e_per_ks
    by_amplifier = ", ".join(map(measured, rates, errors or [None] * len(rates)))
    return [
        ("File", reference.file),
        ("Mode", reference.mode_name),
        ("Made from", made_from(reference)),
        *(("Not in the mean", str(entry)) for entry in reference.left_out_exposures if entry.left_out),
        *(("Kept, but", str(entry)) for entry in reference.left_out_exposures if not entry.left_out),
        ("Dark current by amplifier", f"{by_amplifier} {RATE_UNIT}"),
        ("Hot pixels excluded from it", f"{reference.hot_pixels:,}"),
        ("Without a measurement", f"{reference.unmeasured:,} (group, pixel)"),
        *_clipped(reference),
        ("Pedigree", reference.pedigree),
    ]


def _clipped(reference: ReferenceResults) -> list[tuple[str, str]]:
    # The clip decides about few pixels of a dark that is made of segments.
    if reference.clipped_mean_pixels is not None:
        return []
    return [
        ("Rejected by the sigma clip", f"{number(100 * reference.clipped_fraction, 2)} % of measurements")
    ]


def references_table(exposure_set: ExposureSet) -> Table:
    """Return the reference files that the pipeline steps used, one type per row."""
    files: dict[str, list[str]] = {}
    for _, ramp in exposure_set.ramps:
        for reftype, file in ramp.references.items():
            name = file.removeprefix("crds://")
            if name not in files.setdefault(reftype, []):
                files[reftype].append(name)
    rows = [(reftype, ", ".join(names)) for reftype, names in sorted(files.items())]
    none = ("none", "all steps had been run on the input")
    return Table(["Reference type", "File"], text_rows(*(rows or [none]), files=(1,)))


def steps_table(exposure_set: ExposureSet) -> Table:
    """Return the pipeline steps: what was done, and the mean time over the exposures that ran them."""
    rows = []
    status_text = {"complete": "run", "already": "already done in the input", "skipped": "skipped"}
    all_steps = [step for _, ramp in exposure_set.ramps for step in ramp.steps]
    for name in dict.fromkeys(step.name for step in all_steps):
        steps = [step for step in all_steps if step.name == name]
        statuses = dict.fromkeys(step.status for step in steps)
        outcome = ", ".join(
            status_text[status]
            if len(statuses) == 1
            else f"{status_text[status]} in {sum(step.status == status for step in steps)}"
            for status in statuses
        )
        times = [step.seconds for step in steps if step.status == "complete"]
        rows.append((name, outcome, f"{seconds(sum(times) / len(times))} per exposure" if times else "–"))
    for product, label in (
        (exposure_set.reference, "dark reference"),
        (exposure_set.noise, "noise of the set"),
    ):
        if product and product[0].timings:
            rows.append((label, "run", seconds(sum(product[0].timings.values()))))
    return Table(["Step", "Status", "Time"], text_rows(*rows))


def noise_figures(noise: SetNoiseResults, chapter: str = "noise") -> Iterator[FigureRow]:
    """Yield the figures of a set's noise that stand in a chapter."""
    for definition, figure in declared_figures(noise):
        if definition.chapter == chapter:
            yield figure_row(definition, figure)


def transients_table(stability: Stability) -> Table | None:
    """Return the table of the transients after a reset; None for a product without any."""
    if not stability.transients:
        return None
    rows = [
        [
            transient.what,
            f"{measured(transient.value, transient.error)} {transient.unit}"
            if transient.value is not None
            else "–",
            "–" if transient.sigmas is None else _significance(transient.sigmas),
            with_signs(transient.said),
        ]
        for transient in stability.transients
    ]
    head = ["After a reset", "Difference from the rest", "Significance", "Explanation"]
    return Table(head, text_rows(*rows), widths=(0.18, 0.18, 0.18, 0.46))


def noise_properties(noise: SetNoiseResults) -> list[tuple[str, str]]:
    """Return the properties of a set's noise other than its figures."""
    by_amplifier = [
        ("CDS noise by amplifier", noise.cds_noise_by_amplifier_e),
        ("CDS noise by amplifier, common drifts removed", noise.cds_noise_median_removed_by_amplifier_e),
        ("Reset noise by amplifier", noise.ktc_noise_by_amplifier_e),
        ("Uncorrelated 1/f noise by amplifier", noise.uncorrelated_noise_by_amplifier_e),
    ]
    return [
        ("Ramps", str(noise.ramps)),
        *(
            (name, f"{', '.join(number(value) for value in values)} e⁻")
            for name, values in by_amplifier
            if values
        ),
        (
            "Pixels with a jump from noise alone",
            f"{number(noise.expected_false_positive_percent, 2)} % expected",
        ),
    ]


def drift_table(stability: Stability) -> Table:
    """Return the drift of each figure of a set over its integrations, and how significant it is."""

    def row(name: str, trend: Trend | None, unit: str, per: str, expected_slope: bool = False) -> list[str]:
        if trend is None:
            return [name, "not enough integrations", "–", "–"]
        sigma = abs(trend.slope) / trend.slope_error if trend.slope_error > 0 else math.nan
        return [
            name,
            f"{measured(trend.slope, trend.slope_error)} {unit} {per}",
            f"{number(trend.scatter, 2)} {unit}",
            "this is the dark current" if expected_slope else _significance(sigma, trend.visible),
        ]

    rows = [
        row("Dark current", stability.dark_rate_per_hour, RATE_UNIT, "per hour"),
        row("CDS noise", stability.cds_noise_per_hour, "e⁻", "per hour"),
        *(
            row(f"First group, amplifier {n}", pedestal, "DN", "per hour")
            for n, pedestal in enumerate(stability.amplifier_pedestal_per_hour, start=1)
        ),
        *(
            row(f"From group to group, amplifier {n}", slope, "DN", "per second", expected_slope=True)
            for n, slope in enumerate(stability.amplifier_ramp_per_second, start=1)
        ),
    ]
    return Table(
        ["Drift of", "Slope", "Scatter about the line", "Significance"],
        text_rows(*rows),
        widths=(0.3, 0.28, 0.2, 0.22),
    )


def _significance(sigma: float, visible: float | None = None) -> str:
    """Return ``7.1 sigma``, or ``0.78 sigma, not significant; above 390 would be``."""
    if sigma >= SIGNIFICANT:
        return f"{number(sigma, 2)} sigma"
    limit = "" if visible is None else f"; above {number(visible, 2)} would be"
    return f"{number(sigma, 2)} sigma, not significant{limit}"
