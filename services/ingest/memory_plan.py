"""How much of an exposure is in memory at once while it is calibrated; the ramp never depends on it."""

from dataclasses import dataclass

#: Bytes for the pieces of the exposure. Python, jwst and the reference files of a full frame need about as
#: much again; together they stay below 2 GiB.
_AVAILABLE = 640 * 1024**2
#: Bytes for each pixel and group of a run: SCI, GROUPDQ and what the steps hold beside them.
_OF_A_RUN = 10
#: Bytes for each pixel and group of a band: SCI, the same in electrons, its differences in double precision.
_OF_A_BAND = 34
#: Longer runs and higher bands gain no speed; bands that stay in the processor's cache are faster.
_LONGEST_RUN, _HIGHEST_BAND = 16, 64
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
    highest : int
        Bound on the rows of a band.
    threads : int
        Runs or bands that are worked on at a time.
    """

    groups: int
    ny: int
    nx: int
    highest: int = _HIGHEST_BAND
    threads: int = 1

    def rows(self, count: int) -> int:
        """Return how many rows a band may have whose pixels have `count` groups in all integrations."""
        fit = _AVAILABLE // (self.nx * count * _OF_A_BAND * self.threads) - _BESIDE
        return max(min(fit, self.highest, self.ny), 1)


def plan_stream(ny: int, nx: int, threads: int = 1) -> StreamPlan:
    """Return the plan for frames of a size, and so many runs or bands at a time.

    Examples
    --------
    >>> plan = plan_stream(2048, 2048)
    >>> plan.groups, plan.rows(108), plan.rows(1080)
    (13, 64, 5)
    >>> plan = plan_stream(2048, 2048, threads=2)
    >>> plan.groups, plan.rows(108)
    (5, 41)
    """
    fit = _AVAILABLE // (ny * nx * _OF_A_RUN * threads) - _BESIDE
    return StreamPlan(groups=max(min(fit, _LONGEST_RUN), 1), ny=ny, nx=nx, threads=threads)
