"""What NRC-09 asks for: which darks of which detector, subarray and number of outputs."""

import csv
import functools
from dataclasses import dataclass
from importlib import resources


@dataclass(frozen=True)
class AskedConfiguration:
    """One place of the matrix.

    Attributes
    ----------
    coronmsk : str
        CORONMSK that its exposures are expected to have.
    ramps : int
        Integrations that are to be had.
    """

    detector: str
    subarray: str
    noutputs: int
    coronmsk: str
    ramps: int


@functools.cache
def asked_configurations() -> tuple[AskedConfiguration, ...]:
    """Return what NRC-09 (APT program 1062) asks for, by detector, then as the program lists subarrays.

    ``nrc09_configurations.csv`` beside this file holds it. Subarrays and numbers of ramps: the program's
    plan, per module ten long full-frame darks, and 5 integrations of each RAPID subarray. Which detector
    has which subarray: NIRCam_Subarrays.xml of the PRD. Outputs: NIRCam_subarray_definitions.list of the
    PRD, which leaves them open for SUBGRISM only: four or one; as the program is to check all of
    (DETECTOR, CORONMSK, NOUTPUTS), and CRDS selects a dark by NOUTPUTS, both are asked for.
    """
    text = resources.files("services.operations").joinpath("nrc09_configurations.csv").read_text()
    found = [
        AskedConfiguration(
            detector, row["subarray"], int(row["noutputs"]), row["coronmsk"], int(row["ramps"])
        )
        for row in csv.DictReader(text.splitlines())
        for detector in row["detectors"].split()
    ]
    return tuple(sorted(found, key=lambda one: one.detector))
