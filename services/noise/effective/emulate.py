"""Other readout patterns, made of RAPID ramps: frames averaged into groups, frames skipped between them."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from services.noise.effective_noise import combine_amplifiers, median_over_ramps, spatial_error, theory
from services.noise.emulated_products import EmulatedPattern
from services.noise.pixels import Pixels, Plane
from services.noise.spatial import SlopeSpread
from shared.configuration import ConfigurationKey
from shared.detectors import READ_PATTERNS, detectors

#: Bytes a pixel that `EmulatedNoise` holds, measured (49 of a full frame for the first, 25 for a second):
#: running sums and slopes, room for those of usable pixels, and the sum of a group's frames.
PER_PIXEL = 50
#: Groups that a ramp needs for a slope.
_FEWEST_GROUPS = 2


def emulated_groups(frames: int, nframes: int, groupgap: int) -> int:
    """Return how many groups a RAPID ramp of so many frames makes: whole ones only."""
    return max((frames + groupgap) // (nframes + groupgap), 0)


def emulated_key(key: ConfigurationKey, pattern: str) -> ConfigurationKey:
    """Return the configuration that RAPID ramps of `key` are in another readout pattern.

    Parameters
    ----------
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
    """Say why a readout pattern cannot be made of a configuration's ramps, or None where it can."""
    if pattern not in READ_PATTERNS:
        return f"unknown readout pattern {pattern!r}; choose from {', '.join(READ_PATTERNS)}"
    if (key.nframes, key.groupgap) != READ_PATTERNS["RAPID"]:
        return (
            f"{pattern} is not emulated: the ramps are {key.readpatt}, whose frames are not all "
            "downlinked; only RAPID ramps have every frame"
        )
    nframes, groupgap = READ_PATTERNS[pattern]
    groups = emulated_groups(key.ngroups, nframes, groupgap)
    if groups < _FEWEST_GROUPS:
        return (
            f"{pattern} is not emulated: {key.ngroups} RAPID groups make {groups} of it, and a slope needs "
            f"{_FEWEST_GROUPS}: use ramps of {2 * nframes + groupgap} groups or more"
        )
    return None


class Emulator:
    """Makes the planes of another readout pattern of those of RAPID ramps, one at a time.

    Parameters
    ----------
    key : ConfigurationKey
        Of the pattern that is made, see `emulated_key`.
    """

    def __init__(self, key: ConfigurationKey) -> None:
        self._key = key
        self._sum: NDArray[np.float32] | None = None

    def planes(self, plane: Plane) -> Iterator[Plane]:
        """Take the next RAPID plane, groups and integrations ascending; yield the group it completes.

        A pixel is alive in a group if it is in the last of its frames. The mean is taken in single
        precision, as the instrument takes it of whole numbers; what is yielded is overwritten by what the
        next group is made of.
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
    """Spatial effective noise of another readout pattern, of RAPID planes one at a time.

    It holds `PER_PIXEL`, whatever the number of groups and ramps.

    Attributes
    ----------
    key : ConfigurationKey
        Of the pattern that is made, see `emulated_key`.
    slopes : SlopeSpread
    """

    def __init__(self, key: ConfigurationKey) -> None:
        self.key = key
        self.slopes = SlopeSpread()
        self._emulator = Emulator(key)

    def add(self, plane: Plane, pixels: Pixels) -> None:
        """Add the next RAPID plane, groups and integrations ascending."""
        for made in self._emulator.planes(plane):
            self.slopes.add(made, pixels)

    def curve(self, gain: float) -> NDArray[np.float64]:
        """Return the effective noise for every number of the pattern's groups from 2 on, e-, 1D.

        Parameters
        ----------
        gain : float
            e-/DN.
        """
        rise = np.arange(1, self.key.ngroups)
        spread: NDArray[np.float64] = combine_amplifiers(median_over_ramps(np.array(self.slopes.sigmas)))
        return spread * rise * gain

    def facts(self, gain: float, pixels: int) -> EmulatedPattern:
        """Return what came of it.

        Parameters
        ----------
        gain : float
            e-/DN.
        pixels : int
            That each ramp's figure is from, at least.
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
                theory(int(n), key.nframes, float(t), key.tframe, expected)
                for n, t in zip(groups, seconds, strict=True)
            ],
            error=error,
        )


def emulated(key: ConfigurationKey, patterns: Sequence[str]) -> list[EmulatedNoise]:
    """Return what makes those of some readout patterns that RAPID ramps of `key` can be made into."""
    return [
        EmulatedNoise(emulated_key(key, pattern))
        for pattern in patterns
        if emulation_refusal(key, pattern) is None
    ]


def refused(key: ConfigurationKey, patterns: Sequence[str]) -> list[EmulatedPattern]:
    """Return the others, each with the reason."""
    found = []
    for pattern in patterns:
        refusal = emulation_refusal(key, pattern)
        if refusal is not None:
            nframes, groupgap = READ_PATTERNS[pattern]
            found.append(
                EmulatedPattern(pattern=pattern, nframes=nframes, groupgap=groupgap, refusal=refusal)
            )
    return found
