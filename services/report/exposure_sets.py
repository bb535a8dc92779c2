"""The products of a run, sorted by the set of exposures that they belong to."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from services.darkref.products import ReferenceFacts
from services.ingest.products import RampFacts
from services.noise.products import ExposureNoiseFacts, SetNoiseFacts
from services.report.collect import RunProducts
from shared.store.manifest import Manifest


@dataclass
class ExposureSet:
    """The exposures of one set, with what was made from them."""

    configuration: str
    exposures: frozenset[str]
    ramps: list[tuple[Manifest, RampFacts]] = field(default_factory=list)
    reference: tuple[Manifest, ReferenceFacts] | None = None
    noise: tuple[Manifest, SetNoiseFacts] | None = None
    jumps: list[tuple[Manifest, ExposureNoiseFacts]] = field(default_factory=list)


def exposure_sets(products: RunProducts) -> list[ExposureSet]:
    """Sort the products of a run by set; exposures of which no set was made form one of their own."""
    sets: dict[tuple[str, frozenset[str]], ExposureSet] = {}

    def of(configuration: str, exposures: Sequence[str]) -> ExposureSet:
        ids = frozenset(exposures)
        return sets.setdefault((configuration, ids), ExposureSet(configuration, ids))

    for manifest, reference in products.references:
        of(reference.configuration, reference.exposures).reference = manifest, reference
    for manifest, noise in products.set_noise:
        of(noise.configuration, noise.exposures).noise = manifest, noise
    covered = {(configuration, exposure) for configuration, ids in sets for exposure in ids}
    left: dict[str, list[str]] = {}
    for _, ramp in products.ramps:
        if (ramp.configuration, ramp.exposure_id) not in covered:
            left.setdefault(ramp.configuration, []).append(ramp.exposure_id)
    for configuration, exposures in left.items():
        of(configuration, exposures)
    for one in sets.values():
        one.ramps = [p for p in products.ramps if _in(one, p[1])]
        one.jumps = sorted(
            (p for p in products.exposure_noise if _in(one, p[1])), key=lambda p: p[1].integration_mjd[:1]
        )
    return sorted(sets.values(), key=lambda s: (s.configuration, s.ramps[0][1].start_mjd if s.ramps else 0.0))


def _in(one: ExposureSet, facts: RampFacts | ExposureNoiseFacts) -> bool:
    return facts.configuration == one.configuration and facts.exposure_id in one.exposures
