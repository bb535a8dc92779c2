"""The darkref stage over a bucket: the same reference, bit for bit, as over a folder."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from services.darkref.handler import handle
from shared.runtime.handler import StageContext
from shared.settings.stage import S3Settings, StageSettings
from shared.store.base import Store
from shared.store.manifest import Manifest, find_all
from shared.store.opening import open_store
from support.ceph_server import Ceph
from support.configurations import configuration
from support.darkref_sets import commit_set, dark, write_ramp

pytestmark = pytest.mark.xdist_group("ceph")


def contents(store: Store, manifest: Manifest) -> dict[str, list[tuple[dict[str, Any], bytes]]]:
    """Each FITS object: header (but for what says when and where it was made) and data of each HDU."""
    results = {}
    for entry in manifest.objects:
        with fits.HDUList.fromstring(store.get(entry.key)) as hdus:
            results[entry.name] = [
                (
                    {k: str(v) for k, v in hdu.header.items() if k not in {"DATE", "HISTORY"}},
                    np.asarray(hdu.data).tobytes() if hdu.name != "ASDF" else b"",
                )
                for hdu in hdus
            ]
    return results


def test_a_bucket_gives_the_same_reference_as_a_folder(ceph: Ceph, tmp_path: Path) -> None:
    # Given one set in a folder and in a bucket
    rng = np.random.default_rng(11)
    key = configuration()
    files = [
        write_ramp(tmp_path / f"jw{n}_jump.fits", key, *dark(rng, key, integrations=2)) for n in range(3)
    ]
    in_bucket = StageSettings(
        store=f"s3://{ceph.new_bucket()}/darks",
        scratch=tmp_path / "scratch",
        s3=S3Settings(endpoint=ceph.endpoint),
    )
    products = []
    for settings in (StageSettings(store=tmp_path / "store"), in_bucket):
        store = open_store(settings)
        ready = commit_set(store, files, [key] * 3, [2] * 3)
        # When darkref runs over each, twice
        outgoing = handle(ready, StageContext(store, settings))
        assert [each.message.id for each in handle(ready, StageContext(store, settings))] == [
            message.message.id for message in outgoing
        ]
        (manifest,) = find_all(store, "darkref/")
        # Each draft has a folder of its own, so the ramps lie elsewhere.
        results = {name: fact for name, fact in manifest.results.items() if name != "ramps"}
        products.append((manifest.path, results, outgoing[0].message.id, contents(store, manifest)))
        store.close()
    # Then the products have one key, the same results and the same bytes
    folder, bucket = products
    assert bucket[:3] == folder[:3]
    assert bucket[3] == folder[3]
