"""The page of one set of exposures: its figures, tables and plots, chapter by chapter."""

import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from pydantic import TypeAdapter

from nircam_darks.report.content import (
    Block,
    Chapter,
    Paragraph,
    Pictures,
    Properties,
    SetEntry,
    SetPage,
    figures_table,
)
from nircam_darks.report.exposure_sets import ExposureSet
from nircam_darks.report.plots import events as plots_events
from nircam_darks.report.plots import jumps as plots_jumps
from nircam_darks.report.plots import noise as plots_noise
from nircam_darks.report.plots import pixels as plots_pixels
from nircam_darks.report.plots import reference as plots_reference
from nircam_darks.report.plots import spectrum as plots_spectrum
from nircam_darks.report.plots import stability as plots_stability
from nircam_darks.report.plots.images import image, quality
from nircam_darks.report.plots.style import Picture
from nircam_darks.report.summary import NoiseEntry, ReferenceEntry, Summary
from nircam_darks.report.tables import emulated
from nircam_darks.report.tables import events as event_tables
from nircam_darks.report.tables import reference as reference_tables
from nircam_darks.report.tables import set as tables
from nircam_darks.report.text import count, with_signs
from shared.catalog.products import read_with_nan
from shared.errors import EnvironmentFault, TransientError
from shared.nircam.configuration import ConfigurationKey
from shared.products.noise import (
    CDS_MAP,
    EMULATED_NOISE,
    NOISE_SPECTRUM,
    PIXEL_RAMPS,
    EmulatedPattern,
    NoiseSpectrum,
    PixelRamp,
    SetNoiseResults,
)
from shared.products.reference import (
    CONTRIBUTIONS,
    DARK_CURRENT_MAP,
    DIFFERENCE_MAP,
    ReferenceResults,
)
from shared.store.base import Store
from shared.store.manifest import Manifest

_T = TypeVar("_T")

_RAMPS = TypeAdapter(list[PixelRamp])
_SPECTRUM = TypeAdapter(NoiseSpectrum)
_PATTERNS = TypeAdapter(list[EmulatedPattern])

_logger = logging.getLogger(__name__)

#: Characters of an error that a page shows; the log has all of it.
_LONGEST_REASON = 300
#: This many digits of a set's id distinguish it from other sets of the same configuration.
_ID_DIGITS = 10


def set_entry(exposure_set: ExposureSet) -> SetEntry:
    """Return the entry of a set in the index; nothing is drawn, and only manifests are read."""
    reference = exposure_set.reference[1] if exposure_set.reference else None
    noise = exposure_set.noise[1] if exposure_set.noise else None
    return SetEntry(
        name=_name(exposure_set),
        title=_title(_key(exposure_set)),
        simulated=any(ramp.simulated for _, ramp in exposure_set.ramps),
        figures=list(tables.headline(reference, noise, exposure_set.sign_off)),
    )


def set_page(store: Store, summary: Summary, exposure_set: ExposureSet) -> SetPage:
    """Read the products of a set and draw its page; call inside `style.styled`.

    Parameters
    ----------
    store : Store
    summary : Summary
        Says why a product is missing.
    exposure_set : ExposureSet

    Returns
    -------
    SetPage
        Without the chapters that would be empty. A chapter that cannot be made says so in its place.
    """
    key = _key(exposure_set)
    entry = set_entry(exposure_set)
    makers: dict[str, Callable[[], Iterable[Block]]] = {
        "": lambda: _status_blocks(exposure_set),
        "Verdicts": lambda: [figures_table(entry.figures)],
        "The set": lambda: [Properties(tables.set_properties(exposure_set, key))],
        "Exposures of the set": lambda: [
            tables.exposures_table(exposure_set),
            *tables.exposure_remarks(exposure_set),
        ],
        "Dark reference": lambda: _reference_blocks(store, summary, exposure_set),
        "Noise": lambda: _noise_blocks(store, summary, exposure_set),
        "Jumps": lambda: _jump_blocks(store, exposure_set),
        "Stability": lambda: _stability_blocks(exposure_set, key),
        "Steps and reference files": lambda: [
            tables.steps_table(exposure_set),
            tables.references_table(exposure_set),
        ],
    }
    chapters = [_chapter(title, make, exposure_set.configuration) for title, make in makers.items()]
    return SetPage(entry, exposure_set.configuration, [chapter for chapter in chapters if chapter.blocks])


def _chapter(title: str, make: Callable[[], Iterable[Block]], configuration: str) -> Chapter:
    """Return a chapter; one that cannot be made says why, and leaves the rest of the report as it is."""
    try:
        return Chapter(title, list(make()))
    except (EnvironmentFault, TransientError, MemoryError):
        # The machine's fault or the store's: it is cured there, and hits every other page as well.
        raise
    except Exception as error:
        _logger.exception("chapter %r of the report on %s could not be made", title, configuration)
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return Chapter(
            title,
            [
                Paragraph(
                    f"This chapter could not be made ({reason[:_LONGEST_REASON]}). The products are in the "
                    "store as they are; please report this with their manifests.",
                    weight="missing",
                )
            ],
        )


def _key(exposure_set: ExposureSet) -> ConfigurationKey:
    products = [product[1] for product in (exposure_set.reference, exposure_set.noise) if product]
    return next(product.key for product in [*products, *(ramp for _, ramp in exposure_set.ramps)])


def _name(exposure_set: ExposureSet) -> str:
    products = [product[1] for product in (exposure_set.reference, exposure_set.noise) if product]
    set_id = products[0].set_id[:_ID_DIGITS] if products else ""
    return re.sub(r"[^A-Za-z0-9_-]", "-", f"{exposure_set.configuration}-{set_id or 'unbuilt'}")


def _title(key: ConfigurationKey) -> str:
    mask = "" if key.coronmsk == "NONE" else f" · {key.coronmsk}"
    return f"{key.detector} · {key.subarray}{mask} · {key.readpatt} · {count(key.ngroups, 'group')}"


def _status_blocks(exposure_set: ExposureSet) -> Iterator[Block]:
    if exposure_set.reference is not None:
        yield from reference_tables.status(exposure_set.reference[1], exposure_set.sign_off)


def _missing(
    entries: Sequence[ReferenceEntry | NoiseEntry], exposure_set: ExposureSet, otherwise: str
) -> Paragraph:
    """Return the reason that the summary gives for a product that is missing."""
    for entry in entries:
        if entry.set_id is None and exposure_set.exposures & set(entry.exposure_ids):
            return Paragraph(entry.verdict, weight="missing")
    return Paragraph(otherwise, weight="missing")


def _reference_blocks(store: Store, summary: Summary, exposure_set: ExposureSet) -> Iterator[Block]:
    if exposure_set.reference is None:
        yield _missing(summary.references, exposure_set, "no dark reference was built")
        return
    manifest, reference = exposure_set.reference
    yield Paragraph(f"{with_signs(reference.verdict)}.", "Dark current:")
    yield Properties(tables.reference_properties(reference))
    yield from reference_tables.blocks(reference, exposure_set.sign_off)
    yield Pictures(list(_reference_pictures(store, manifest, reference)))


def _reference_pictures(store: Store, manifest: Manifest, reference: ReferenceResults) -> Iterator[Picture]:
    if reference.mean_ramp_dn:
        yield plots_reference.mean_ramp(reference)
    dark_current = image(store, manifest, DARK_CURRENT_MAP)
    if dark_current is not None:
        yield plots_reference.dark_current_histogram(dark_current, reference)
        yield plots_reference.dark_current_map(dark_current, reference)
    if len(reference.amplifier_dark_current_e_per_ks) > 1:
        yield plots_reference.dark_current_by_amplifier(reference)
    change = image(store, manifest, DIFFERENCE_MAP)
    if change is not None:
        yield plots_reference.difference_map(change, reference)
    if reference.flagged_pixels is not None:
        flags = quality(store, manifest, reference.file)
        if flags is not None:
            yield plots_pixels.bad_pixels(flags, reference)
            yield plots_pixels.unreliable_pixels(flags, reference)
    measurements = image(store, manifest, CONTRIBUTIONS)
    if measurements is not None:
        yield plots_reference.contributions(measurements, reference)


def _noise_blocks(store: Store, summary: Summary, exposure_set: ExposureSet) -> Iterator[Block]:
    if exposure_set.noise is None:
        yield _missing(summary.noise, exposure_set, "the noise of this set was not measured")
        return
    manifest, noise = exposure_set.noise
    refusal = noise.curve.temporal_refusal
    if refusal:
        yield Paragraph(f"{refusal[:1].upper()}{refusal[1:]}.", weight="missing")
    yield Paragraph(f"{with_signs(noise.verdict)}.", "Verdict:")
    yield figures_table(list(tables.noise_figures(noise)))
    yield Properties(tables.noise_properties(noise))
    patterns = _read(_PATTERNS, store, manifest, EMULATED_NOISE) or []
    if patterns:
        yield emulated.emulated_table(patterns)
    yield Pictures(list(_noise_pictures(store, manifest, noise, patterns)))
    notes = [note for note in noise.notes if note != refusal]
    if notes:
        sentences = " ".join(note if note.endswith(".") else f"{note}." for note in notes)
        yield Paragraph(sentences, "Method:", weight="note")


def _noise_pictures(
    store: Store, manifest: Manifest, noise: SetNoiseResults, patterns: Sequence[EmulatedPattern]
) -> Iterator[Picture]:
    if noise.curve.groups:
        yield plots_noise.effective_noise(noise)
        curves = emulated.emulated_curves(patterns, noise)
        if curves:
            yield curves
    power = _read(_SPECTRUM, store, manifest, NOISE_SPECTRUM)
    spectrum = plots_spectrum.spectrum(power) if power else None
    if spectrum:
        yield spectrum
    cds_noise = image(store, manifest, CDS_MAP)
    if cds_noise is not None:
        yield plots_noise.cds_map(cds_noise, noise)
        yield plots_noise.cds_histogram(cds_noise, noise)
    if len(noise.cds_noise_by_amplifier_e) > 1:
        yield plots_noise.cds_by_amplifier(noise)


def _jump_blocks(store: Store, exposure_set: ExposureSet) -> Iterator[Block]:
    exposures = [exposure for _, exposure in exposure_set.jumps]
    events = [exposure.events for exposure in exposures if exposure.events is not None]
    further = list(tables.noise_figures(exposure_set.noise[1], "jumps")) if exposure_set.noise else []
    if events:
        yield figures_table([*event_tables.event_figures(events), *further])
        yield event_tables.event_table(exposures)
        notes = dict.fromkeys(note for each in events for note in each.notes)
        if notes:
            yield Paragraph(" ".join(notes), weight="note")
    if exposures:
        yield Pictures(list(_jump_pictures(store, exposure_set)))


def _jump_pictures(store: Store, exposure_set: ExposureSet) -> Iterator[Picture]:
    exposures = [exposure for _, exposure in exposure_set.jumps]
    yield plots_jumps.flags_per_group(exposures)
    events = [exposure.events for exposure in exposures if exposure.events is not None]
    if events:
        charges = plots_events.charges(events)
        if charges:
            yield charges
        yield plots_events.rates(events)
    ramps = [
        (exposure.exposure_id, _read(_RAMPS, store, manifest, PIXEL_RAMPS) or [])
        for manifest, exposure in exposure_set.jumps
    ]
    exposure_id, with_most_jumps = max(ramps, key=lambda pair: sum(1 for ramp in pair[1] if ramp.jumps))
    # The noise service writes the nine ramps of the grid first, then the central pixel or those requested.
    grid, single = with_most_jumps[:9], with_most_jumps[9:]
    for ramp in single:
        yield plots_jumps.single_ramp(ramp, exposure_id)
    if grid:
        yield plots_jumps.ramp_grid(grid, exposure_id)


def _stability_blocks(exposure_set: ExposureSet, key: ConfigurationKey) -> Iterator[Block]:
    if exposure_set.noise:
        stability = exposure_set.noise[1].stability
        yield tables.drift_table(stability)
        transients = tables.transients_table(stability)
        if transients:
            yield transients
    pictures = list(_stability_pictures(exposure_set, key))
    if pictures:
        yield Pictures(pictures)


def _stability_pictures(exposure_set: ExposureSet, key: ConfigurationKey) -> Iterator[Picture]:
    if exposure_set.noise:
        series = exposure_set.noise[1].stability
        cds_noise = exposure_set.noise[1].cds_noise
    else:
        series = plots_stability.of_exposures([exposure for _, exposure in exposure_set.jumps])
        cds_noise = None
    if not series.integration_mjd:
        return
    reference = exposure_set.reference[1] if exposure_set.reference else None
    yield plots_stability.within_integrations(series, key.group_time, reference)
    if len(series.integration_mjd) == 1:
        return
    yield plots_stability.first_group_levels(series)
    rates = plots_stability.dark_rates(series, reference)
    if rates:
        yield rates
    yield plots_stability.cds_noise(series, cds_noise)


def _read(adapter: TypeAdapter[_T], store: Store, manifest: Manifest, name: str) -> _T | None:
    """Return an object of a product, parsed from JSON; None if the product does not have it."""
    try:
        entry = manifest.object(name)
    except KeyError:
        return None
    return read_with_nan(adapter.validate_python, json.loads(store.get(entry.key)))
