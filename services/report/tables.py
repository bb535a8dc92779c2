"""The numbers of one set as the report's tables have them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from services.darkref.products import ReferenceFacts
from services.noise.products import Measured, SetNoiseFacts, Stability, Trend
from services.report.exposure_sets import ExposureSet
from services.report.plots_reference import RATE_UNIT
from services.report.wording import (
    Tone,
    count,
    expected,
    measured,
    mjd,
    number,
    seconds,
    short_verdict,
    span,
    tone,
    when,
)
from shared.configuration import ConfigurationKey


@dataclass(frozen=True)
class Figure:
    """One headline number as the page shows it, beside what is expected of it."""

    name: str
    value: str
    unit: str
    expected: str
    verdict: str
    tone: Tone


def headline(
    reference: ReferenceFacts | None,
    noise: SetNoiseFacts | None,
    no_reference: str | None,
    no_noise: str | None,
) -> Iterator[Figure]:
    """Yield the five figures of the verdict table; those that were not measured say why."""
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
            continue
        yield Figure(
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


def members(one: ExposureSet) -> Iterator[list[str]]:
    """Yield a row of the table of exposures for each."""
    jumps = {facts.exposure_id: facts for _, facts in one.jumps}
    for _, ramp in one.ramps:
        jump = jumps.get(ramp.exposure_id)
        yield [
            ramp.file,
            when(mjd(ramp.start_mjd)).removesuffix(" UTC"),
            str(ramp.integrations),
            f"{number(100 * ramp.flagged_fraction, 2)} %",
            f"{jump.science_jump_flags:,}" if jump else "–",
            f"{number(jump.science_jump_pixel_percent)} %" if jump else "–",
            ramp.persistence_from or "none",
        ]


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


def references_used(one: ExposureSet) -> list[tuple[str, str]]:
    """Return the reference files that the steps used, by type."""
    used: dict[str, list[str]] = {}
    for _, ramp in one.ramps:
        for reftype, file in ramp.references.items():
            files = used.setdefault(reftype, [])
            name = file.removeprefix("crds://")
            if name not in files:
                files.append(name)
    return [(reftype, ", ".join(files)) for reftype, files in sorted(used.items())]


def steps(one: ExposureSet) -> Iterator[tuple[str, str, str]]:
    """Yield name, what was done, and time of each step; times are means over the exposures that ran it."""
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
        yield name, done, f"{seconds(sum(took) / len(took))} an exposure" if took else "–"
    for product, label in ((one.reference, "dark reference"), (one.noise, "noise of the set")):
        if product and product[0].timings:
            yield label, "run", seconds(sum(product[0].timings.values()))


def noise_facts(facts: SetNoiseFacts) -> list[tuple[str, str]]:
    """Return what a set's noise says beside its headline numbers."""

    def each(values: Sequence[float]) -> str:
        return f"{', '.join(number(value) for value in values)} e⁻"

    apart, hit = facts.cds_noise_median_removed, facts.science_jump_pixel_percent
    return [
        ("Ramps", str(facts.ramps)),
        ("CDS noise by amplifier", each(facts.cds_noise_by_amplifier_e)),
        ("CDS noise without common drifts", f"{measured(apart.value, apart.error)} e⁻"),
        ("The same by amplifier", each(facts.cds_noise_median_removed_by_amplifier_e)),
        ("Jump flags", measured(facts.jump_flags, facts.jump_flags_error)),
        ("Jump flags from noise alone", f"{number(facts.expected_false_positive_flags, 2)} expected"),
        ("Science pixels with a jump", f"{measured(hit.value, hit.error)} %, {short_verdict(hit.verdict)}"),
        (
            "Pixels with a jump from noise alone",
            f"{number(facts.expected_false_positive_percent, 2)} % expected",
        ),
    ]


def stability_facts(series: Stability) -> list[tuple[str, str]]:
    """Return how much a set's figures drift."""

    def drift(found: Trend | None, unit: str, per: str) -> str:
        if found is None:
            return "not enough integrations"
        slope = measured(found.slope, found.slope_error)
        return f"{slope} {unit} {per}, scatter {number(found.scatter, 2)} {unit}"

    return [
        ("Drift of the dark current", drift(series.dark_rate_per_hour, RATE_UNIT, "an hour")),
        ("Drift of the CDS noise", drift(series.cds_noise_per_hour, "e⁻", "an hour")),
        *(
            (f"Drift of the first group, amplifier {n}", drift(pedestal, "DN", "an hour"))
            for n, pedestal in enumerate(series.amplifier_pedestal_per_hour, start=1)
        ),
        *(
            (f"Slope within integrations, amplifier {n}", drift(ramp, "DN", "a second"))
            for n, ramp in enumerate(series.amplifier_ramp_per_second, start=1)
        ),
    ]
