"""The numbers of one set as the report's tables have them."""

import math
from collections.abc import Iterator, Sequence

from services.darkref.products import ReferenceFacts
from services.noise.products import Measured, SetNoiseFacts, Stability, Trend
from services.report.content import Figure, Table, rows
from services.report.exposure_sets import ExposureSet
from services.report.plots_reference import RATE_UNIT
from services.report.reference_tables import accepted
from services.report.wording import (
    Tone,
    count,
    expected,
    in_words,
    measured,
    mjd,
    number,
    plain,
    seconds,
    short_verdict,
    span,
    tone,
    when,
)
from shared.configuration import ConfigurationKey

#: The figures of the verdict table, in its order.
HEADLINES = [
    "Dark reference",
    "Dark current",
    "CDS noise",
    "Spatial effective noise",
    "Temporal effective noise",
    "Pixels with a jump",
]


def headline(
    reference: ReferenceFacts | None,
    noise: SetNoiseFacts | None,
    no_reference: str | None,
    no_noise: str | None,
) -> Iterator[Figure]:
    """Yield the figures of the verdict table; those that were not measured say why."""
    yield _of_reference(reference, no_reference)
    if reference:
        value, error = reference.dark_current_e_per_ks, reference.dark_current_error_e_per_ks
        aim = expected(reference.expected_e_per_ks, reference.expected_sigma_e_per_ks)
        yield Figure(
            "Dark current",
            measured(value, error),
            RATE_UNIT,
            aim,
            short_verdict(reference.verdict),
            tone(reference.verdict),
        )
    else:
        yield Figure("Dark current", "–", "", "–", short_verdict(no_reference or ""), "none")
    named: list[tuple[str, str, Measured | None]] = [
        ("CDS noise", "e⁻", noise.cds_noise if noise else None),
        ("Spatial effective noise", "e⁻", noise.spatial_effective_noise if noise else None),
        ("Temporal effective noise", "e⁻", noise.temporal_effective_noise if noise else None),
        ("Pixels with a jump", "%", noise.jump_pixel_percent if noise else None),
    ]
    for name, unit, found in named:
        if found is None:
            yield Figure(name, "–", "", "–", short_verdict(no_noise or ""), "none")
        else:
            yield figure(name, unit, found)


def _of_reference(reference: ReferenceFacts | None, missing: str | None) -> Figure:
    if reference is None:
        return Figure("Dark reference", "–", "", "–", short_verdict(missing or ""), "none")
    passed = accepted(reference)
    value = {None: "built", True: "accepted", False: "rejected"}[passed]
    said: tuple[str, Tone] = ("not verified", "none")
    if passed is not None:
        said = ("passed its verification", "good") if passed else ("failed its verification", "off")
    return Figure("Dark reference", value, "", "–", *said)


def figure(name: str, unit: str, found: Measured) -> Figure:
    """Return a measured figure as the page shows it."""
    return Figure(
        name,
        measured(found.value, found.error),
        unit if found.value is not None else "",
        expected(found.expected, found.expected_sigma),
        short_verdict(found.verdict),
        tone(found.verdict),
    )


def set_facts(one: ExposureSet, key: ConfigurationKey) -> list[tuple[str, str]]:
    """Return what the exposures of a set have in common."""
    ramps = [ramp for _, ramp in one.ramps]
    facts = [
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
        ("Exposures", f"{len(ramps)} with {count(sum(r.integrations for r in ramps), 'integration')}"),
    ]
    if ramps:
        gains = [ramp.gain for ramp in ramps]
        facts += [
            ("Taken", span(mjd(ramps[0].start_mjd), mjd(max(r.end_mjd for r in ramps)))),
            ("Gain", f"{number(min(gains))} e⁻/DN"),
            ("Pedigree", ", ".join(sorted({ramp.pedigree for ramp in ramps}))),
        ]
    return facts


def members(one: ExposureSet) -> Table:
    """Return the table of a set's exposures."""
    jumps = {facts.exposure_id: facts for _, facts in one.jumps}
    lines = []
    for _, ramp in one.ramps:
        jump = jumps.get(ramp.exposure_id)
        lines.append(
            [
                ramp.file,
                when(mjd(ramp.start_mjd)).removesuffix(" UTC"),
                str(ramp.integrations),
                f"{number(100 * ramp.flagged_fraction, 2)} %",
                f"{jump.science_jump_flags:,}" if jump else "–",
                f"{number(jump.science_jump_pixel_percent)} %" if jump else "–",
                ramp.persistence_from or "none",
            ]
        )
    head = ["File", "Start (UTC)", "Integrations", "DO_NOT_USE", "Jump flags", "Pixels with a jump"]
    return Table(
        [*head, "Persistence from"],
        rows(*lines, files=(0, 6)),
        widths=(0.33, 0.13, 0.1, 0.1, 0.08, 0.11, 0.15),
    )


def reference_facts(facts: ReferenceFacts) -> list[tuple[str, str]]:
    """Return what a dark reference says beside its dark current."""
    by_amplifier = ", ".join(number(value) for value in facts.amplifier_dark_current_e_per_ks)
    return [
        ("File", facts.file),
        ("Mode", facts.mode),
        ("Made from", f"{len(facts.exposures)} exposures, {count(facts.integrations, 'integration')}"),
        ("Dark current by amplifier", f"{by_amplifier} {RATE_UNIT}"),
        ("Hot pixels left out of it", f"{facts.hot_pixels:,}"),
        ("Places without a measurement", f"{facts.unmeasured:,} (group, pixel)"),
        ("Taken out by the sigma clip", f"{number(100 * facts.clipped_fraction, 2)} % of measurements"),
        ("Pedigree", facts.pedigree),
    ]


def references_used(one: ExposureSet) -> Table:
    """Return the table of the reference files that the steps used, by type."""
    used: dict[str, list[str]] = {}
    for _, ramp in one.ramps:
        for reftype, file in ramp.references.items():
            files = used.setdefault(reftype, [])
            name = file.removeprefix("crds://")
            if name not in files:
                files.append(name)
    lines = [(reftype, ", ".join(files)) for reftype, files in sorted(used.items())]
    none = ("none", "every step was done in the input")
    return Table(["Reference type", "File"], rows(*(lines or [none]), files=(1,)))


def steps(one: ExposureSet) -> Table:
    """Return the table of the steps: what was done, and the mean time of the exposures that ran it."""
    lines = []
    names = dict.fromkeys(step.name for _, ramp in one.ramps for step in ramp.steps)
    said = {"complete": "run", "already": "done in the input", "skipped": "skipped"}
    for name in names:
        steps = [step for _, ramp in one.ramps for step in ramp.steps if step.name == name]
        kinds = dict.fromkeys(step.status for step in steps)
        done = ", ".join(
            said[kind] if len(kinds) == 1 else f"{said[kind]} in {sum(step.status == kind for step in steps)}"
            for kind in kinds
        )
        took = [step.seconds for step in steps if step.status == "complete"]
        lines.append((name, done, f"{seconds(sum(took) / len(took))} an exposure" if took else "–"))
    for product, label in ((one.reference, "dark reference"), (one.noise, "noise of the set")):
        if product and product[0].timings:
            lines.append((label, "run", seconds(sum(product[0].timings.values()))))
    return Table(["Step", "What was done", "Time"], rows(*lines))


def noise_figures(facts: SetNoiseFacts) -> Iterator[Figure]:
    """Yield what is measured of a set's noise beside its headline numbers."""
    yield figure("CDS noise without common drifts", "e⁻", facts.cds_noise_median_removed)
    further = [
        ("Reset noise (kTC)", facts.ktc_noise),
        ("1/f noise common to all amplifiers", facts.correlated_noise),
        ("1/f noise of each amplifier's own", facts.uncorrelated_noise),
        ("White noise of one group", facts.white_noise),
        ("CDS noise of reference pixels", facts.reference_cds_noise),
    ]
    for name, found in further:
        if found is not None:
            yield figure(name, "e⁻", found)
    yield from _theory_terms(facts)
    yield figure("Science pixels with a jump", "%", facts.science_jump_pixel_percent)
    alone = number(facts.expected_false_positive_flags, 2)
    yield Figure(
        "Jump flags",
        measured(facts.jump_flags, facts.jump_flags_error),
        "",
        f"{alone} from noise alone",
        "not compared",
        "none",
    )


def _theory_terms(facts: SetNoiseFacts) -> Iterator[Figure]:
    """Yield the two terms of the fitted theory beside the channel's usual ones."""
    fit = facts.theory_fit
    if fit is None:
        return
    usual = f"{plain(fit.usual_p0)}, the channel's", f"{plain(fit.usual_p1)}, the channel's"
    named = (("p0", fit.p0, fit.p0_error, usual[0]), ("p1", fit.p1, fit.p1_error, usual[1]))
    for name, value, error, aim in named:
        said = "not compared" if value is not None else fit.said
        yield Figure(f"Theory's term {name}", measured(value, error), "e⁻", aim, said, "none")


def transients(series: Stability) -> Table | None:
    """Return the table of what follows a reset; None in products that hold none."""
    if not series.transients:
        return None
    lines = [
        [
            one.what,
            f"{measured(one.value, one.error)} {one.unit}" if one.value is not None else "–",
            f"{number(one.sigmas, 2)} sigma" if one.sigmas is not None else "–",
            in_words(one.said),
        ]
        for one in series.transients
    ]
    head = ["After a reset", "Above the rest", "In its errors", "In words"]
    return Table(head, rows(*lines), widths=(0.2, 0.18, 0.12, 0.5))


def noise_facts(facts: SetNoiseFacts) -> list[tuple[str, str]]:
    """Return what a set's noise says beside its headline numbers."""

    def each(values: Sequence[float]) -> str:
        return f"{', '.join(number(value) for value in values)} e⁻"

    return [
        ("Ramps", str(facts.ramps)),
        ("CDS noise by amplifier", each(facts.cds_noise_by_amplifier_e)),
        (
            "CDS noise without common drifts, by amplifier",
            each(facts.cds_noise_median_removed_by_amplifier_e),
        ),
        *(
            [("Reset noise by amplifier", each(facts.ktc_noise_by_amplifier_e))]
            if facts.ktc_noise_by_amplifier_e
            else []
        ),
        *(
            [("1/f noise of its own, by amplifier", each(facts.uncorrelated_noise_by_amplifier_e))]
            if facts.uncorrelated_noise_by_amplifier_e
            else []
        ),
        (
            "Pixels with a jump from noise alone",
            f"{number(facts.expected_false_positive_percent, 2)} % expected",
        ),
    ]


def drifts(series: Stability) -> Table:
    """Return the table of how much a set's figures drift, in units of the drift's own error."""

    def line(name: str, found: Trend | None, unit: str, per: str, dark: bool = False) -> list[str]:
        if found is None:
            return [name, "not enough integrations", "–", "–"]
        off = abs(found.slope) / found.slope_error if found.slope_error > 0 else math.nan
        return [
            name,
            f"{measured(found.slope, found.slope_error)} {unit} {per}",
            f"{number(found.scatter, 2)} {unit}",
            "the dark current itself" if dark else f"{number(off, 2)} sigma from none",
        ]

    lines = [
        line("Dark current", series.dark_rate_per_hour, RATE_UNIT, "an hour"),
        line("CDS noise", series.cds_noise_per_hour, "e⁻", "an hour"),
        *(
            line(f"First group, amplifier {n}", pedestal, "DN", "an hour")
            for n, pedestal in enumerate(series.amplifier_pedestal_per_hour, start=1)
        ),
        *(
            line(f"From group to group, amplifier {n}", ramp, "DN", "a second", dark=True)
            for n, ramp in enumerate(series.amplifier_ramp_per_second, start=1)
        ),
    ]
    return Table(
        ["Drift of", "Slope", "Scatter about the line", "Slope in its errors"],
        rows(*lines),
        widths=(0.3, 0.28, 0.2, 0.22),
    )
