"""Plans: what the instrument can do, and the refusals of what it cannot."""

import gzip
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from services.simulation.plan import (
    SimulationPlan,
    frame_time,
    require_one_detector_each,
    subarrays,
)
from shared.detectors import FULL_FRAME, detectors
from shared.errors import BadInput

SIAF = Path(__file__).parents[3] / "shared/data/nircam_config/NIRCam_SIAF_PRDOPSSOC-075.xml.gz"


@pytest.mark.parametrize(
    ("columns", "rows", "outputs", "seconds"),
    # JWST user documentation, "NIRCam Detector Subarrays".
    [
        (2048, 2048, 4, 10.73677),
        (2048, 256, 4, 1.34669),
        (640, 640, 1, 4.18584),
        (400, 400, 1, 1.65624),
        (320, 320, 1, 1.06904),
        (160, 160, 1, 0.27864),
        (64, 64, 1, 0.05016),
    ],
)
def test_frame_times_are_those_of_the_documentation(columns, rows, outputs, seconds):
    assert frame_time(columns, rows, outputs) == pytest.approx(seconds, abs=1e-9)


def test_every_detector_has_the_full_frame_and_every_subarray_lies_on_its_detector():
    for name in detectors():
        assert subarrays()[name, "FULL"].noutputs == 4
    for subarray in subarrays().values():
        assert 1 <= subarray.substrt1 <= FULL_FRAME + 1 - subarray.subsize1
        assert 1 <= subarray.substrt2 <= FULL_FRAME + 1 - subarray.subsize2


@pytest.mark.skipif(not SIAF.exists(), reason=f"{SIAF} is absent: it comes with the shared data")
def test_subarray_sizes_are_those_of_the_siaf():
    # Given the sizes of the SIAF's apertures, by detector and subarray name
    with gzip.open(SIAF) as file:
        entries = ElementTree.parse(file).getroot().iter("SiafEntry")
        sizes = {
            entry.findtext("AperName"): (int(entry.findtext("XSciSize")), int(entry.findtext("YSciSize")))
            for entry in entries
            if entry.findtext("XSciSize")
        }
    checked = 0
    for (detector, name), subarray in subarrays().items():
        aperture = re.sub("LONG$", "5", detector) + f"_{name}"
        if aperture in sizes:
            # Then ours are the same
            assert sizes[aperture] == (subarray.subsize1, subarray.subsize2), aperture
            checked += 1
    assert checked > 20


@pytest.mark.parametrize(
    ("changes", "check", "words"),
    [
        ({"detector": "NRCC1"}, "detector", "NRCALONG"),
        ({"subarray": "SUB400P"}, "subarray", "SUB640"),
        ({"readpatt": "FAST"}, "readpatt", "MEDIUM8"),
        ({"readpatt": "BRIGHT2", "ngroups": 11}, "ngroups", "2..10"),
        ({"ngroups": 109}, "ngroups", "2..108"),
        ({"ngroups": 1}, "ngroups", "2..108"),
        ({"nints": 0}, "nints", "at least 1"),
        ({"exposures": 0}, "exposures", "at least 1"),
        ({"seed": -1}, "seed", "at least 0"),
        ({"noutputs": 4}, "noutputs", "through 1 output"),
        ({"scene": "CALM"}, "scene", "SUNMIN, SUNMAX, FLARES"),
        ({"cosmic_ray_rate": float("nan")}, "cosmic_ray_rate", "finite"),
        ({"cosmic_ray_rate": -1.0}, "cosmic_ray_rate", "0 or more"),
        ({"program": "1062"}, "program", "five digits"),
        ({"start": "yesterday"}, "start", "2022-04-18"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line_that_says_what_can(changes, check, words):
    with pytest.raises(BadInput) as refusal:
        SimulationPlan(**({"detector": "NRCA1", "subarray": "SUB320"} | changes))
    assert refusal.value.check == check
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_one_detector_has_one_seed():
    plans = [SimulationPlan("NRCA1", seed=1), SimulationPlan("NRCA1", "SUB640", seed=2)]
    with pytest.raises(BadInput, match="NRCA1 is asked for with seeds 1 and 2"):
        require_one_detector_each(plans)
    with pytest.raises(BadInput, match="nothing to simulate"):
        require_one_detector_each([])
