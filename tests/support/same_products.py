"""Whether two stores hold the same products: byte for byte, but for the times at which they were made."""

import hashlib
import io
import json
import re
from pathlib import PurePosixPath
from typing import Any

from astropy.io import fits

from shared.ramps.digests import DIGESTS, RampDigests
from shared.store.base import Store
from shared.store.manifest import Manifest, ObjectEntry, find_all

STAGES = ("ingest/", "persistence/", "darkref/", "noise/")
# jwst stamps the time into its files, and into their ASDF extension a hash of the stamped file and its log,
# which says how long each step took. YAML breaks long lines at a space.
_STAMPS = re.compile(rb"\d{4}-\d\d-\d\d(?:T| |\n +)\d\d:\d\d:\d\d(\.\d+)?|_fits_hash: [0-9a-f]+")
_LOG = re.compile(rb"^cal_logs:\n(?: .*\n)+", re.M)
_DRAFT = re.compile(r"(/[0-9a-f]{32})/[0-9a-f]{8}/")


def essence(store: Store) -> dict[str, Any]:
    """What each product is, by its path: results, messages, versions, and every byte of its objects.

    Left out are times, where the store and the exposures lie, and the ids of one attempt.
    """
    return {
        manifest.path: _product(store, manifest) for stage in STAGES for manifest in find_all(store, stage)
    }


def _product(store: Store, manifest: Manifest) -> dict[str, Any]:
    document = json.loads(
        manifest.model_dump_json(exclude={"created", "timings", "objects", "inputs", "messages"})
    )
    for step in document["results"].get("steps", ()):
        step["seconds"] = None
    return {
        "said": _placeless(document),
        # A ramp's own bytes hold when it was made; its product key says what it was made from.
        "inputs": [(each.role, each.product or each.sha256) for each in manifest.inputs],
        "messages": [(message.schema_name, message.id) for message in manifest.messages],
        "objects": {entry.name: _bytes(store, entry) for entry in manifest.objects},
    }


def _placeless(said: Any) -> Any:
    if isinstance(said, dict):
        return {name: _placeless(value) for name, value in said.items()}
    if isinstance(said, list):
        return [_placeless(value) for value in said]
    if isinstance(said, str):
        said = _DRAFT.sub(r"\1/", said)
        return PurePosixPath(said).name if "://" in said else said
    return said


def _bytes(store: Store, entry: ObjectEntry) -> Any:
    body = store.get(entry.key)
    assert (len(body), hashlib.sha256(body).hexdigest()) == (entry.size, entry.sha256), entry.key
    if entry.name == DIGESTS:
        # Those of the headers hold when they were made.
        return {name: planes.tobytes() for name, planes in RampDigests.decode(body).blocks.items()}
    if not entry.name.endswith(".fits"):
        return _STAMPS.sub(b"", body)
    with fits.open(io.BytesIO(body), memmap=False) as hdus:
        return [_hdu(hdu) for hdu in hdus]


def _hdu(hdu: Any) -> tuple[str, bytes]:
    header = "\n".join(card for card in map(str, hdu.header.cards) if not card.startswith("DATE    ="))
    data = b"" if hdu.data is None else hdu.data.tobytes()
    if hdu.name == "ASDF":
        # Its length hangs on the seconds that stand in its log; how much was logged does not.
        return hdu.name, _STAMPS.sub(b"", _LOG.sub(_entries, data)).rstrip(b"\0")
    return header, data


def _entries(log: re.Match[bytes]) -> bytes:
    return b"cal_logs of %d lines\n" % log[0].count(b"\n  - ")
