"""Which files were delivered again since the services last took their exposure.

A store says when ingest took a file: its claim, its ramp or its rejection. A file that was changed after
that, by the clock of its bucket or its file system, is a redelivery. What a version of an object in a bucket
holds never changes.
"""

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from nircam_darks.operations.backfill_sources import FoundAddress
from shared.catalog.store_contents import claims_of_exposures, manifests_by_exposure
from shared.store.base import Store
from shared.store.manifest import MANIFEST, DamagedManifest, find

#: How far the clocks of a bucket and of this machine may be apart.
_CLOCKS = timedelta(minutes=5)


class Redeliveries:
    """Tells files that were delivered again from those that the services have taken.

    Parameters
    ----------
    store : Store
        The products of ingest; the keys of all of them are read here, and the manifests of an exposure only
        when it is asked for.
    handled_before : datetime or None
        Files that were changed before this time were announced or passed over by an earlier backfill.
    """

    def __init__(self, store: Store, handled_before: datetime | None = None) -> None:
        self._store = store
        self._manifests = manifests_by_exposure(store)
        self._handled_before = handled_before

    def is_settled(self, address: FoundAddress) -> bool:
        """Return whether the services took the exposure of an address, and nothing was delivered since."""
        exposure, changed = address.exposure_id, address.modified
        if exposure not in self._manifests:
            return False
        if changed is None or ("?versionId=" in address.uri and address.uri in dict(self._taken(exposure))):
            return True
        if self._handled_before is not None and changed < self._handled_before - _CLOCKS:
            return True
        taken = list(self._taken(exposure))
        if "?versionId=" in address.uri and address.uri in dict(taken):
            return True
        of_file = [when for uri, when in taken if uri == address.uri]
        return changed <= max(of_file or [when for _, when in taken], default=datetime.now(UTC))

    def _taken(self, exposure_id: str) -> Iterator[tuple[str, datetime]]:
        """Yield when ingest took each file of an exposure."""
        for claim in claims_of_exposures(self._store, [exposure_id])[exposure_id]:
            if claim.claimed is not None:
                yield claim.uri, claim.claimed
        for key in self._manifests[exposure_id]:
            manifest = None
            with suppress(DamagedManifest):
                manifest = find(self._store, key.removesuffix(f"/{MANIFEST}"))
            if manifest is not None:
                yield str(manifest.results.get("uri", "")), manifest.created
