"""Configuration keys of small darks, for the tests of several stages."""

from typing import Any

from shared.nircam.configuration import ConfigurationKey


def configuration(
    ny: int = 64, nx: int = 64, ngroups: int = 6, detector: str = "NRCALONG", **other: Any
) -> ConfigurationKey:
    full = (ny, nx) == (2048, 2048)
    values: dict[str, Any] = {
        "detector": detector,
        "subarray": "FULL" if full else {64: "SUB64P", 160: "SUB160", 320: "SUB320"}.get(ny, "SUB640"),
        "substrt1": 1 if full else 101,
        "substrt2": 1 if full else 201,
        "subsize1": nx,
        "subsize2": ny,
        "noutputs": 4 if full else 1,
        "readpatt": "RAPID",
        "nframes": 1,
        "groupgap": 0,
        "tframe": 10.73677 if full else 4.18584,
        "ngroups": ngroups,
        "coronmsk": "NONE",
        "exp_type": "NRC_DARK",
    }
    return ConfigurationKey(**(values | other))
