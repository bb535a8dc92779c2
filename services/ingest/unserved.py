"""Notes in the store that a configuration has no reference file, see `shared.products.unserved`."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

from services.ingest.plan import Plan
from services.ingest.references import AbsentReference
from shared.errors import DarksError
from shared.products.unserved import UnservedConfiguration, unserved_key
from shared.store.base import Store
from shared.store.changes import mark_changing

_logger = logging.getLogger(__name__)


@contextmanager
def noted_if_unserved(configuration: str, plan: Plan, store: Store) -> Iterator[None]:
    """Note for all exposures of a configuration that it has no reference: a context around their work.

    Parameters
    ----------
    configuration : str
        Slug of the configuration key.
    plan : Plan
    store : Store
    """
    try:
        yield
    except AbsentReference as fault:
        note = UnservedConfiguration(
            configuration=configuration,
            kind=fault.kind,
            context=plan.context,
            reason=str(fault),
            noted=datetime.now(UTC),
        )
        key, body = unserved_key(configuration), note.model_dump_json().encode()
        # That the store does not answer matters less than the fault itself.
        with suppress(DarksError):
            mark_changing(store, key)
            if store.put_if_absent(key, body):
                _logger.warning("%s", note)
            else:
                store.put(key, body)
        raise
