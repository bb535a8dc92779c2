"""Cosmic-ray events: flagged pixels that belong together, their extent, and the charge they left.

A pixel takes part in an event where GROUPDQ says JUMP_DET, or where a hit saturates it: jwst's jump step
ignores saturated groups, so such a pixel carries no jump flag. Flagged pixels that touch (8-connected) in a
group form an island, and islands that share a pixel from one group to the next form an event.

The charge of an event is the sum of the steps of its pixels, less what each pixel rises by anyway: the mean
of its differences of neighbouring groups without a flag, in the same integration. Over the pixels of a few
rows the same differences give the noise of a step and its correlation between neighbouring pixels, and with
them the error of a charge.

`FlagCollector` takes an exposure one group at a time and collects flags and differences; `cluster` and
`count_meetings` are plain functions of the collected flags.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse

from shared.nircam.dq import UNUSABLE_GROUP_FLAGS, GroupFlag
from shared.statistics.jit import kernel
from shared.statistics.robust import SIGMA_PER_MAD, median_deviation

_JUMP_DET, _SATURATED = int(GroupFlag.JUMP_DET), int(GroupFlag.SATURATED)
#: jwst's jump step does not look at differences of groups with one of these flags.
_UNUSABLE = int(UNUSABLE_GROUP_FLAGS)
#: Rows in which the noise is sampled: 65,000 pixels of a full frame, which determine its sigma to 0.5 %.
_SAMPLED_ROWS = 32
#: A pixel was saturated by a hit if it rose by more than this many times its mean rise per group until then;
#: a hot pixel that fills its well rises as before.
_SUDDEN = 3.0
#: ... and by more than this many sigma, the usual threshold of jwst's jump step.
_SUDDEN_SIGMA = 4.0
_EIGHT_CONNECTED = np.ones((3, 3), np.int8)
#: (dy, dx) from a pixel to the neighbours that come after it, row by row.
_NEXT_NEIGHBOURS = ((0, 1), (1, -1), (1, 0), (1, 1))
#: (dy, dx) of a pixel and its eight neighbours.
_NEIGHBOURHOOD = tuple((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1))

_Ints = NDArray[np.int64]

#: A row for each event of an integration; `Events` explains the fields. `variance` and `runs` give the error:
#: of independent reads, in units of the variance of a difference, and how many steps are correlated.
_EVENT = np.dtype(
    [
        ("integration", np.int32),
        ("group", np.int32),
        ("y", np.int32),
        ("x", np.int32),
        ("pixels", np.int32),
        ("area", np.int32),
        ("charge", np.float64),
        ("variance", np.float64),
        ("runs", np.float64),
        ("saturated", np.bool_),
        ("counted", np.bool_),
    ]
)


@dataclass(frozen=True)
class Events:
    """The events of an exposure; every array is 1D, with one value for each event.

    Attributes
    ----------
    integration, group : ndarray of int32
        Where it begins.
    y, x : ndarray of int32
        The pixel with its largest step.
    pixels : ndarray of int32
        Number of different pixels that take part.
    area : ndarray of int32
        Pixels of its largest island.
    charge : ndarray of float64
        DN, over the pixels that take part: their steps, less each pixel's mean difference over the unflagged
        groups of the integration. NaN if no step could be measured. Charge on pixels that are not flagged is
        not included; where `saturated`, it is a lower limit.
    error : ndarray of float64
        1 sigma of `charge`, DN: read noise, its correlation between neighbours included.
    saturated : ndarray of bool
        It saturated a pixel.
    counted : ndarray of bool
        Its largest step lies off the border of the usable area. An event that fell outside and only reaches
        in is not counted.
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
    """Where events were searched for, and in what noise.

    Attributes
    ----------
    pixels : int
        Pixels in which an event counts.
    searched, possible : int
        Differences between neighbouring groups of these pixels that could be looked at, and all of them.
    merged : float
        Expected number of pairs of events that touch by chance, in space or in time, and count as one.
    merged_error : float
        1 sigma.
    noise : float
        Noise of a difference of two groups, DN: robust sigma about zero.
    correlation : float
        Correlation coefficient of the noise of neighbouring pixels.
    """

    pixels: int
    searched: int
    possible: int
    merged: float
    merged_error: float
    noise: float
    correlation: float


@dataclass(frozen=True)
class Clusters:
    """Which island and which event each flag belongs to; both are numbered from 0, in order of first flag.

    Attributes
    ----------
    island, event : ndarray of int64, 1D (flags)
    """

    island: _Ints
    event: _Ints


def cluster(group: NDArray[Any], y: NDArray[Any], x: NDArray[Any], shape: tuple[int, int]) -> Clusters:
    """Join the flagged pixels of an integration to islands and events.

    Pixels that touch (8-connected) in a group are one island; islands that have a pixel in common from one
    group to the next are one event.

    Parameters
    ----------
    group, y, x : ndarray of int, 1D (flags)
        Each flag once, in order of group, row and column.
    shape : (int, int)
        Number of rows and columns.

    Examples
    --------
    Two diagonal neighbours, one of which is flagged again in the next group, and a pixel far off:

    >>> import numpy as np
    >>> found = cluster(np.array([1, 1, 1, 2]), np.array([3, 4, 9, 4]), np.array([5, 6, 9, 6]), (16, 16))
    >>> found.island.tolist(), found.event.tolist()
    ([0, 0, 1, 2], [0, 0, 1, 0])
    """
    flags = _FlagIndex(group, y, x, shape)
    touching = [flags.pairs(group, y + dy, x + dx) for dy, dx in _NEXT_NEIGHBOURS]
    island = _components(group.size, touching)
    first, second = flags.pairs(group + 1, y, x)
    islands = int(island.max(initial=-1)) + 1
    return Clusters(island, _components(islands, [(island[first], island[second])])[island])


def count_meetings(
    group: NDArray[Any], y: NDArray[Any], x: NDArray[Any], event: _Ints, shape: tuple[int, int]
) -> int:
    """Count the pairs of events that touch when a shifted copy of the cube is laid upon it.

    The shift is half of the rows and columns. Hits are independent of each other, so that half as many pairs
    are expected to touch by chance in the cube itself: each pair has two chances to meet here.

    Parameters
    ----------
    group, y, x : ndarray of int, 1D (flags)
        As `cluster` takes them.
    event : ndarray of int64, 1D (flags)
        As `cluster` gives them.
    shape : (int, int)
        Number of rows and columns.
    """
    height, width = shape
    flags = _FlagIndex(group, y, x, shape)
    shifts = [(0, dy, dx) for dy, dx in _NEIGHBOURHOOD] + [(-1, 0, 0), (1, 0, 0)]
    pairs = [
        flags.pairs(group + later, (y + height // 2 + dy) % height, (x + width // 2 + dx) % width)
        for later, dy, dx in shifts
    ]
    first, second = (event[np.concatenate(places)] for places in zip(*pairs, strict=True))
    different = first != second
    events = int(event.max(initial=-1)) + 1
    return int(np.unique((first * events + second)[different]).size)


class FlagCollector:
    """Collects the flags of an exposure, one group at a time, and makes events of them.

    It holds a few planes, and some numbers for each flag of one integration.

    Parameters
    ----------
    active : ndarray of bool, 2D (y, x)
        Usable pixels that see the sky.
    ngroups : int
        Groups of an integration.
    """

    def __init__(self, active: NDArray[np.bool_], ngroups: int) -> None:
        self._active = active
        self._inner = active & ndimage.binary_erosion(_holes_filled(active), _EIGHT_CONNECTED)
        self._ngroups = ngroups
        self._unflagged = UnflaggedDifferences(active, self._inner)
        self._signal: NDArray[np.float32] | None = None
        self._quality = np.zeros(active.shape, np.uint8)
        self._integration = -1
        self._flags: list[_Flags] = []
        self._meetings = 0
        self._events: list[NDArray[np.void]] = []

    def add(self, group: int, signal: NDArray[np.float32], quality: NDArray[np.uint8]) -> None:
        """Add a group, in ascending order; group 0 begins the next integration.

        Parameters
        ----------
        group : int
        signal : ndarray of float32, 2D (y, x)
            DN; must not be overwritten before the next group was added.
        quality : ndarray of uint8, 2D (y, x)
            GROUPDQ; may be overwritten afterwards.
        """
        if group == 0 or self._signal is None:
            self._close_integration()
            self._integration += 1
        else:
            self._unflagged.add(signal, self._signal, quality, self._quality)
            self._flags.append(self._flags_of(group, signal, self._signal, quality))
        self._signal = signal
        self._quality[:] = quality

    def finish(self) -> tuple[Events, Search]:
        """Return all events, integration by integration, and what was searched."""
        self._close_integration()
        variance, correlation = self._unflagged.noise()
        table = np.concatenate([np.empty(0, _EVENT), *self._events])
        runs = table["runs"]
        spread = table["variance"] + correlation * runs * (runs - 1)
        exact = ("integration", "group", "y", "x", "pixels", "area", "charge", "saturated", "counted")
        events = Events(**{name: table[name].copy() for name in exact}, error=np.sqrt(variance * spread))
        met = self._meetings / 2
        # Clusters meet less often than their members would: the number that stays apart falls as the
        # exponential of the density.
        merged = met / (1 - min(met / max(table.size, 1), 0.5))
        inner = int(np.count_nonzero(self._inner))
        search = Search(
            pixels=inner,
            searched=self._unflagged.searched,
            possible=inner * (self._ngroups - 1) * (self._integration + 1),
            merged=merged,
            merged_error=math.hypot(math.sqrt(self._meetings) / 2, merged - met),
            noise=math.sqrt(variance),
            correlation=correlation,
        )
        return events, search

    def _flags_of(
        self,
        group: int,
        signal: NDArray[np.float32],
        previous: NDArray[np.float32],
        quality: NDArray[np.uint8],
    ) -> "_Flags":
        saturated = self._saturated_by_hits(group, signal, previous, quality)
        flagged = (quality & _JUMP_DET != 0) & self._active
        flagged |= saturated
        places = np.flatnonzero(flagged)
        step = signal.ravel()[places] - previous.ravel()[places]
        known = self._quality.ravel()[places] & _UNUSABLE == 0
        return _Flags(
            group=np.full(places.size, group),
            place=places,
            step=np.where(known & np.isfinite(step), step, np.float32(np.nan)),
            saturated=saturated.ravel()[places],
        )

    def _saturated_by_hits(
        self,
        group: int,
        signal: NDArray[np.float32],
        previous: NDArray[np.float32],
        quality: NDArray[np.uint8],
    ) -> NDArray[np.bool_]:
        """Return which pixels a hit saturates in this group, with the neighbours that saturate with them."""
        fresh: NDArray[np.bool_] = (quality & _UNUSABLE == _SATURATED) & (self._quality & _UNUSABLE == 0)
        fresh &= self._active
        if not fresh.any():
            return fresh
        places = np.flatnonzero(fresh)
        earlier = previous.ravel()[places]
        step = signal.ravel()[places] - earlier
        usual = np.maximum(earlier, 0) / group
        hit = (step > _SUDDEN * usual) & (step > _SUDDEN_SIGMA * self._unflagged.latest_noise)
        # The saturation step flags the neighbours too; they belong to the pixel that saturated.
        y, x = np.divmod(places, signal.shape[1])
        island = cluster(np.zeros_like(places), y, x, (signal.shape[0], signal.shape[1])).island
        saturated = np.zeros(fresh.size, np.bool_)
        saturated[places] = np.isin(island, island[hit])
        return saturated.reshape(fresh.shape)

    def _close_integration(self) -> None:
        if self._flags:
            flags = _Flags.concatenate(self._flags)
            self._flags.clear()
            if flags.place.size:
                self._add_events(flags)
        self._unflagged.start()

    def _add_events(self, flags: "_Flags") -> None:
        shape = (self._active.shape[0], self._active.shape[1])
        y, x = np.divmod(flags.place, shape[1])
        clusters = cluster(flags.group, y, x, shape)
        self._meetings += count_meetings(flags.group, y, x, clusters.event, shape)
        usual, n_unflagged = self._unflagged.usual_step(flags.place)
        events = _measure_events(flags, clusters, flags.step.astype(np.float64) - usual, n_unflagged)
        places = events["y"].astype(np.int64)
        events["integration"] = self._integration
        events["y"], events["x"] = np.divmod(places, shape[1])
        events["counted"] = self._inner.ravel()[places]
        self._events.append(events)


class UnflaggedDifferences:
    """Differences of neighbouring groups without a flag: the usual step of each pixel, and its noise.

    Parameters
    ----------
    active : ndarray of bool, 2D (y, x)
        Usable pixels that see the sky.
    inner : ndarray of bool, 2D (y, x)
        Those of them in which an event counts.

    Attributes
    ----------
    searched : int
        Differences of inner pixels that the jump step could look at, flagged or not.
    """

    def __init__(self, active: NDArray[np.bool_], inner: NDArray[np.bool_]) -> None:
        self.searched = 0
        self._active, self._inner = active, inner
        self._total = np.zeros(active.shape, np.float32)
        self._count = np.zeros(active.shape, np.uint16)
        self._variances: list[tuple[float, float]] = []

    def start(self) -> None:
        """Begin an integration."""
        self._total[:] = 0
        self._count[:] = 0

    def add(
        self,
        signal: NDArray[np.float32],
        previous: NDArray[np.float32],
        quality: NDArray[np.uint8],
        previous_quality: NDArray[np.uint8],
    ) -> None:
        """Add the difference of two groups.

        Parameters
        ----------
        signal, previous : ndarray of float32, 2D (y, x)
            DN.
        quality, previous_quality : ndarray of uint8, 2D (y, x)
            GROUPDQ.
        """
        self.searched += _add_unflagged(
            signal, previous, quality, previous_quality, self._inner, self._total, self._count
        )
        height = signal.shape[0]
        rows = np.unique(np.linspace(0, max(height - 2, 0), min(_SAMPLED_ROWS, height)).astype(int))
        lower, upper = (
            np.where(
                self._active[at] & ((quality[at] | previous_quality[at]) & (_UNUSABLE | _JUMP_DET) == 0),
                signal[at] - previous[at],
                np.nan,
            )
            for at in (rows, np.minimum(rows + 1, height - 1))
        )
        covariances = [_covariance(lower[:, 1:], lower[:, :-1]), _covariance(lower, upper)]
        self._variances.append((_variance_about_zero(lower), float(np.mean(covariances))))

    def usual_step(self, places: _Ints) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the mean difference of some pixels in this integration, and of how many it is the mean.

        Parameters
        ----------
        places : ndarray of int, 1D
            Flat indices of the pixels.

        Returns
        -------
        mean : ndarray, 1D
            DN; 0 where every difference is flagged, which is close to the truth in a dark.
        count : ndarray, 1D
        """
        count = self._count.ravel()[places].astype(np.float64)
        return self._total.ravel()[places] / np.maximum(count, 1), count

    @property
    def latest_noise(self) -> float:
        """The noise of the last difference, DN: robust sigma about zero; NaN if all pixels are flagged."""
        return float(np.sqrt(self._variances[-1][0]))

    def noise(self) -> tuple[float, float]:
        """Return the variance of a difference, DN^2, and the correlation of neighbouring pixels.

        Means over all differences, about zero: what moves whole amplifiers counts as noise. The correlation
        is the mean of that of pixels side by side and that of pixels one above the other, and at least 0.
        """
        known = np.array(self._variances).reshape(-1, 2)
        known = known[np.isfinite(known).all(axis=1)]
        if not len(known):
            return 0.0, 0.0
        variance, covariance = known.mean(axis=0)
        return float(variance), float(np.clip(covariance / variance, 0, 1)) if variance > 0 else 0.0


@dataclass(frozen=True)
class _Flags:
    """Flagged pixels, in order of group and place; every array is 1D (flags).

    Attributes
    ----------
    group : ndarray of int64
    place : ndarray of int64
        Flat index of the pixel.
    step : ndarray of float32
        From the group before, DN; NaN where that is unusable.
    saturated : ndarray of bool
        A hit saturates the pixel in this group.
    """

    group: _Ints
    place: _Ints
    step: NDArray[np.float32]
    saturated: NDArray[np.bool_]

    @classmethod
    def concatenate(cls, parts: "list[_Flags]") -> "_Flags":
        names = ("group", "place", "step", "saturated")
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


class _FlagIndex:
    """Finds flags by their group, row and column."""

    def __init__(self, group: NDArray[Any], y: NDArray[Any], x: NDArray[Any], shape: tuple[int, int]) -> None:
        # One row and one column more than there are: what lies beyond an edge is found nowhere.
        self._height, self._width = shape[0] + 1, shape[1] + 1
        self._keys = self._key(group, y, x)

    def pairs(self, group: NDArray[Any], y: NDArray[Any], x: NDArray[Any]) -> tuple[_Ints, _Ints]:
        """Return which of some places hold a flag, and the number of that flag."""
        wanted = self._key(group, y, x)
        number = np.minimum(np.searchsorted(self._keys, wanted), max(self._keys.size - 1, 0))
        places = np.flatnonzero(self._keys[number] == wanted) if self._keys.size else np.empty(0, np.int64)
        return places, number[places]

    def _key(self, group: NDArray[Any], y: NDArray[Any], x: NDArray[Any]) -> _Ints:
        key: _Ints = (group.astype(np.int64) * self._height + y) * self._width + x
        return key


def _components(nodes: int, links: list[tuple[_Ints, _Ints]]) -> _Ints:
    """Return which connected component each node belongs to, numbered in order of their first nodes."""
    first, second = (np.concatenate(ends) for ends in zip(*links, strict=True))
    graph = sparse.coo_array((np.ones(first.size, np.bool_), (first, second)), shape=(nodes, nodes))
    component: _Ints = sparse.csgraph.connected_components(graph, directed=False)[1].astype(np.int64)
    return component


def _measure_events(
    flags: _Flags, clusters: Clusters, step: NDArray[np.float64], n_unflagged: NDArray[np.float64]
) -> NDArray[np.void]:
    """Return a row of `_EVENT` for each event; `y` holds the flat index of the pixel of the largest step.

    Parameters
    ----------
    flags : _Flags
        Of one integration; at least one.
    clusters : Clusters
    step : ndarray, 1D (flags)
        DN, less the usual step of the pixel; NaN where it is not known.
    n_unflagged : ndarray, 1D (flags)
        Differences that the usual step is the mean of.
    """
    event, place = clusters.event, flags.place
    number = int(event.max()) + 1
    known = np.isfinite(step)
    charge = np.bincount(event[known], step[known], number)
    n_known = np.bincount(event[known], minlength=number)
    events = np.zeros(number, _EVENT)
    events["charge"] = np.where(n_known > 0, charge, np.nan)
    events["variance"], events["runs"] = _read_noise_terms(flags, event, n_unflagged)
    by_size = np.argsort(np.where(known, np.abs(step), -1.0), kind="stable")
    events["y"][event[by_size]] = place[by_size]
    last_place = int(place.max()) + 1
    events["pixels"] = np.bincount(np.unique(event * last_place + place) // last_place, minlength=number)
    np.maximum.at(events["area"], event, np.bincount(clusters.island)[clusters.island].astype(np.int32))
    # Flags come in order of their groups: the last that is written is the first of an event.
    events["group"][event[::-1]] = flags.group[::-1]
    events["saturated"] = np.bincount(event, flags.saturated, number) > 0
    return events


def _read_noise_terms(
    flags: _Flags, event: _Ints, n_unflagged: NDArray[np.float64]
) -> tuple[NDArray[np.float64], _Ints]:
    """Return for each event the read noise of its charge, in units of a difference's variance, and its runs.

    The flags of a pixel in consecutive groups are a run: of its reads only the first and the last are in the
    sum of the steps, whatever its length.
    """
    number = int(event.max()) + 1
    order = np.lexsort((flags.group, flags.place))
    place, group = flags.place[order], flags.group[order]
    starts = np.ones(place.size, np.bool_)
    starts[1:] = (place[1:] != place[:-1]) | (group[1:] != group[:-1] + 1)
    lengths = np.diff(np.append(np.flatnonzero(starts), place.size))
    of_event = event[order][starts]
    subtracted = lengths / np.maximum(n_unflagged[order][starts], 1)
    variance = np.bincount(of_event, (1 + subtracted) ** 2 + subtracted**2, number)
    return variance.astype(np.float64), np.bincount(of_event, minlength=number).astype(np.int64)


def _variance_about_zero(values: NDArray[np.float32]) -> float:
    deviation = median_deviation(values[np.isfinite(values)], centre=0.0, dtype=np.float32)
    return float((SIGMA_PER_MAD * deviation) ** 2)


def _covariance(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Return the covariance from the robust variances of sum and difference, which outliers hardly move."""
    return (_variance_about_zero(first + second) - _variance_about_zero(first - second)) / 4


def _holes_filled(active: NDArray[np.bool_]) -> NDArray[np.bool_]:
    # With a border of zeros, so that what lies at the edge of the array is no hole.
    filled: NDArray[np.bool_] = ndimage.binary_fill_holes(np.pad(active, 1))[1:-1, 1:-1]
    return filled


@kernel
def _add_unflagged(signal, previous, quality, previous_quality, inner, total, count):  # type: ignore[no-untyped-def]
    searched = 0
    for row in range(signal.shape[0]):
        for column in range(signal.shape[1]):
            step = signal[row, column] - previous[row, column]
            flags = quality[row, column]
            usable = ((flags | previous_quality[row, column]) & _UNUSABLE) == 0 and np.isfinite(step)
            searched += usable and inner[row, column]
            if usable and (flags & _JUMP_DET) == 0:
                total[row, column] += step
                count[row, column] += 1
    return searched
