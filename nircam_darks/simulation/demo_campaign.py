"""The campaign of `make demo`: NRC-09 on a small scale."""

from pathlib import Path

from nircam_darks.simulation.plan import SimulationPlan


def demo_plans() -> list[SimulationPlan]:
    """Return plans: a set for temporal noise, an NRC-09 subarray, and a full frame for its dark current.

    Each set has three integrations or more, since with fewer no pixel of its dark is reliable.
    """
    return [
        SimulationPlan("NRCA1", "SUB320", ngroups=30, exposures=12),
        SimulationPlan("NRCB1", "SUB160", ngroups=40, nints=5, exposures=2),
        SimulationPlan("NRCALONG", "FULL", ngroups=7, exposures=3, snowballs=1),
    ]


def cut_short(exposure: Path) -> Path:
    """Write a truncated copy beside an exposure, like an interrupted download; return its path."""
    broken = exposure.with_name(exposure.name.replace("_00001_", "_00099_"))
    broken.write_bytes(exposure.read_bytes()[:200_000])
    return broken
