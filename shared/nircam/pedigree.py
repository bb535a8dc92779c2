"""Where data come from: a simulation, the ground, or flight.

Short, because it stands on nothing and three services need it: ingest records it for a ramp, darkref and
noise write it into their files.
"""

SIMULATION = "SIMULATION"
GROUND = "GROUND"
INFLIGHT = "INFLIGHT"
#: JWST was launched on 2021-12-25; MJD of that day. What was exposed earlier was exposed on the ground.
LAUNCH_MJD = 59573.0


def pedigree_of_data(simulated: bool, end_mjd: float) -> str:
    """Return the PEDIGREE of data, without the dates that CRDS wants after INFLIGHT.

    Parameters
    ----------
    simulated : bool
    end_mjd : float
        When the last of the data were taken, MJD (UTC).

    Returns
    -------
    str
        ``"SIMULATION"``, ``"GROUND"`` if all of them are from before the launch, or ``"INFLIGHT"``.

    Examples
    --------
    >>> pedigree_of_data(False, 58000.0)
    'GROUND'
    """
    if simulated:
        return SIMULATION
    return GROUND if end_mjd < LAUNCH_MJD else INFLIGHT
