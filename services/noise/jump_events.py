"""Events: flags that belong together, how large they are, and what charge they left.

A pixel takes part in an event where GROUPDQ says JUMP_DET, or where it becomes saturated all at once: such
a pixel carries no jump flag, because jwst's jump step leaves saturated groups out. Pixels that touch
(8-connected) in a group are of one event, and so are those of the same pixel in the next group.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse

from services.noise.pixels import JUMP_DET
from services.noise.quiet_differences import SATURATED, UNUSABLE, QuietDifferences

_EIGHT_CONNECTED = np.ones((3, 3), np.int8)
#: (dy, dx) of a pixel and of all that touch it.
_TOUCHING = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
#: A pixel that saturates was hit if it rose by so many times what it rose by per group until then; a
#: hot pixel that fills up rises as before.
_SUDDEN = 3.0
#: ... and by so many sigma, jwst's usual threshold.
_SIGMA = 4.0


@dataclass(frozen=True)
class Events:
    """The events of an exposure, one value each; every array is 1D.

    Attributes
    ----------
    integration, group : ndarray of int32
        Where it begins.
    y, x : ndarray of int32
        Its pixel of the largest step.
    pixels : ndarray of int32
        Different pixels that take part.
    area : ndarray of int32
        Most pixels in one group.
    charge : ndarray of float64
        DN, over the pixels that take part: their steps, less each pixel's own mean difference over the
        unflagged groups of the integration. NaN if no step could be measured. What falls on pixels that
        are not flagged is not in it; where `saturated`, it is a lower limit.
    error : ndarray of float64
        1 sigma of `charge`, DN: read noise, its correlation between neighbours included.
    saturated : ndarray of bool
        Saturated a pixel.
    counted : ndarray of bool
        Its largest step lies off the border of the usable area, so that what was hit outside and only
        reaches in is not counted.
    """

    integration: NDArray[np.int32]
    group: NDArray[np.int32]
    y: NDArray[np.int32]
    x: NDArray[np.int32]
    pixels: NDArray[np.int32]
    area: NDArray[np.int32]
    charge: NDArray[np.float64]
    error: NDArray[np.float64]
    saturated: NDArray[np.bool_]
    counted: NDArray[np.bool_]


@dataclass(frozen=True)
class Search:
    """What was searched for events.

    Attributes
    ----------
    pixels : int
        Pixels in which an event counts.
    searched, possible : int
        Differences of these pixels between neighbouring groups that could be looked at, and all of them.
    merged : float
        Pairs of events of which chance is expected to have made one, in space or in time.
    merged_error : float
        1 sigma.
    noise : float
        Of a difference of two groups, DN: robust sigma about zero.
    correlation : float
        Of the noise of neighbouring pixels.
    """

    pixels: int
    searched: int
    possible: int
    merged: float
    merged_error: float
    noise: float
    correlation: float


class EventFinder:
    """Finds the events of an exposure, one group at a time.

    It keeps planes, and of the pixels that take part some numbers each for one integration.

    Parameters
    ----------
    active : ndarray of bool, 2D (y, x)
        Usable pixels that see the sky.
    ngroups : int
    """

    def __init__(self, active: NDArray[np.bool_], ngroups: int) -> None:
        self._active = active
        self._inner = active & ndimage.binary_erosion(_holes_filled(active), _EIGHT_CONNECTED)
        self._ngroups = ngroups
        self._quiet = QuietDifferences(active, self._inner)
        self._labels = np.zeros(active.shape, np.int32)
        self._signal: NDArray[np.float32] | None = None
        self._quality = np.zeros(active.shape, np.uint8)
        self._integration = -1
        self._meetings = 0
        self._found: list[dict[str, NDArray[np.float64]]] = []
        self._start()

    def _start(self) -> None:
        self._quiet.start()
        self._labels[:] = 0
        self._nodes = self._previous = 0
        self._links: list[NDArray[np.int64]] = []
        self._met: list[NDArray[np.int64]] = []
        self._last = np.empty(0, np.int64), np.empty(0, np.int64)
        self._places: list[tuple[NDArray[np.int64], ...]] = []
        self._steps: list[NDArray[np.float32]] = []

    def add(self, group: int, signal: NDArray[np.float32], quality: NDArray[np.uint8]) -> None:
        """Add one group of an integration, ascending; group 0 begins the next integration.

        Parameters
        ----------
        group : int
        signal : ndarray of float32, 2D (y, x)
            DN; must stay as it is until the next group was added.
        quality : ndarray of uint8, 2D (y, x)
            GROUPDQ; may be overwritten afterwards.
        """
        if group == 0 or self._signal is None:
            self._close()
            self._integration += 1
        else:
            self._quiet.add(signal, self._signal, quality, self._quality)
            self._join(group, signal, quality)
        self._signal = signal
        self._quality[:] = quality

    def _join(self, group: int, signal: NDArray[np.float32], quality: NDArray[np.uint8]) -> None:
        assert self._signal is not None
        sudden = self._sudden(group, signal, quality)
        taking_part = (quality & JUMP_DET != 0) & self._active
        taking_part |= sudden
        labels, count = ndimage.label(taking_part, _EIGHT_CONNECTED)
        at = np.flatnonzero(taking_part)
        mine = labels.ravel()[at].astype(np.int64)
        before = self._labels.ravel()[at]
        carried = before > 0
        base = self._nodes - self._previous
        self._links.append(np.stack([base + before[carried] - 1, self._nodes + mine[carried] - 1]))
        self._places.append(
            (at, self._nodes + mine - 1, np.full(at.size, group), sudden.ravel()[at].astype(np.int64))
        )
        steps = signal.ravel()[at] - self._signal.ravel()[at]
        known = self._quality.ravel()[at] & UNUSABLE == 0
        self._steps.append(np.where(known & np.isfinite(steps), steps, np.float32(np.nan)))
        self._meet_by_chance(at, self._nodes + mine - 1, labels)
        self._labels, self._previous = labels, count
        self._nodes += count

    def _sudden(
        self, group: int, signal: NDArray[np.float32], quality: NDArray[np.uint8]
    ) -> NDArray[np.bool_]:
        """Return the pixels that saturate in this group, by a hit."""
        assert self._signal is not None
        fresh: NDArray[np.bool_] = (quality & UNUSABLE == SATURATED) & (self._quality & UNUSABLE == 0)
        fresh &= self._active
        if not fresh.any():
            return fresh
        at = np.flatnonzero(fresh)
        earlier = self._signal.ravel()[at]
        step = signal.ravel()[at] - earlier
        usual = np.maximum(earlier, 0) / group
        noise = self._quiet.latest_noise
        hit = (step > _SUDDEN * usual) & (step > _SIGMA * noise)
        # The saturation step flags the neighbours too: they go with the pixel that saturated.
        labels, count = ndimage.label(fresh, _EIGHT_CONNECTED)
        by_hit = np.zeros(count + 1, np.bool_)
        by_hit[labels.ravel()[at[hit]]] = True
        found: NDArray[np.bool_] = by_hit[labels]
        return found

    def _meet_by_chance(
        self, at: NDArray[np.int64], node: NDArray[np.int64], labels: NDArray[np.int32]
    ) -> None:
        """Note which islands meet if the cube is laid upon itself shifted by half of its height and width."""
        height, width = labels.shape
        last_at, last_node = self._last
        base = self._nodes - self._previous
        for places, mine, plane, first, steps in (
            (at, node, labels, self._nodes, _TOUCHING),
            (at, node, self._labels, base, [(0, 0)]),
            (last_at, last_node, labels, self._nodes, [(0, 0)]),
        ):
            y, x = np.divmod(places, width)
            for dy, dx in steps:
                other = plane[(y + height // 2 + dy) % height, (x + width // 2 + dx) % width].astype(np.int64)
                there = other > 0
                self._met.append(np.stack([mine[there], first + other[there] - 1]))
        self._last = at, node

    def _close(self) -> None:
        if self._nodes:
            links = np.concatenate(self._links, axis=1)
            graph = sparse.coo_array((np.ones(links.shape[1], np.int8), links), shape=(self._nodes,) * 2)
            number, event_of = sparse.csgraph.connected_components(graph, directed=False)
            one, other = event_of[np.concatenate(self._met, axis=1)].astype(np.int64)
            self._meetings += np.unique((one * number + other)[one != other]).size
            at, node, group, sudden = (np.concatenate(parts) for parts in zip(*self._places, strict=True))
            self._found.append(
                self._measure(number, event_of[node].astype(np.int64), at, node, group, sudden)
            )
        self._start()

    def _measure(
        self,
        number: int,
        event: NDArray[np.int64],
        at: NDArray[np.int64],
        node: NDArray[np.int64],
        group: NDArray[np.int64],
        sudden: NDArray[np.int64],
    ) -> dict[str, NDArray[np.float64]]:
        """Return the columns of `Events` for one integration, `error` in units of the noise squared."""
        width = self._active.shape[1]
        step = np.concatenate(self._steps).astype(np.float64)
        mean, quiet = self._quiet.of(at)
        step -= mean
        known = np.isfinite(step)
        charge = np.bincount(event[known], step[known], number)
        measured = np.bincount(event[known], minlength=number)
        # One pixel after the other, in time: what follows without a gap is one run, and of its reads only
        # the first and the last are in the sum.
        order = np.lexsort((group, at))
        one, when = at[order], group[order]
        starts = np.ones(at.size, np.bool_)
        starts[1:] = (one[1:] != one[:-1]) | (when[1:] != when[:-1] + 1)
        lengths = np.diff(np.append(np.flatnonzero(starts), at.size))
        own = event[order][starts]
        part = lengths / np.maximum(quiet[order][starts], 1)
        variance = np.bincount(own, (1 + part) ** 2 + part**2, number)
        runs = np.bincount(own, minlength=number)
        brightest = np.full(number, -1, np.int64)
        by_step = np.argsort(np.where(known, np.abs(step), -1.0), kind="stable")
        brightest[event[by_step]] = at[by_step]
        pixels = np.bincount(np.unique(event * self._active.size + at) // self._active.size, minlength=number)
        islands = np.bincount(node, minlength=self._nodes)
        area, first = np.zeros(number, np.int64), np.full(number, self._ngroups, np.int64)
        np.maximum.at(area, event, islands[node])
        np.minimum.at(first, event, group)
        return {
            "integration": np.full(number, self._integration),
            "group": first,
            "y": brightest // width,
            "x": brightest % width,
            "pixels": pixels,
            "area": area,
            "charge": np.where(measured > 0, charge, np.nan),
            "variance": variance,
            "runs": runs,
            "saturated": np.bincount(event, sudden, number) > 0,
            "counted": self._inner.ravel()[brightest],
        }

    def finish(self) -> tuple[Events, Search]:
        """Return all events, integration by integration, and what was searched."""
        self._close()
        variance, correlation = self._quiet.noise()
        names = ("integration", "group", "y", "x", "pixels", "area", "charge", "variance", "runs")
        empty: dict[str, NDArray[np.float64]] = dict.fromkeys((*names, "saturated", "counted"), np.empty(0))
        columns = {name: np.concatenate([found[name] for found in self._found or [empty]]) for name in empty}
        runs = columns["runs"]
        spread = columns["variance"] + correlation * runs * (runs - 1)
        events = Events(
            **{name: columns[name].astype(np.int32) for name in names[:6]},
            charge=columns["charge"].astype(np.float64),
            error=np.sqrt(variance * spread),
            saturated=columns["saturated"].astype(np.bool_),
            counted=columns["counted"].astype(np.bool_),
        )
        # Each two events had two chances to meet, one upon the other and the other way round. Clusters meet
        # less often than their members would: what stays apart falls as the exponential of the density.
        met = self._meetings / 2
        merged = met / (1 - min(met / max(events.charge.size, 1), 0.5))
        inner = int(np.count_nonzero(self._inner))
        search = Search(
            pixels=inner,
            searched=self._quiet.searched,
            possible=inner * (self._ngroups - 1) * (self._integration + 1),
            merged=merged,
            merged_error=math.hypot(math.sqrt(self._meetings) / 2, merged - met),
            noise=math.sqrt(variance),
            correlation=correlation,
        )
        return events, search


def _holes_filled(active: NDArray[np.bool_]) -> NDArray[np.bool_]:
    # A border of zeros, so that what lies at the array's own edge is no hole.
    filled: NDArray[np.bool_] = ndimage.binary_fill_holes(np.pad(active, 1))[1:-1, 1:-1]
    return filled
