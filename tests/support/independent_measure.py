"""A reference of the independent generator's ramps against what was planted in them."""

import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from shared.nircam.dq import PixelFlag
from shared.products.reference import ReferenceResults
from shared.runtime.handler import StageContext
from shared.settings.stage import StageSettings
from shared.store.local import LocalStore
from support.darkref_building import built
from support.independent_detector import IndependentDetector, Scene
from support.independent_files import commit_scene
from support.independent_ramps import IndependentExposure, expose_set

#: What marks a pixel whose dark changes from integration to integration.
UNSTEADY = PixelFlag.UNRELIABLE_DARK | PixelFlag.TELEGRAPH


@dataclass(frozen=True)
class BuiltScene:
    """A reference and its truth; all images in DN, 3-D (groups, y, x), relative to the first group.

    Attributes
    ----------
    path : Path
        A copy of the reference file.
    sci, err, truth : ndarray of float64
    quality : ndarray of uint32, 2-D
    """

    path: Path
    detector: IndependentDetector
    results: ReferenceResults
    sci: NDArray[np.float64]
    err: NDArray[np.float64]
    quality: NDArray[np.uint32]
    truth: NDArray[np.float64]

    @property
    def scene(self) -> Scene:
        return self.detector.scene

    @property
    def outcome(self) -> str:
        """accepted, held or rejected."""
        assert self.results.verification is not None
        verification: Any = self.results.verification
        if hasattr(verification, "acceptance"):
            return str(verification.acceptance)
        return "accepted" if verification.accepted else "rejected"

    @property
    def verdict(self) -> str:
        return "" if self.results.verification is None else self.results.verification.verdict

    @property
    def ordinary(self) -> NDArray[np.bool_]:
        """Science pixels in which nothing was planted but dark current, noise and hits."""
        detector = self.detector
        planted = detector.hot | detector.warm | detector.fast_rc | detector.telegraph | detector.bistable
        return detector.light & ~planted

    def slope_residuals(self, reliable: bool = True) -> NDArray[np.float64]:
        """Return the error of the dark's slope in ordinary (reliable) pixels, e- per 1000 s, 1-D."""
        times = self.scene.read_times.mean(axis=1)
        weights = (times - times.mean()) / ((times - times.mean()) ** 2).sum()
        slopes = np.tensordot(weights, (self.sci - self.truth) * self.detector.gain, axes=1) * 1000
        wanted = self.ordinary & (self.quality & UNSTEADY == 0) if reliable else self.ordinary
        residuals: NDArray[np.float64] = slopes[wanted]
        return residuals

    def pulls(self) -> NDArray[np.float64]:
        """Return (SCI - truth) / ERR of ordinary reliable pixels after the first group, 1-D."""
        pixels = self.ordinary & (self.quality & UNSTEADY == 0)
        with np.errstate(divide="ignore"):
            return ((self.sci - self.truth)[1:, pixels] / self.err[1:, pixels]).ravel()

    def covered(self) -> float:
        """Return rms(SCI - truth) / sqrt(mean ERR^2) of ordinary reliable pixels."""
        pixels = self.ordinary & (self.quality & UNSTEADY == 0)
        error = (self.sci - self.truth)[1:, pixels]
        return float(np.sqrt((error**2).mean() / (self.err[1:, pixels] ** 2).mean()))

    def true_dark_current(self) -> float:
        """Return the median dark current of science pixels that are not hot, e- per 1000 s."""
        detector = self.detector
        return float(np.median(detector.true_rate()[detector.light & ~detector.hot]) * 1000)

    def dark_current_pull(self) -> float:
        results = self.results
        return (
            results.dark_current_e_per_ks - self.true_dark_current()
        ) / results.dark_current_error_e_per_ks

    def flagged(self, pixels: NDArray[np.bool_], flags: int = UNSTEADY) -> float:
        """Return the fraction of some pixels that have one of these flags."""
        return float((self.quality[pixels] & flags != 0).mean())


def build_scene(
    scene: Scene,
    folder: Path,
    exposures: Sequence[IndependentExposure] = (),
    rules: bool = False,
    **settings: Any,
) -> BuiltScene:
    """Build the reference of a scene, in a store of its own that is removed; the file stays in `folder`.

    Without `rules` the rules of CRDS count as kept: they do not look at the data, and a child process takes
    5 s for them.
    """
    exposures = exposures or expose_set(scene)
    root = folder / "scene"
    store = LocalStore(root / "store")
    context = StageContext(
        store, StageSettings(store=root / "store", **{"verify": True, **settings}), lambda *_: None
    )
    kept = nullcontext() if rules else patch("services.darkref.verification.verify.violations", lambda _: [])
    try:
        with kept:
            manifest, results = built(context, commit_scene(scene, store, root / "files", exposures))
        path = folder / f"{scene.seed}_{results.file}"
        shutil.copy(root / "store" / manifest.object(results.file).key, path)
        with fits.open(path, memmap=False) as hdus:
            planes = [hdus[name].data.astype(np.float64) for name in ("SCI", "ERR")]
            quality = hdus["DQ"].data.astype(np.uint32)
        detector = exposures[0].detector
        return BuiltScene(path, detector, results, *planes, quality, detector.true_ramp() / detector.gain)
    finally:
        shutil.rmtree(root)
