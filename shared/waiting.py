"""How much of a configuration waits for a dark reference: read from the manifests, the same for everybody."""

from shared.store.base import Store
from shared.store.manifest import find_all


def waiting_integrations(store: Store, configuration: str) -> int:
    """Return how many calibrated integrations are in no dark reference as yet.

    Parameters
    ----------
    store : Store
    configuration : str
        Slug of the configuration key.

    Raises
    ------
    StoreUnavailable
        If the store does not answer.
    """
    used = {
        exposure
        for manifest in find_all(store, f"darkref/{configuration}/")
        if manifest.product == "reference"
        for exposure in manifest.facts["exposures"]
    }
    integrations = {
        manifest.facts["exposure_id"]: int(manifest.facts["integrations"])
        for manifest in find_all(store, f"ingest/{configuration}/")
        if manifest.product == "ramp"
    }
    return sum(count for exposure, count in integrations.items() if exposure not in used)
