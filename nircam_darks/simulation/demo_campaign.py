"""The campaign of `make demo`: what NRC-09 asks for, in small."""

from pathlib import Path

from services.simulation.plan import SimulationPlan


def demo_plans() -> list[SimulationPlan]:
    """Return a set for temporal noise, an NRC-09 subarray, and a full frame for its dark current."""
    return [
        SimulationPlan("NRCA1", "SUB320", ngroups=30, exposures=12),
        SimulationPlan("NRCB1", "SUB160", ngroups=40, nints=5, exposures=2),
        SimulationPlan("NRCALONG", "FULL", ngroups=10, exposures=2, snowballs=1),
    ]


def cut_short(exposure: Path) -> Path:
    """Put a truncated copy beside an exposure, as an interrupted download leaves one; return its path."""
    broken = exposure.with_name(exposure.name.replace("_00001_", "_00099_"))
    broken.write_bytes(exposure.read_bytes()[:200_000])
    return broken
