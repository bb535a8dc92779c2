"""Counts of the jumps that the pipeline flagged, as the NRC-09 notebook prints them, with errors.

The notebook counts flags, and the percentage of pixels that were flagged at least once in integration 0; of
several integrations, that of any is larger. All are given over all pixels, like the notebook's, and over
science pixels. Beside them stands what is expected: from noise, by
the threshold of jwst's jump step, and from cosmic rays, by their rate and the live time.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse, special

_EIGHT_CONNECTED = np.ones((3, 3), np.int8)

#: Rejection threshold of jwst's jump step by number of groups, sigma; with more groups, `_USUAL_SIGMA`.
_FEW_GROUPS_SIGMA = {3: 6.0, 4: 5.0}
_USUAL_SIGMA = 4.0


@dataclass(frozen=True)
class JumpCount:
    """Jumps over a selection of pixels.

    Attributes
    ----------
    flags, flags_error : int, float
        Number of (integration, group, pixel) with JUMP_DET, and its 1-sigma error; see `JumpCounter`.
    pixels : int
        Number of pixels flagged at least once.
    percent, percent_error : float
        The same in per cent of the selected pixels; 1 sigma.
    per_group : list of int
        Number of flags in each group, over all integrations.
    first_percent, first_percent_error : float
        Per cent of the selected pixels flagged in integration 0, as in the notebook; 1 sigma.
    """

    flags: int
    flags_error: float
    pixels: int
    percent: float
    percent_error: float
    per_group: list[int]
    first_percent: float
    first_percent_error: float


@dataclass
class _Tally:
    selected: NDArray[np.bool_]
    per_group: NDArray[np.int64]
    flag_squares: float = 0.0
    pixel_squares: float = 0.0
    # Pixels flagged in integration 0, and the sum over its events of their pixels squared.
    first_pixels: int | None = None
    first_squares: float = 0.0
    # Per island of this integration: flags, and pixels that had not been flagged before.
    islands: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = field(default_factory=list)


class JumpCounter:
    """Counts the flags of an exposure, one group at a time.

    The errors are those of a compound Poisson process. Events arrive independently, and each flags several
    pixels: 8-connected neighbours in a group, and the same pixel in following groups. The variance of the
    number of flags is therefore the sum over events of their flags squared. The same holds for pixels, each
    of which belongs to the event that flagged it first.

    Parameters
    ----------
    science : ndarray of bool, 2D (y, x)
        False for reference pixels.
    ngroups : int

    Attributes
    ----------
    events : int
        Number of events in the integrations that are complete.
    """

    def __init__(self, science: NDArray[np.bool_], ngroups: int) -> None:
        self._ngroups = ngroups
        self._ever = np.zeros(science.shape, np.bool_)
        self._all = _Tally(np.ones_like(science), np.zeros(ngroups, np.int64))
        self._science = _Tally(science, np.zeros(ngroups, np.int64))
        self.events = 0
        self._first = np.full(science.shape, ngroups, np.int32)
        self._labels = np.zeros(science.shape, np.int32)
        # Number of islands of this integration so far, and of its last plane.
        self._nodes = 0
        self._previous_count = 0
        self._links: list[NDArray[np.int64]] = []

    @property
    def first_jumps(self) -> NDArray[np.int32]:
        """First flagged group of each pixel in this integration; `ngroups` where there is none."""
        return self._first

    def add(self, group: int, jumps: NDArray[np.bool_]) -> None:
        """Add a group, in ascending order; group 0 begins the next integration.

        Parameters
        ----------
        group : int
        jumps : ndarray of bool, 2D (y, x)
            GROUPDQ & JUMP_DET.
        """
        if group == 0:
            self._close()
        at = np.flatnonzero(jumps)
        labels, count = ndimage.label(jumps, _EIGHT_CONNECTED)
        mine = labels.ravel()[at] - 1
        before = self._labels.ravel()[at]
        carried = before > 0
        base = self._nodes - self._previous_count
        self._links.append(np.stack([base + before[carried] - 1, self._nodes + mine[carried]]))
        fresh = ~self._ever.ravel()[at]
        for tally in (self._all, self._science):
            inside = tally.selected.ravel()[at]
            tally.per_group[group] += np.count_nonzero(inside)
            tally.islands.append(
                (
                    np.bincount(mine[inside], minlength=count),
                    np.bincount(mine[inside & fresh], minlength=count),
                )
            )
        self._ever.ravel()[at] = True
        first = self._first.ravel()
        first[at] = np.minimum(first[at], group)
        self._labels = labels
        self._previous_count = count
        self._nodes += count

    def _close(self) -> None:
        if self._nodes:
            links = np.concatenate(self._links, axis=1)
            graph = sparse.coo_array((np.ones(links.shape[1], np.int8), links), shape=(self._nodes,) * 2)
            events, event = sparse.csgraph.connected_components(graph, directed=False)
            self.events += events
            for tally in (self._all, self._science):
                flags = np.bincount(event, np.concatenate([f for f, _ in tally.islands]))
                pixels = np.bincount(event, np.concatenate([p for _, p in tally.islands]))
                tally.flag_squares += float(np.sum(flags**2))
                tally.pixel_squares += float(np.sum(pixels**2))
        for tally in (self._all, self._science):
            if tally.first_pixels is None and self._links:
                tally.first_pixels = int(np.count_nonzero(self._ever & tally.selected))
                tally.first_squares = tally.pixel_squares
            tally.islands.clear()
        self._links.clear()
        self._nodes = self._previous_count = 0
        self._labels = np.zeros_like(self._labels)
        self._first[:] = self._ngroups

    def counts(self) -> tuple[JumpCount, JumpCount]:
        """Return the counts over all pixels and over science pixels.

        The NRC-09 notebook has the former: the sum of the flags, and the number of pixels with a flag in any
        group of integration 0, times 100 / (ysize * xsize): `JumpCount.first_percent`.
        """
        self._close()
        return self._count(self._all), self._count(self._science)

    def _count(self, tally: _Tally) -> JumpCount:
        pixels = int(np.count_nonzero(self._ever & tally.selected))
        total = int(np.count_nonzero(tally.selected))
        return JumpCount(
            flags=int(tally.per_group.sum()),
            flags_error=math.sqrt(tally.flag_squares),
            pixels=pixels,
            percent=100 * pixels / total,
            percent_error=100 * math.sqrt(tally.pixel_squares) / total,
            per_group=tally.per_group.tolist(),
            first_percent=100 * (tally.first_pixels or 0) / total,
            first_percent_error=100 * math.sqrt(tally.first_squares) / total,
        )


def threshold_sigma(ngroups: int) -> float:
    """Return the threshold of jwst's jump step, sigma: 4; 5 with 4 groups, 6 with 3.

    From jwst 3.0.0, ``JumpStep.spec``.
    """
    return _FEW_GROUPS_SIGMA.get(ngroups, _USUAL_SIGMA)


def jump_refusal(ngroups: int) -> str | None:
    """Return why no jump can be flagged in ramps of so many groups, or None if jumps can be."""
    least = min(_FEW_GROUPS_SIGMA)
    if ngroups >= least:
        return None
    have = "1 group" if ngroups == 1 else f"{ngroups} groups"
    return f"jumps cannot be flagged: the jump step needs {least} groups, and these ramps have {have}"


def false_positive_probability(ngroups: int) -> float:
    """Return the probability that noise alone flags a difference of two groups.

    The two-sided tail of a Gaussian beyond the threshold of the jump step: 6.3e-5 at the usual 4 sigma. With
    fewer than 3 groups the step does not run, and the probability is 0.

    Examples
    --------
    >>> f"{false_positive_probability(10):.2e}"
    '6.33e-05'
    """
    if jump_refusal(ngroups):
        return 0.0
    return float(special.erfc(threshold_sigma(ngroups) / math.sqrt(2)))


def false_positive_percent(ngroups: int, integrations: int) -> float:
    """Return the expected percentage of pixels that noise alone flags at least once.

    Examples
    --------
    >>> round(false_positive_percent(150, 1), 2)
    0.94
    """
    differences = (ngroups - 1) * integrations
    return -100 * math.expm1(differences * math.log1p(-false_positive_probability(ngroups)))


def live_seconds(seconds_per_integration: float, integrations: int) -> float:
    """Return the time during which a hit on a pixel could be flagged, s.

    A hit between reset and first group changes no difference of groups: the live time of an integration runs
    from its first to its last group. The time after a pixel saturates is included; darks have too few
    saturated pixels for it to matter.

    Parameters
    ----------
    seconds_per_integration : float
        From the first to the last group.
    integrations : int
    """
    return seconds_per_integration * integrations


def expected_percent(percent_per_kilosecond: float, seconds: float) -> float:
    """Return the expected percentage of pixels that independent hits reach at least once.

    Parameters
    ----------
    percent_per_kilosecond : float
        The same in 1000 s.
    seconds : float

    Examples
    --------
    >>> round(expected_percent(10.0, 2000.0), 6)
    19.0
    """
    rate = -math.log1p(-percent_per_kilosecond / 100) / 1000
    return -100 * math.expm1(-rate * seconds)


def first_jump(flagged: NDArray[Any]) -> int:
    """Return the first flagged group of a ramp; its number of groups if there is none."""
    return int(np.argmax(flagged)) if flagged.any() else len(flagged)
