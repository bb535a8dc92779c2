"""The darks that NRC-09 requests, by detector, subarray and number of outputs."""

import csv
import functools
from dataclasses import dataclass
from importlib import resources


@dataclass(frozen=True)
class AskedConfiguration:
    """One cell of the matrix.

    Attributes
    ----------
    coronmsk : str
        Expected CORONMSK of its exposures.
    ramps : int
        Integrations requested.
    """

    detector: str
    subarray: str
    noutputs: int
    coronmsk: str
    ramps: int


@functools.cache
def asked_configurations() -> tuple[AskedConfiguration, ...]:
    """Return what NRC-09 (APT program 1062) requests, by detector and in the program's order of subarrays.

    The table is ``nrc09_configurations.csv`` beside this file. Its sources: for subarrays and numbers of
    ramps the program's plan (ten long full-frame darks per module, and 5 integrations of each RAPID
    subarray); for the subarrays of each detector NIRCam_Subarrays.xml of the PRD; for the outputs
    NIRCam_subarray_definitions.list of the PRD. The latter leaves them open for SUBGRISM only, which can be
    read through four outputs or one. Both are requested, since the program is to check every combination of
    DETECTOR, CORONMSK and NOUTPUTS, and CRDS selects a dark by NOUTPUTS.
    """
    text = resources.files("nircam_darks.operations").joinpath("nrc09_configurations.csv").read_text()
    configurations = [
        AskedConfiguration(
            detector, row["subarray"], int(row["noutputs"]), row["coronmsk"], int(row["ramps"])
        )
        for row in csv.DictReader(text.splitlines())
        for detector in row["detectors"].split()
    ]
    return tuple(sorted(configurations, key=lambda configuration: configuration.detector))
