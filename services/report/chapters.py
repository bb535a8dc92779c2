"""The page of a set of exposures: its figures, tables and pictures, chapter by chapter."""

import re
from collections.abc import Iterator, Sequence

from pydantic import TypeAdapter

from services.darkref.products import CONTRIBUTIONS, DARK_CURRENT_MAP
from services.noise.emulated_products import EMULATED_NOISE, EmulatedPattern
from services.noise.products import CDS_MAP, NOISE_SPECTRUM, PIXEL_RAMPS, PixelRamp
from services.noise.set_products import NoiseSpectrum
from services.report import (
    emulated,
    event_tables,
    plots_events,
    plots_jumps,
    plots_noise,
    plots_pixels,
    plots_reference,
    plots_spectrum,
    plots_stability,
    reference_tables,
    tables,
)
from services.report.content import (
    Block,
    Chapter,
    Facts,
    Pictures,
    SetEntry,
    SetPage,
    Words,
    figures_table,
)
from services.report.exposure_sets import ExposureSet
from services.report.images import image, quality
from services.report.style import Picture
from services.report.wording import count, in_words
from services.summary_model import NoiseEntry, ReferenceEntry, Summary
from shared.configuration import ConfigurationKey
from shared.store.base import Store
from shared.store.manifest import Manifest

_RAMPS = TypeAdapter(list[PixelRamp])
_PATTERNS = TypeAdapter(list[EmulatedPattern])

#: Digits of a set's id that tell it apart from the others of its configuration.
_ID_DIGITS = 10


def set_entry(summary: Summary, one: ExposureSet) -> SetEntry:
    """Return what the index says of a set; nothing is drawn, and nothing but its facts is read."""
    reference = one.reference[1] if one.reference else None
    noise = one.noise[1] if one.noise else None
    missing = _no_reference(summary, one), _no_noise(summary, one)
    return SetEntry(
        name=_name(one),
        title=_title(_key(one)),
        simulated=any(ramp.simulated for _, ramp in one.ramps),
        figures=list(tables.headline(reference, noise, *missing)),
    )


def set_page(store: Store, summary: Summary, one: ExposureSet) -> SetPage:
    """Read what a set's products hold and make its page; call inside `style.styled`."""
    key, entry = _key(one), set_entry(summary, one)
    chapters = [
        Chapter("Verdicts", [figures_table(entry.figures)]),
        Chapter("The set", [Facts(tables.set_facts(one, key))]),
        Chapter("Exposures of the set", [tables.members(one)]),
        Chapter("Dark reference", list(_reference_blocks(store, one, _no_reference(summary, one)))),
        Chapter("Noise", list(_noise_blocks(store, one, _no_noise(summary, one)))),
        Chapter("Jumps", list(_jump_blocks(store, one))),
        Chapter("Stability", list(_stability_blocks(one, key))),
        Chapter("Steps and reference files", [tables.steps(one), tables.references_used(one)]),
    ]
    return SetPage(entry, one.configuration, [chapter for chapter in chapters if chapter.blocks])


def _no_reference(summary: Summary, one: ExposureSet) -> str | None:
    return None if one.reference else _reason(summary.references, one, "no dark reference was built")


def _no_noise(summary: Summary, one: ExposureSet) -> str | None:
    return None if one.noise else _reason(summary.noise, one, "the noise of this set was not measured")


def _key(one: ExposureSet) -> ConfigurationKey:
    holders = [p[1].key for p in (one.reference, one.noise) if p] + [ramp.key for _, ramp in one.ramps]
    return holders[0]


def _name(one: ExposureSet) -> str:
    of_set = next((product[1].set_id for product in (one.reference, one.noise) if product), "")
    return re.sub(r"[^A-Za-z0-9_-]", "-", f"{one.configuration}-{of_set[:_ID_DIGITS] or 'unbuilt'}")


def _title(key: ConfigurationKey) -> str:
    mask = "" if key.coronmsk == "NONE" else f" · {key.coronmsk}"
    return f"{key.detector} · {key.subarray}{mask} · {key.readpatt} · {count(key.ngroups, 'group')}"


def _reason(entries: Sequence[ReferenceEntry | NoiseEntry], one: ExposureSet, otherwise: str) -> str:
    for entry in entries:
        if entry.set_id is None and one.exposures & set(entry.exposure_ids):
            return entry.verdict
    return otherwise


def _reference_blocks(store: Store, one: ExposureSet, missing: str | None) -> Iterator[Block]:
    if missing is not None or not one.reference:
        yield Words(missing or "", weight="missing")
        return
    manifest, facts = one.reference
    yield Words(f"{in_words(facts.verdict)}.", "Dark current:")
    yield Facts(tables.reference_facts(facts))
    yield from reference_tables.blocks(facts)
    yield Pictures(list(_reference_pictures(store, manifest, one)))


def _reference_pictures(store: Store, manifest: Manifest, one: ExposureSet) -> Iterator[Picture]:
    assert one.reference
    facts = one.reference[1]
    if facts.mean_ramp_dn:
        yield plots_reference.mean_ramp(facts)
    pixels = image(store, manifest, DARK_CURRENT_MAP)
    if pixels is not None:
        yield plots_reference.dark_current_histogram(pixels, facts)
        yield plots_reference.dark_current_map(pixels, facts)
    flagged = quality(store, manifest, facts.file) if facts.flagged_pixels is not None else None
    if flagged is not None:
        yield plots_pixels.bad_pixels(flagged, facts)
    left = image(store, manifest, CONTRIBUTIONS)
    if left is not None:
        yield plots_reference.contributions(left, facts)


def _noise_blocks(store: Store, one: ExposureSet, missing: str | None) -> Iterator[Block]:
    if missing is not None or not one.noise:
        yield Words(missing or "", weight="missing")
        return
    manifest, facts = one.noise
    refusal = facts.curve.temporal_refusal
    if refusal:
        yield Words(f"{refusal[:1].upper()}{refusal[1:]}.", weight="missing")
    yield Words(f"{in_words(facts.verdict)}.", "Verdict:")
    yield figures_table(list(tables.noise_figures(facts)))
    yield Facts(tables.noise_facts(facts))
    patterns = _patterns(store, manifest)
    if patterns:
        yield emulated.emulated_table(patterns)
    yield Pictures(list(_noise_pictures(store, manifest, one, patterns)))
    notes = [note for note in facts.notes if note != refusal]
    if notes:
        said = " ".join(note if note.endswith(".") else f"{note}." for note in notes)
        yield Words(f"How these were made: {said}", weight="note")


def _noise_pictures(
    store: Store, manifest: Manifest, one: ExposureSet, patterns: Sequence[EmulatedPattern]
) -> Iterator[Picture]:
    assert one.noise
    facts = one.noise[1]
    if facts.curve.groups:
        yield plots_noise.effective_noise(facts)
        curves = emulated.emulated_curves(patterns, facts)
        if curves:
            yield curves
    found = _spectrum(store, manifest)
    drawn = plots_spectrum.spectrum(found) if found else None
    if drawn:
        yield drawn
    pixels = image(store, manifest, CDS_MAP)
    if pixels is not None:
        yield plots_noise.cds_map(pixels, facts)
        yield plots_noise.cds_histogram(pixels, facts)
    if len(facts.cds_noise_by_amplifier_e) > 1:
        yield plots_noise.cds_by_amplifier(facts)


def _jump_blocks(store: Store, one: ExposureSet) -> Iterator[Block]:
    events = [facts.events for _, facts in one.jumps if facts.events is not None]
    if events:
        yield figures_table(list(event_tables.event_figures(events)))
        yield event_tables.event_table([facts for _, facts in one.jumps])
        notes = dict.fromkeys(note for found in events for note in found.notes)
        if notes:
            yield Words(" ".join(notes), weight="note")
    if one.jumps:
        yield Pictures(list(_jump_pictures(store, one)))


def _jump_pictures(store: Store, one: ExposureSet) -> Iterator[Picture]:
    yield plots_jumps.flags_per_group([facts for _, facts in one.jumps])
    events = [facts.events for _, facts in one.jumps if facts.events is not None]
    if events:
        drawn = plots_events.charges(events)
        if drawn:
            yield drawn
        yield plots_events.rates(events)
    ramps = [(facts.exposure_id, _pixel_ramps(store, manifest)) for manifest, facts in one.jumps]
    exposure, chosen = max(ramps, key=lambda r: sum(1 for ramp in r[1] if ramp.jumps))
    # Noise writes the grid's nine first, then the pixel in its middle, or those that were asked for.
    grid, singles = chosen[:9], chosen[9:]
    for ramp in singles:
        yield plots_jumps.single_ramp(ramp, exposure)
    if grid:
        yield plots_jumps.ramp_grid(grid, exposure)


def _patterns(store: Store, manifest: Manifest) -> list[EmulatedPattern]:
    try:
        return _PATTERNS.validate_json(store.get(manifest.object(EMULATED_NOISE).key))
    except KeyError:
        return []


def _spectrum(store: Store, manifest: Manifest) -> NoiseSpectrum | None:
    try:
        return NoiseSpectrum.model_validate_json(store.get(manifest.object(NOISE_SPECTRUM).key))
    except KeyError:
        return None


def _pixel_ramps(store: Store, manifest: Manifest) -> list[PixelRamp]:
    return _RAMPS.validate_json(store.get(manifest.object(PIXEL_RAMPS).key))


def _stability_blocks(one: ExposureSet, key: ConfigurationKey) -> Iterator[Block]:
    if one.noise:
        yield tables.drifts(one.noise[1].stability)
        after_reset = tables.transients(one.noise[1].stability)
        if after_reset:
            yield after_reset
    pictures = list(_stability_pictures(one, key))
    if pictures:
        yield Pictures(pictures)


def _stability_pictures(one: ExposureSet, key: ConfigurationKey) -> Iterator[Picture]:
    noise = one.noise[1] if one.noise else None
    series = noise.stability if noise else plots_stability.of_exposures([facts for _, facts in one.jumps])
    if not series.integration_mjd:
        return
    reference = one.reference[1] if one.reference else None
    yield plots_stability.within_integrations(series, key.group_time, reference)
    if len(series.integration_mjd) == 1:
        return
    yield plots_stability.first_groups(series)
    rates = plots_stability.dark_rates(series, reference)
    if rates:
        yield rates
    yield plots_stability.cds_noise(series, noise.cds_noise if noise else None)
