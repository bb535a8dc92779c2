"""The table of what NRC-09 asks for, against the instrument's own definitions."""

from collections import Counter
from xml.etree import ElementTree

from nircam_darks.operations.required_coverage import asked_configurations
from shared.nircam.detectors import detectors
from shared.nircam.subarrays import subarrays


def test_every_place_is_asked_for_once():
    asked = asked_configurations()
    assert max(Counter((one.detector, one.subarray, one.noutputs) for one in asked).values()) == 1
    assert {each.detector for each in asked} == set(detectors())
    assert [entry.detector for entry in asked] == sorted(one.detector for one in asked)


def test_ten_long_full_frames_a_detector_and_five_integrations_of_the_rest():
    asked = asked_configurations()
    assert {each.ramps for each in asked if each.subarray == "FULL"} == {10}
    assert {entry.ramps for entry in asked if entry.subarray != "FULL"} == {5}


def test_subarrays_lie_on_these_detectors_and_can_be_simulated():
    # Given the condensed definitions that the simulator has
    known = subarrays()
    asked = asked_configurations()
    assert {(each.detector, each.subarray) for each in asked} <= set(known)
    for each in asked:
        assert each.coronmsk == known[each.detector, each.subarray].coronmsk
        wide = known[each.detector, each.subarray].subsize1 == 2048
        assert each.noutputs in ((1, 4) if wide else (1,))


def test_the_table_agrees_with_the_definitions_of_the_prd(shared_data):
    folder = shared_data / "nircam_config"
    on: dict[str, set[str]] = {}
    for subarray in ElementTree.parse(folder / "NIRCam_Subarrays.xml").iter("Subarray"):
        names = {each.text for each in subarray.iter("NRCDetector")}
        on[subarray.findtext("SubarrayName")] = {f"NRC{name.replace('5', 'LONG')}" for name in names}
    outputs: dict[str, set[int]] = {}
    for line in (folder / "NIRCam_subarray_definitions.list").read_text().splitlines():
        aperture, *rest = line.split() or [""]
        # Apertures of a mask on the full frame are of no dark of their own.
        if len(rest) == 2 and rest[1].isdigit() and "_FULL_" not in aperture:
            outputs.setdefault(rest[0].upper(), set()).add(int(rest[1]))
    asked = asked_configurations()
    for name in {entry.subarray for entry in asked}:
        places = [one for one in asked if one.subarray == name]
        assert {place.detector for place in places} == on[name], name
        # 0 leaves it open.
        [known] = outputs[name]
        assert {one.noutputs for one in places} == ({1, 4} if known == 0 else {known}), name
