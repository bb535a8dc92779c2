"""Which file of an exposure counts, where it is delivered more than once.

The archive delivers a file again when its header was mended, or when its pixels were made anew; people keep
the raw file of an exposure beside what jwst made of it. Every ramp records its *revision*, the digest of the
pixels and of the header's values that the calibration uses, the DATE of its file, and how many steps the file
had gone through. A further file of the exposure

- of the same revision changes nothing: only cards were changed that the calibration does not use;
- with more steps done, or with an earlier DATE, stands aside;
- else is calibrated, and its ramp supersedes the other: it is a member of the sets formed from then on.

Nothing but the ramps in the store decides, so the order in which files arrive does not matter, except where
raw files have the same DATE: then the last to arrive counts (`shared.products.ramp.counting_ramps`).
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.ingest.plan import plan_like
from services.ingest.sets import made_by
from services.ingest.steps import PROVENANCE, STEPS, completed
from shared.catalog.products import StoredProduct, walk
from shared.nircam.configuration import KEYWORDS
from shared.products.ramp import (
    EXPOSURE_ROLE,
    RampDelivery,
    RampMetadata,
    SupersededRamp,
    counting_ramps,
)
from shared.ramps.ramp import Ramp
from shared.settings.stage import StageSettings
from shared.store.base import Store
from shared.store.manifest import Manifest

#: Values of the primary header that the steps, CRDS, the sets and PEDIGREE of the products depend on.
_USED = (
    *KEYWORDS.values(),
    *("NINTS", "TGROUP", "FASTAXIS", "SLOWAXIS", "EXPSTART", "EXPEND", "DATE-OBS", "TIME-OBS", "PEDIGREE"),
    *("INSTRUME", "CHANNEL", "MODULE", "FILTER", "PUPIL", "S_GRPSCL", *STEPS.values()),
)
#: What the steps read of a file besides its header.
_DATA = ("SCI", "PIXELDQ", "GROUPDQ", "INT_TIMES")


def revision_of(ramp: Ramp, header: Mapping[str, Any]) -> str:
    """Return the digest of what a ramp is made from: equal files in all that matters have the same.

    Parameters
    ----------
    ramp : Ramp
        The open file; all its pixels are read.
    header : mapping of str to object
        Its primary header.

    Returns
    -------
    str
        sha256, in hex digits.
    """
    used = [*_USED]
    if completed(header):
        # Of a file that steps were run on, also what they were run with.
        used += [*PROVENANCE, *sorted(keyword for keyword in header if keyword.startswith("R_"))]
    values = {keyword: _value(header.get(keyword)) for keyword in used}
    digest = hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode())
    for name in _DATA:
        if name in ramp.headers:
            about = ramp.headers[name]
            layout = [about.get(keyword) for keyword in ("BITPIX", "BZERO", "BSCALE", "NAXIS")]
            axes = [about.get(f"NAXIS{axis}") for axis in range(1, about["NAXIS"] + 1)]
            digest.update(json.dumps([name, layout, axes], default=str).encode())
            for piece in ramp.stored_bytes(name):
                digest.update(piece)
    return digest.hexdigest()


@dataclass(frozen=True)
class Standing:
    """The ramps of an exposure that the store has, as the current settings would make them.

    Attributes
    ----------
    ramps : list of StoredProduct
    """

    ramps: list[StoredProduct[RampMetadata]]

    @classmethod
    def of(cls, folder: str, store: Store, settings: StageSettings) -> "Standing":
        """Read them from the folder of the exposure's products (no slash at its end)."""
        return cls(
            [
                product
                for product in walk(store, f"{folder}/", kind=RampMetadata)
                if made_by(product.manifest, plan_like(product.manifest.parameters, settings))
            ]
        )

    @property
    def counting(self) -> StoredProduct[RampMetadata] | None:
        """The ramp that stands for the exposure."""
        counting = counting_ramps(self.ramps, _delivery)
        return min(counting, key=lambda product: product.path, default=None)

    def made_from(self, digests: Sequence[str]) -> Manifest | None:
        """Return the ramp that stands for files with these sha256; None if none was made from them.

        This is the ramp that was made from them, or the ramp that has superseded it since.
        """
        for product in self.ramps:
            files = [entry.sha256 for entry in product.manifest.inputs if entry.role == EXPOSURE_ROLE]
            if files == list(digests):
                counts = product in counting_ramps(self.ramps, _delivery)
                return (product if counts else self.counting or product).manifest
        return None

    def of_revision(self, revision: str) -> StoredProduct[RampMetadata] | None:
        """Return the ramp that was made from the same pixels, if there is one."""
        return next((product for product in self.ramps if product.results.revision == revision), None)

    def better_than(self, header: Mapping[str, Any], date: str) -> tuple[Manifest, str] | None:
        """Return the ramp for which a file stands aside, and why; None if the file would count.

        Parameters
        ----------
        header : mapping of str to object
            Primary header of the file.
        date : str
            Its DATE.
        """
        counting, done = self.counting, len(completed(header))
        if counting is None:
            return None
        ramp = counting.results
        if done > ramp.steps_done:
            return counting.manifest, f"not needed: {ramp.file} of the same exposure is rawer"
        if done == ramp.steps_done and date < ramp.file_date:
            return counting.manifest, f"not needed: {ramp.file} was made later (DATE {ramp.file_date})"
        return None

    def superseded_by(self, header: Mapping[str, Any]) -> list[SupersededRamp]:
        """Return which ramps the ramp of a further file supersedes."""
        done = len(completed(header))
        return [
            SupersededRamp(
                product=product.path.rpartition("/")[2],
                file=product.results.file,
                file_date=product.results.file_date,
                reason="rawer" if product.results.steps_done > done else "newer",
            )
            for product in self.ramps
        ]


def _delivery(product: StoredProduct[RampMetadata]) -> RampDelivery:
    return RampDelivery.of(product.results, product.path, product.manifest.created)


def _value(value: Any) -> Any:
    return value.strip() if isinstance(value, str) else value
