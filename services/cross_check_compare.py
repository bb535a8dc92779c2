"""Where two dark references differ: SCI and ERR place by place, and the counts of measurements."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

#: The two are said to agree up to this, relative to the larger of a place's value and its scatter.
TOLERANCE = 1e-5
_EPSILON = float(np.finfo(np.float32).eps)


@dataclass(frozen=True)
class Difference:
    """How an array of the reference differs from jwst_reffiles'.

    Attributes
    ----------
    name : str
        ``"SCI"`` or ``"ERR"``.
    places : int
        (group, pixel) places compared.
    largest : float
        Largest difference, relative to the larger of the place's |SCI| and ERR.
    largest_of_value : float
        Largest difference relative to the value itself; near zero that is rounding over nothing.
    above : int
        Places where `largest`'s measure is above `TOLERANCE`.
    worst : tuple of int
        (group, y, x) of the largest difference, 0-based.
    ours, theirs : float
        The values there, DN.
    """

    name: str
    places: int
    largest: float
    largest_of_value: float
    above: int
    worst: tuple[int, int, int]
    ours: float
    theirs: float


def compare(
    reference: Path, oracle: Path, counts: tuple[Path, Path], integrations: int
) -> tuple[list[Difference], int, int]:
    """Compare a reference with jwst_reffiles', group by group.

    Parameters
    ----------
    reference, oracle : Path
        Two darks with SCI and ERR (groups, y, x), DN.
    counts : tuple of Path
        Measurements per (group, y, x), ours (NMEAS) and jwst_reffiles' (primary).
    integrations : int
        Over all files: how many values a float32 sum has.

    Returns
    -------
    differences : list of Difference
        Of SCI and of ERR.
    contributions : int
        Places with other counts.
    rounding : int
        How many of the places above `TOLERANCE` the rounding of float32 sums explains.
    """
    tally = {name: _Tally() for name in ("SCI", "ERR")}
    rounding = counts_differ = 0
    with (
        fits.open(reference) as ours,
        fits.open(oracle) as theirs,
        fits.open(counts[0]) as used,
        fits.open(counts[1]) as good,
    ):
        for group in range(ours["SCI"].shape[0]):
            mine = {name: _plane(ours, name, group) for name in tally}
            other = {name: _plane(theirs, name, group) for name in tally}
            scale = np.maximum(np.abs(other["SCI"]), other["ERR"])
            # The bound of a float32 sum of N values, none further from the mean than the clip leaves.
            bound = integrations * _EPSILON * (np.abs(other["SCI"]) + 4 * other["ERR"])
            for name, one in tally.items():
                off = one.add(group, mine[name], other[name], scale)
                rounding += int(np.count_nonzero(off & (np.abs(mine[name] - other[name]) <= bound)))
            differ = used["NMEAS"].section[group] != good[0].section[group]
            counts_differ += int(np.count_nonzero(differ))
    return [one.result(name) for name, one in tally.items()], counts_differ, rounding


def _plane(hdus: fits.HDUList, name: str, group: int) -> NDArray[np.float64]:
    plane: NDArray[np.float64] = hdus[name].section[group].astype(np.float64)
    return plane


class _Tally:
    """The largest differences so far, plane by plane."""

    def __init__(self) -> None:
        self._places = self._above = 0
        self._largest = self._of_value = 0.0
        self._worst = (0, 0, 0)
        self._values = (0.0, 0.0)

    def add(
        self, group: int, mine: NDArray[np.float64], other: NDArray[np.float64], scale: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        """Take a plane in; return where it differs by more than `TOLERANCE`."""
        difference = np.abs(mine - other)
        relative = _ratio(difference, scale)
        self._of_value = max(self._of_value, float(_ratio(difference, np.abs(other)).max()))
        where = np.unravel_index(int(relative.argmax()), relative.shape)
        if relative[where] > self._largest or self._places == 0:
            self._largest, self._worst = float(relative[where]), (group, int(where[0]), int(where[1]))
            self._values = (float(mine[where]), float(other[where]))
        off: NDArray[np.bool_] = relative > TOLERANCE
        self._above += int(np.count_nonzero(off))
        self._places += relative.size
        return off

    def result(self, name: str) -> Difference:
        return Difference(
            name, self._places, self._largest, self._of_value, self._above, self._worst, *self._values
        )


def _ratio(difference: NDArray[np.float64], scale: NDArray[np.float64]) -> NDArray[np.float64]:
    # Equal values do not differ, zeros of no measurement among them; a value against 0 differs by all.
    some = np.where(difference > 0, np.inf, 0.0)
    ratio: NDArray[np.float64] = np.divide(difference, scale, out=some, where=scale > 0)
    return ratio
