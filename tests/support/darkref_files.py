"""Reference files for tests that are about the file itself: built from a set, or of random arrays."""

import dataclasses

import numpy as np

from services.darkref.handler import handle
from services.darkref.reference_file import writer as reference_file
from shared.runtime.handler import StageContext
from shared.settings.stage import StageSettings
from shared.store.local import LocalStore
from support.darkref_sets import commit_set, dark, write_ramp


def build_dark(folder, key, simulated=False, counts=(2, 2, 2), mode="reference", **settings):
    """Build the reference of a set drawn here, as the stage does; return its path."""
    rng = np.random.default_rng(8)
    folder.mkdir(exist_ok=True)
    files = [
        write_ramp(folder / f"jw{n}_jump.fits", key, *dark(rng, key, count)) for n, count in enumerate(counts)
    ]
    store = LocalStore(folder / "store")
    ready = commit_set(store, files, [key] * len(files), counts, simulated=simulated)
    context = StageContext(store, StageSettings(store=folder / "store", mode=mode, **settings))
    (outgoing,) = handle(ready, context)
    return folder / "store" / outgoing.message.content.reference.key


def write_dark(path, key, about, flight, spare_history=0, rate_map=False):
    """Write a dark of random arrays, its dark current and last line of HISTORY last; return it and them."""
    rng = np.random.default_rng(3)
    cube, plane = (key.ngroups, key.subsize2, key.subsize1), (key.subsize2, key.subsize1)
    arrays = {name: rng.normal(0, 5, cube).astype(np.float32) for name in ("SCI", "ERR")}
    if flight:
        arrays["DQ"] = rng.choice(np.array([0, 1 << 11, 1 << 23 | 1 << 14], np.uint32), plane)
    if rate_map:
        arrays["AVDRKCUR"] = rng.uniform(0, 1, plane).astype(np.float32)
    path.parent.mkdir(exist_ok=True)
    early = dataclasses.replace(
        about, dark_current=0.0, history=about.history[:-1] if spare_history else about.history
    )
    places = reference_file.lay_out_dark(path, key, early, flight, spare_history, rate_map)
    for name, values in arrays.items():
        with places[name].cube(path, values.dtype) as file:
            file.write(0, 0, values.reshape(-1, *plane))
    reference_file.complete_header(path, key, about)
    return path, arrays
