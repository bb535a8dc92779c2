"""When an exposure can have been taken, and how long it can have lasted.

In a module of its own because a header, a file on the laptop and an exposure in the store are held to the
same bounds: one odd time would put every later exposure into the set of an earlier campaign.
"""

from datetime import date

#: MJD of the first day of 2000 and of 2100: every ground test and every flight of NIRCam lies between.
FIRST_MJD, LAST_MJD = 51544.0, 88069.0
#: Besides its integrations an exposure has resets between them, and waits for the telescope: this factor of
#: the integrations, and this many days, are ample.
_FACTOR, _OVERHEAD = 2.0, 1.0 / 24.0
_SECONDS_A_DAY = 86400.0
#: MJD of day 1 of `date.toordinal`.
_FIRST_ORDINAL = -678576.0


def is_plausible_mjd(mjd: float) -> bool:
    """Return whether an exposure may have been taken then; False for NaN."""
    return FIRST_MJD <= mjd < LAST_MJD


def mjd_of_date(day: date) -> float:
    """Return the MJD at which a day begins.

    Examples
    --------
    >>> mjd_of_date(date(2022, 4, 11))
    59680.0
    """
    return day.toordinal() + _FIRST_ORDINAL


def longest_days(integrations: int, groups: int, group_time: float) -> float:
    """Return the longest time in days that an exposure can have taken.

    Parameters
    ----------
    integrations, groups : int
        NINTS and NGROUPS.
    group_time : float
        TGROUP, s.
    """
    return _FACTOR * integrations * (groups + 1) * group_time / _SECONDS_A_DAY + _OVERHEAD


def shortest_days(integrations: int, groups: int, group_time: float) -> float:
    """Return half the time in days that its groups take, the first excepted: no exposure is shorter.

    Parameters are those of `longest_days`.
    """
    return 0.5 * integrations * (groups - 1) * group_time / _SECONDS_A_DAY
