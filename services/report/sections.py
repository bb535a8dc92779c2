"""One section of the report a set of exposures: its figures, tables and pictures."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydantic import TypeAdapter

from services.darkref.products import CONTRIBUTIONS, DARK_CURRENT_MAP
from services.noise.products import (
    CDS_MAP,
    PIXEL_RAMPS,
    PixelRamp,
)
from services.report import plots_jumps, plots_noise, plots_reference, plots_stability, tables
from services.report.exposure_sets import ExposureSet
from services.report.images import image
from services.report.style import Picture, styled
from services.report.wording import count, in_words
from services.summary_model import NoiseEntry, ReferenceEntry, Summary
from shared.configuration import ConfigurationKey
from shared.store.base import Store
from shared.store.manifest import Manifest

_RAMPS = TypeAdapter(list[PixelRamp])


@dataclass(frozen=True)
class Section:
    """What the template needs of one set."""

    anchor: str
    title: str
    configuration: str
    simulated: bool
    figures: list[tables.Figure]
    facts: list[tuple[str, str]]
    members: list[list[str]]
    reference_facts: list[tuple[str, str]]
    reference_verdict: str | None
    noise_verdict: str | None
    no_reference: str | None
    no_noise: str | None
    no_temporal: str | None
    reference_pictures: list[Picture]
    noise_facts: list[tuple[str, str]]
    notes: list[str]
    noise_pictures: list[Picture]
    jump_pictures: list[Picture]
    stability_facts: list[tuple[str, str]]
    stability_pictures: list[Picture]
    references_used: list[tuple[str, str]]
    steps: list[tuple[str, str, str]]


def section(store: Store, summary: Summary, one: ExposureSet, anchor: str) -> Section:
    """Read what a set's products hold and draw their pictures."""
    key = _key(one)
    reference = one.reference[1] if one.reference else None
    noise = one.noise[1] if one.noise else None
    no_reference = None if reference else _reason(summary.references, one, "no dark reference was built")
    no_noise = None if noise else _reason(summary.noise, one, "the noise of this set was not measured")
    with styled():
        return Section(
            anchor=anchor,
            title=_title(key),
            configuration=one.configuration,
            simulated=any(ramp.simulated for _, ramp in one.ramps),
            figures=list(tables.headline(reference, noise, no_reference, no_noise)),
            facts=tables.set_facts(one, key),
            members=list(tables.members(one)),
            reference_facts=tables.reference_facts(reference) if reference else [],
            reference_verdict=in_words(reference.verdict) if reference else None,
            noise_verdict=in_words(noise.verdict) if noise else None,
            no_reference=no_reference,
            no_noise=no_noise,
            no_temporal=noise.curve.temporal_refusal if noise else None,
            reference_pictures=list(_reference_pictures(store, one)),
            noise_facts=tables.noise_facts(noise) if noise else [],
            notes=[note for note in noise.notes if note != noise.curve.temporal_refusal] if noise else [],
            noise_pictures=list(_noise_pictures(store, one)),
            jump_pictures=list(_jump_pictures(store, one)),
            stability_facts=tables.stability_facts(noise.stability) if noise else [],
            stability_pictures=list(_stability_pictures(one, key)),
            references_used=tables.references_used(one),
            steps=list(tables.steps(one)),
        )


def _key(one: ExposureSet) -> ConfigurationKey:
    holders = [p[1].key for p in (one.reference, one.noise) if p] + [ramp.key for _, ramp in one.ramps]
    return holders[0]


def _title(key: ConfigurationKey) -> str:
    mask = "" if key.coronmsk == "NONE" else f" · {key.coronmsk}"
    return f"{key.detector} · {key.subarray}{mask} · {key.readpatt} · {count(key.ngroups, 'group')}"


def _reason(entries: Sequence[ReferenceEntry | NoiseEntry], one: ExposureSet, otherwise: str) -> str:
    for entry in entries:
        if entry.set_id is None and one.exposures & set(entry.exposure_ids):
            return entry.verdict
    return otherwise


def _reference_pictures(store: Store, one: ExposureSet) -> Iterator[Picture]:
    if not one.reference:
        return
    manifest, facts = one.reference
    if facts.mean_ramp_dn:
        yield plots_reference.mean_ramp(facts)
    pixels = image(store, manifest, DARK_CURRENT_MAP)
    if pixels is not None:
        yield plots_reference.dark_current_histogram(pixels, facts)
        yield plots_reference.dark_current_map(pixels, facts)
    left = image(store, manifest, CONTRIBUTIONS)
    if left is not None:
        yield plots_reference.contributions(left, facts)


def _noise_pictures(store: Store, one: ExposureSet) -> Iterator[Picture]:
    if not one.noise:
        return
    manifest, facts = one.noise
    if facts.curve.groups:
        yield plots_noise.effective_noise(facts)
    pixels = image(store, manifest, CDS_MAP)
    if pixels is not None:
        yield plots_noise.cds_map(pixels, facts)
        yield plots_noise.cds_histogram(pixels, facts)
    if len(facts.cds_noise_by_amplifier_e) > 1:
        yield plots_noise.cds_by_amplifier(facts)


def _jump_pictures(store: Store, one: ExposureSet) -> Iterator[Picture]:
    if not one.jumps:
        return
    yield plots_jumps.flags_per_group([facts for _, facts in one.jumps])
    ramps = [(facts.exposure_id, _pixel_ramps(store, manifest)) for manifest, facts in one.jumps]
    exposure, chosen = max(ramps, key=lambda r: sum(1 for ramp in r[1] if ramp.jumps))
    # Noise writes the grid's nine first, then the pixel in its middle, or those that were asked for.
    grid, singles = chosen[:9], chosen[9:]
    for ramp in singles:
        yield plots_jumps.single_ramp(ramp, exposure)
    if grid:
        yield plots_jumps.ramp_grid(grid, exposure)


def _pixel_ramps(store: Store, manifest: Manifest) -> list[PixelRamp]:
    return _RAMPS.validate_json(store.get(manifest.object(PIXEL_RAMPS).key))


def _stability_pictures(one: ExposureSet, key: ConfigurationKey) -> Iterator[Picture]:
    noise = one.noise[1] if one.noise else None
    series = noise.stability if noise else plots_stability.of_exposures([facts for _, facts in one.jumps])
    if not series.integration_mjd:
        return
    yield plots_stability.within_integrations(series, key.group_time)
    if len(series.integration_mjd) == 1:
        return
    yield plots_stability.first_groups(series)
    rates = plots_stability.dark_rates(series, one.reference[1] if one.reference else None)
    if rates:
        yield rates
    yield plots_stability.cds_noise(series, noise.cds_noise if noise else None)
