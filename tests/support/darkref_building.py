"""Sets of one integration an exposure, and the reference that the darkref stage builds from them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.darkref.handler import handle
from shared.contracts.messages import Envelope
from shared.nircam.configuration import ConfigurationKey
from shared.products.reference import ReferenceResults
from shared.runtime.handler import StageContext
from shared.store.manifest import Manifest, find_all
from support.darkref_sets import commit_set, dark, write_ramp

Ramp = tuple[NDArray[np.float32], NDArray[np.uint8]]


def with_settings(context: StageContext, **settings: Any) -> StageContext:
    """Return the context of a stage that is set up otherwise."""
    return StageContext(context.store, context.settings.model_copy(update=settings), context.progress)


def drawn_ramps(seed: int, count: int, key: ConfigurationKey, **how: Any) -> list[Ramp]:
    """Draw the ramps of a set; `how` as `support.darkref_sets.dark` takes it."""
    data, groupdq = dark(np.random.default_rng(seed), key, count, **how)
    return list(zip(data, groupdq, strict=True))


def write_ramps(folder: Path, key: ConfigurationKey, ramps: Sequence[Ramp], name: str = "jw") -> list[Path]:
    """Write each ramp as an exposure of its own."""
    return [
        write_ramp(folder / f"{name}{n}_jump.fits", key, data[None], groupdq[None])
        for n, (data, groupdq) in enumerate(ramps)
    ]


def drawn_set(
    context: StageContext, folder: Path, key: ConfigurationKey, seed: int, count: int, **how: Any
) -> Envelope:
    """Draw a set, put it into the store; return its ``set.ready``. `how` as `commit_set` takes it."""
    files = write_ramps(folder, key, drawn_ramps(seed, count, key, hits=0.0), f"jw{seed}_")
    return commit_set(context.store, files, [key] * count, [1] * count, **how)


def built(context: StageContext, ready: Envelope) -> tuple[Manifest, ReferenceResults]:
    """Build the reference of a set; return its manifest and results."""
    identity = handle(ready, context)[0].message.content.manifest.rpartition("/")[0]
    (manifest,) = [each for each in find_all(context.store, "darkref/") if each.path == identity]
    return manifest, ReferenceResults.model_validate(manifest.results)
