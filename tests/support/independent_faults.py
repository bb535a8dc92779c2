"""Good sets and bad ones of the independent generator: what a verification must tell apart."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from support.independent_detector import DETECTORS, IndependentDetector, Scene
from support.independent_ramps import IndependentExposure, expose_independent, expose_set

#: A corner of the detector, with its border of reference pixels, and a place without.
CORNER, INSIDE = {"first_row": 1, "first_column": 1}, {"first_row": 1201, "first_column": 801}


def small_scene(detector: str, seed: int, **changes: object) -> Scene:
    """Return a set of six ramps of 30 groups at the cadence of a full frame."""
    size = {"rows": 128, "columns": 128, "ngroups": 30, "exposures": 6}
    return Scene(detector=detector, seed=seed, **(size | changes))  # type: ignore[arg-type]


def good_scenes() -> dict[str, Scene]:
    """Return 40 sets that nobody should complain of: each detector twice with and twice without a border.

    What is everyday differs among them: a level that all exposures share, levels that scatter, settling after
    a reset, four outputs, other exponents of the 1/f noise, alternating column noise, averaged frames.
    """
    everyday: list[dict[str, object]] = [
        {},
        {"settling": 20.0},
        {"level": 10.0},
        {"level_scatter": 20.0},
        {"shared_exponent": 1.2, "own_exponent": 0.8},
        {"column_noise": 1.0},
        {"level_scatter": 20.0, "amplifier_scatter": 15.0, "settling": 20.0},
        {"hits": 10.0, "snowballs": 0.3},
        {"telegraph": 0.002, "bistable": 0.002, "bistable_in": 3},
        {"readpatt": "SHALLOW4", "ngroups": 20},
    ]
    scenes = {}
    for number, detector in enumerate(DETECTORS):
        for place, corner in (("border", CORNER), ("inside", INSIDE)):
            for half in (0, 5):
                # Each everyday feature meets four detectors, two with a border
                which = (number + half + (place == "border")) % len(everyday)
                outputs = 4 if (number + half) % 3 == 0 else 1
                seed = 1000 + len(scenes)
                scene = small_scene(detector, seed, outputs=outputs, **corner, **everyday[which])
                words = " ".join(f"{name}={value}" for name, value in everyday[which].items())
                scenes[f"{detector} {place} {outputs} {words}".strip()] = scene
    return scenes


Fault = Callable[[str, int], list[IndependentExposure]]


def _of_scene(**changes: object) -> Fault:
    def expose(detector: str, seed: int) -> list[IndependentExposure]:
        return expose_set(small_scene(detector, seed, **changes))

    return expose


def _edited(edit: Callable[[NDArray[np.float64], IndependentExposure], None], **changes: object) -> Fault:
    """Return a fault that changes the raw data (float, DN) of each exposure in place."""

    def expose(detector: str, seed: int) -> list[IndependentExposure]:
        exposures = []
        for exposure in expose_set(small_scene(detector, seed, **changes)):
            raw = exposure.raw.astype(np.float64)
            edit(raw, exposure)
            exposures.append(replace(exposure, raw=np.clip(np.rint(raw), 0, 65535).astype(np.uint16)))
        return exposures

    return expose


def _dead_output(raw: NDArray[np.float64], exposure: IndependentExposure) -> None:
    raw[..., exposure.detector.output == 1] = 9000


def _constant(raw: NDArray[np.float64], exposure: IndependentExposure) -> None:
    raw[:] = 12000


def _falling(raw: NDArray[np.float64], exposure: IndependentExposure) -> None:
    raw -= 3.0 * np.arange(raw.shape[1])[:, None, None]


def _saturated(raw: NDArray[np.float64], exposure: IndependentExposure) -> None:
    raw += 50000


Light = Callable[[IndependentDetector], NDArray[np.float64]]


def lit_exposures(scene: Scene, light: Light, only: Sequence[int] | None = None) -> list[IndependentExposure]:
    """Take a set with light, e-/s, in all exposures or in some; its truth is the dark without."""
    dark, lit = IndependentDetector(scene), IndependentDetector(scene)
    lit.rate = lit.rate + light(lit) * lit.light
    exposures = [
        expose_independent(lit if only is None or number in only else dark, number)
        for number in range(scene.exposures)
    ]
    return [replace(exposure, detector=dark) for exposure in exposures]


def uniform(level: float) -> Light:
    """Return light of the same level everywhere, e-/s."""
    return lambda detector: np.full(detector.scene.shape, level)


def _with_light(light: Light, only: Sequence[int] | None = None, **changes: object) -> Fault:
    return lambda detector, seed: lit_exposures(small_scene(detector, seed, **changes), light, only)


def _gradient(detector: IndependentDetector) -> NDArray[np.float64]:
    return np.linspace(0, 0.15, detector.scene.rows)[:, None] * np.ones(detector.scene.columns)


def _stars(detector: IndependentDetector) -> NDArray[np.float64]:
    """Forty stars of 2 to 60 e-/s at their peak, 2 pixels wide."""
    rng = np.random.default_rng([detector.scene.seed, 9])
    y, x = np.mgrid[: detector.scene.rows, : detector.scene.columns]
    image = np.zeros(detector.scene.shape)
    for peak in 10 ** rng.uniform(0.3, 1.8, 40):
        at = rng.uniform(0, detector.scene.rows), rng.uniform(0, detector.scene.columns)
        image += peak * np.exp(-((y - at[0]) ** 2 + (x - at[1]) ** 2) / (2 * 1.5**2))
    return image


def _warm_output(detector: IndependentDetector) -> NDArray[np.float64]:
    return np.where(detector.output == 2, 0.15, 0.0) * np.ones(detector.scene.shape)


def _glow(detector: IndependentDetector) -> NDArray[np.float64]:
    y, x = np.mgrid[: detector.scene.rows, : detector.scene.columns]
    return 1.0 * np.exp(-np.hypot(y, x) / (0.3 * detector.scene.rows))


def _read_noise(factor: float) -> Fault:
    """Return a fault of the reference files: jumps are looked for with a READNOISE of another height."""

    def expose(detector: str, seed: int) -> list[IndependentExposure]:
        exposures = expose_set(small_scene(detector, seed))
        return [replace(exposure, believed_noise=factor) for exposure in exposures]

    return expose


#: Kinds of sets that must not be accepted.
FAULTS: dict[str, Fault] = {
    "dead output": _edited(_dead_output, outputs=4),
    "one value everywhere": _edited(_constant),
    "falling level": _edited(_falling),
    "light leak of 0.1 e-/s": _with_light(uniform(0.1)),
    "gradient": _with_light(_gradient),
    "star field": _with_light(_stars),
    "glow in a corner": _with_light(_glow),
    "warm output": _with_light(_warm_output, outputs=4),
    "lamp in two of six exposures": _with_light(uniform(10.0), only=(1, 4)),
    "twice the noise": _of_scene(cds=36.0),
    "1/f noise of 30 e-": _of_scene(cds=60.0, own_pink=30.0),
    "two integrations": _of_scene(exposures=2),
    "mostly hit": _of_scene(hits=4000.0),
    "READNOISE too small": _read_noise(0.25),
    "saturated from the start": _edited(_saturated),
}
