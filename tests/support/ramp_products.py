"""Ramps committed to a store as ingest does it: the file, its digests, and a manifest that names both."""

import functools
import os
import shutil
from pathlib import Path

from pydantic import BaseModel

from shared.contracts.messages import ObjectRef
from shared.products.ramp import RAMP
from shared.ramps.digests import DIGESTS, RampDigester, RampDigests
from shared.ramps.ramp import Ramp
from shared.store.base import Store, hash_file
from shared.store.local import LocalStore
from shared.store.manifest import Draft, ObjectEntry
from shared.store.ranged_file import RangedFile


@functools.cache
def digests_of(file: Path) -> RampDigests:
    """Return the digests of a ramp on disk."""
    with Ramp(RangedFile(file), file.name) as ramp:
        digester = RampDigester(ramp)
    hash_file(file, digester.update)
    return digester.finish()


def commit_ramp(store: Store, path: str, file: Path, results: BaseModel, digests: bool = True) -> ObjectRef:
    """Commit a copy of a file as a ramp; without `digests`, as an earlier version did."""
    copy = store.scratch() / file.name
    shutil.copyfile(file, copy)
    with Ramp(RangedFile(copy), file.name) as ramp:
        digester = RampDigester(ramp)
    draft = Draft(store, "ramp", path, [], {}, {})
    draft.add(RAMP, copy, digester.update)
    if digests:
        draft.add(DIGESTS, digester.finish().encode())
    entry = draft.commit(results).object(RAMP)
    return ObjectRef(key=entry.key, size=entry.size, sha256=entry.sha256)


def link_ramp(store: LocalStore, path: str, file: Path, sha256: str, results: BaseModel) -> ObjectRef:
    """Commit a further name of a large file as a ramp, under a sha256 that is not computed."""
    key = f"{path}/{RAMP}"
    (store.root / path).mkdir(parents=True, exist_ok=True)
    if store.root / key != file:
        os.link(file, store.root / key)
    entry = ObjectEntry(name=RAMP, key=key, size=file.stat().st_size, sha256=sha256)
    draft = Draft(store, "ramp", path, [], {}, {})
    draft.add(DIGESTS, digests_of(file).encode())
    draft._objects.append(entry)
    draft.commit(results)
    return ObjectRef(key=entry.key, size=entry.size, sha256=entry.sha256)
