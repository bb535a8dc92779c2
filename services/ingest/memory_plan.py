"""How much of an exposure is in memory at once while it is calibrated; the ramp never depends on it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shared.errors import EnvironmentFault

#: Bytes for the pieces of the exposure. Python, jwst and the reference files of a full frame need about as
#: much again; together they stay below 2 GiB.
_AVAILABLE = 640 * 1024**2
#: Bytes for each pixel and group of a run: SCI, GROUPDQ and what the steps hold beside them.
_OF_A_RUN = 10
#: Bytes for each pixel and group of a band: SCI, the same in electrons, its differences in double precision,
#: and what marks the groups after a jump. Measured with `tracemalloc`: 27 to 36, where jumps are taken out
#: one after another 76 to 89.
_OF_A_BAND, _OF_AN_ITERATED_BAND = 38, 92
#: Bytes of python and jwst, of the references for each pixel, and for each value where a step holds them all
#: (33 to 63 measured).
_LIBRARIES, _REFERENCES, _WHOLE = 400 * 1024**2, 252, 68
#: Longer runs and higher bands gain no speed; bands that stay in the processor's cache are faster.
_LONGEST_RUN, _HIGHEST_BAND, _WIDEST_BAND = 16, 64, 2048
#: Groups of an integration that the saturation step looks at together: no run is shorter.
LEAST_RUN = 3
#: Groups of a run and rows of a band that are given beside those that are kept.
_BESIDE = 3


@dataclass(frozen=True)
class StreamPlan:
    """Groups and rows at a time.

    Attributes
    ----------
    groups : int
        The most of a run of groups.
    ny, nx : int
        Of a frame.
    highest, widest : int
        Bounds on the rows and columns of a band.
    threads : int
        Runs or bands that are worked on at a time.
    """

    groups: int
    ny: int
    nx: int
    highest: int = _HIGHEST_BAND
    threads: int = 1
    widest: int = _WIDEST_BAND

    def band(self, count: int, iterated: bool = False) -> tuple[int, int]:
        """Return the rows and columns of a band for the jump step.

        Parameters
        ----------
        count : int
            Groups of a pixel, in all integrations.
        iterated : bool
            Whether the step takes out jumps one after another, as it does in ramps of few groups.
        """
        bytes_of = count * self.threads * (_OF_AN_ITERATED_BAND if iterated else _OF_A_BAND)
        rows = self._rows(bytes_of)
        # A row has one before it, one after it, and one that the jump step is given besides.
        fit = _AVAILABLE // (4 * bytes_of) - 2
        return rows, max(min(fit if rows == 1 else self.nx, self.widest, self.nx), 1)

    def rows(self, count: int) -> int:
        """Return how many rows a band may have whose pixels have `count` groups in all integrations."""
        return self._rows(count * self.threads * _OF_A_BAND)

    def _rows(self, bytes_of_pixel: int) -> int:
        fit = _AVAILABLE // (self.nx * bytes_of_pixel) - _BESIDE
        return max(min(fit, self.highest, self.ny), 1)


def plan_stream(ny: int, nx: int, threads: int = 1) -> StreamPlan:
    """Return the plan for frames of a size, and at most so many runs or bands at a time.

    There are fewer threads where a shortest run for each would not fit into memory.

    Examples
    --------
    >>> plan = plan_stream(2048, 2048)
    >>> plan.groups, plan.band(108), plan.band(1080), plan.band(10000)
    (13, (64, 2048), (4, 2048), (1, 439))
    >>> plan = plan_stream(2048, 2048, threads=2)
    >>> plan.groups, plan.band(108), plan.band(108, iterated=True)
    (5, (36, 2048), (13, 2048))
    >>> plan_stream(2048, 2048, threads=16).threads
    2
    """
    of_a_group = ny * nx * _OF_A_RUN
    threads = max(min(threads, _AVAILABLE // (of_a_group * (LEAST_RUN + _BESIDE))), 1)
    fit = _AVAILABLE // (of_a_group * threads) - _BESIDE
    return StreamPlan(groups=max(min(fit, _LONGEST_RUN), 1), ny=ny, nx=nx, threads=threads)


def require_memory(
    shape: tuple[int, ...],
    parameters: Mapping[str, Mapping[str, Any]],
    max_memory: int,
    where: str,
) -> None:
    """Refuse parameters with which a step has to hold an exposure that is too large for it.

    Parameters
    ----------
    shape : tuple of int
        Of SCI: (integrations, groups, y, x).
    parameters : mapping of str to mapping
        Parameters of steps that differ from jwst's defaults, by step.
    max_memory : int
        Bytes that the job may hold.
    where : str
        Name of the exposure's file.

    Raises
    ------
    EnvironmentFault
        If it does not fit; says how much is needed.
    """
    if not parameters.get("jump", {}).get("find_showers"):
        return
    pixels = shape[-2] * shape[-1]
    needed = _LIBRARIES + _REFERENCES * pixels + _WHOLE * math.prod(shape)
    if needed > max_memory:
        raise EnvironmentFault(
            f"{where}: with --step jump.find_showers=true the jump step holds the whole exposure in memory, "
            f"{needed // 1024**2} MiB for {' x '.join(map(str, shape))} values, but may use "
            f"{max_memory // 1024**2} MiB: leave the parameter out (jwst has it for MIRI), or raise "
            "--max-memory (DARKS_MAX_MEMORY) on a machine that has so much",
            where=where,
            setting="--step",
        )
