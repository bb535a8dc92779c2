"""The products of a run, grouped by the set of exposures they belong to."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from shared.catalog.products import RunProducts
from shared.products.noise import ExposureNoiseResults, SetNoiseResults
from shared.products.ramp import RampMetadata
from shared.products.reference import ReferenceResults
from shared.products.sign_off import SignOff
from shared.store.manifest import Manifest


@dataclass
class ExposureSet:
    """The exposures of one set, with everything made from them.

    Attributes
    ----------
    configuration : str
        Slug of the configuration key.
    exposures : frozenset of str
        Exposure ids.
    ramps : list of (Manifest, RampMetadata)
    reference : (Manifest, ReferenceResults) or None
        None if no dark reference was built.
    sign_off : SignOff or None
        Of a reference that was held, and that a person accepted.
    noise : (Manifest, SetNoiseResults) or None
        None if the noise of the set was not measured.
    jumps : list of (Manifest, ExposureNoiseResults)
        The noise and jumps of each exposure, ordered by time.
    """

    configuration: str
    exposures: frozenset[str]
    ramps: list[tuple[Manifest, RampMetadata]] = field(default_factory=list)
    reference: tuple[Manifest, ReferenceResults] | None = None
    noise: tuple[Manifest, SetNoiseResults] | None = None
    jumps: list[tuple[Manifest, ExposureNoiseResults]] = field(default_factory=list)
    sign_off: SignOff | None = None

    def holds(self, product: RampMetadata | ExposureNoiseResults) -> bool:
        """Return whether a product of one exposure belongs to the set."""
        return product.configuration == self.configuration and product.exposure_id in self.exposures


def exposure_sets(products: RunProducts) -> list[ExposureSet]:
    """Group the products of a run by set, ordered by configuration and time.

    The exposures of one configuration that are part of no set form a group of their own.
    """
    sets: dict[tuple[str, frozenset[str]], ExposureSet] = {}

    def set_of(configuration: str, exposures: Sequence[str]) -> ExposureSet:
        ids = frozenset(exposures)
        return sets.setdefault((configuration, ids), ExposureSet(configuration, ids))

    for manifest, reference in products.references:
        of_reference = set_of(reference.configuration, reference.exposures)
        of_reference.reference = manifest, reference
        of_reference.sign_off = products.sign_offs.get(manifest.path)
    for manifest, noise in products.set_noise:
        set_of(noise.configuration, noise.exposures).noise = manifest, noise
    covered = {(configuration, exposure) for configuration, ids in sets for exposure in ids}
    in_no_set: dict[str, list[str]] = {}
    for _, ramp in products.ramps:
        if (ramp.configuration, ramp.exposure_id) not in covered:
            in_no_set.setdefault(ramp.configuration, []).append(ramp.exposure_id)
    for configuration, exposures in in_no_set.items():
        set_of(configuration, exposures)
    for exposure_set in sets.values():
        exposure_set.ramps = [pair for pair in products.ramps if exposure_set.holds(pair[1])]
        exposure_set.jumps = sorted(
            (pair for pair in products.exposure_noise if exposure_set.holds(pair[1])),
            key=lambda pair: pair[1].integration_mjd[:1],
        )
    return sorted(sets.values(), key=lambda s: (s.configuration, s.ramps[0][1].start_mjd if s.ramps else 0.0))
