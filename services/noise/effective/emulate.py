"""Readout patterns emulated from RAPID ramps, which hold every frame, and their effective noise.

Frames are averaged into groups and skipped between them, as the instrument does it on board.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from services.noise.effective.effective_noise import (
    combine_amplifiers,
    median_over_ramps,
    spatial_error,
)
from services.noise.effective.spatial import SlopeSpread
from services.noise.effective.theory import theory_noise
from services.noise.planes import ExposurePixels, Plane
from shared.nircam.configuration import ConfigurationKey
from shared.nircam.detectors import READ_PATTERNS, detectors
from shared.products.noise import EmulatedPattern

#: Bytes per pixel that `EmulatedNoise` holds, as measured (49 of a full frame for the first, 25 for a
#: second): running sums, slopes, those of usable pixels, and the sum of the frames of a group.
PER_PIXEL = 50
#: Fewest groups for a slope.
_FEWEST_GROUPS = 2


def emulated_groups(frames: int, nframes: int, groupgap: int) -> int:
    """Return the number of complete groups that a RAPID ramp makes.

    Parameters
    ----------
    frames : int
        Groups of the RAPID ramp, of one frame each.
    nframes, groupgap : int
        Frames averaged into a group, and skipped after it.

    Examples
    --------
    >>> emulated_groups(28, 8, 12)
    2
    """
    return max((frames + groupgap) // (nframes + groupgap), 0)


def emulated_key(key: ConfigurationKey, pattern: str) -> ConfigurationKey:
    """Return the configuration of RAPID ramps of `key` after they are averaged into another pattern.

    Parameters
    ----------
    key : ConfigurationKey
        Of the RAPID ramps.
    pattern : str
        One of `READ_PATTERNS`.

    Raises
    ------
    ValueError
        See `emulation_refusal`.
    """
    refusal = emulation_refusal(key, pattern)
    if refusal:
        raise ValueError(refusal)
    nframes, groupgap = READ_PATTERNS[pattern]
    groups = emulated_groups(key.ngroups, nframes, groupgap)
    changes = {"readpatt": pattern, "nframes": nframes, "groupgap": groupgap, "ngroups": groups}
    return key.model_copy(update=changes)


def emulation_refusal(key: ConfigurationKey, pattern: str) -> str | None:
    """Return why a readout pattern cannot be emulated from ramps of a configuration, or None if it can."""
    if pattern not in READ_PATTERNS:
        return f"unknown readout pattern {pattern!r}; choose from {', '.join(READ_PATTERNS)}"
    if (key.nframes, key.groupgap) != READ_PATTERNS["RAPID"]:
        return (
            f"{pattern} is not emulated: these are {key.readpatt} ramps, of which not every frame is "
            "downlinked; use RAPID ramps"
        )
    nframes, groupgap = READ_PATTERNS[pattern]
    groups = emulated_groups(key.ngroups, nframes, groupgap)
    if groups < _FEWEST_GROUPS:
        return (
            f"{pattern} is not emulated: {key.ngroups} RAPID groups make {groups} {pattern} "
            f"group{'s' * (groups != 1)}, "
            f"and a slope needs {_FEWEST_GROUPS}: use ramps with at least {2 * nframes + groupgap} groups"
        )
    return None


class Emulator:
    """Averages the planes of RAPID ramps into those of another readout pattern.

    Parameters
    ----------
    key : ConfigurationKey
        Of the emulated pattern, see `emulated_key`.
    """

    def __init__(self, key: ConfigurationKey) -> None:
        self._key = key
        self._sum: NDArray[np.float32] | None = None

    def planes(self, plane: Plane) -> Iterator[Plane]:
        """Take the next RAPID plane, in ascending order; yield a group if the plane completes one.

        A pixel is alive in a group if it is alive in the last frame of it. Means are in single precision;
        those of the instrument are in whole numbers. What is yielded may be overwritten by the next call.
        """
        key = self._key
        group, frame = divmod(plane.group, key.nframes + key.groupgap)
        if group >= key.ngroups or frame >= key.nframes:
            return
        if key.nframes == 1:
            yield replace(plane, group=group)
            return
        if self._sum is None:
            self._sum = np.empty_like(plane.signal)
        if frame == 0:
            self._sum[:] = plane.signal
        else:
            self._sum += plane.signal
        if frame == key.nframes - 1:
            yield replace(plane, group=group, signal=self._sum / np.float32(key.nframes))


class EmulatedNoise:
    """Spatial effective noise of an emulated pattern, collected from RAPID planes one at a time.

    It holds `PER_PIXEL` bytes per pixel, whatever the number of groups and ramps.

    Attributes
    ----------
    key : ConfigurationKey
        Of the emulated pattern, see `emulated_key`.
    slopes : SlopeSpread
        Of the emulated ramps.
    """

    def __init__(self, key: ConfigurationKey) -> None:
        self.key = key
        # Of whole numbers of DN; on board, the mean would be rounded to one.
        self.slopes = SlopeSpread(1 / key.nframes)
        self._emulator = Emulator(key)

    def add(self, plane: Plane, pixels: ExposurePixels) -> None:
        """Add the next RAPID plane, in ascending order of integration and group."""
        for averaged in self._emulator.planes(plane):
            self.slopes.add(averaged, pixels)

    def curve(self, gain: float) -> NDArray[np.float64]:
        """Return the effective noise for every number of groups from 2 on, e-, 1D.

        Parameters
        ----------
        gain : float
            e-/DN.
        """
        rise = np.arange(1, self.key.ngroups)
        spread: NDArray[np.float64] = combine_amplifiers(median_over_ramps(np.array(self.slopes.sigmas)))
        return spread * rise * gain

    def result(self, gain: float, pixels: int) -> EmulatedPattern:
        """Return the curve of the pattern, its error, and the theory curve beside it.

        Parameters
        ----------
        gain : float
            e-/DN.
        pixels : int
            Smallest number of pixels that the figure of a ramp is from.
        """
        key = self.key
        groups = np.arange(2, key.ngroups + 1)
        seconds = (groups - 1) * key.group_time
        expected = detectors()[key.detector].expected
        last = np.array(self.slopes.sigmas)[:, -1]
        error = (key.ngroups - 1) * gain * spatial_error(last, pixels) if np.isfinite(last).any() else None
        return EmulatedPattern(
            pattern=key.readpatt,
            nframes=key.nframes,
            groupgap=key.groupgap,
            groups=groups.tolist(),
            seconds=seconds.tolist(),
            spatial=self.curve(gain).tolist(),
            theory=[
                theory_noise(int(n), key.nframes, float(t), key.tframe, expected)
                for n, t in zip(groups, seconds, strict=True)
            ],
            error=error,
        )


def emulations(key: ConfigurationKey, patterns: Sequence[str]) -> list[EmulatedNoise]:
    """Return an `EmulatedNoise` for each of some patterns that can be emulated from ramps of `key`."""
    return [
        EmulatedNoise(emulated_key(key, pattern))
        for pattern in patterns
        if emulation_refusal(key, pattern) is None
    ]


def refused_patterns(key: ConfigurationKey, patterns: Sequence[str]) -> list[EmulatedPattern]:
    """Return the patterns that cannot be emulated from ramps of `key`, each with the reason."""
    refusals = []
    for pattern in patterns:
        refusal = emulation_refusal(key, pattern)
        if refusal is not None:
            nframes, groupgap = READ_PATTERNS[pattern]
            refusals.append(
                EmulatedPattern(pattern=pattern, nframes=nframes, groupgap=groupgap, refusal=refusal)
            )
    return refusals
