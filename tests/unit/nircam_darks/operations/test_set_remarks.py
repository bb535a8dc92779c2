"""What is said where exposures of one configuration form more than one set."""

from nircam_darks.operations.set_remarks import different_calibrations, odd_lengths
from shared.products.ramp import RampMetadata
from shared.settings.stage import StageSettings
from support.arrivals import DictStore, Exposure, Ingest
from support.configurations import configuration


def test_the_exposure_of_another_length_is_named_with_the_cure() -> None:
    # Given three exposures of eight groups and one of seven, and another configuration of five
    exposures = [(configuration(ngroups=8), f"jw{n}.fits") for n in range(3)]
    exposures += [(configuration(ngroups=7), "jw3.fits")]
    exposures += [(configuration(ngroups=5, detector="NRCA1"), "jw4.fits")]
    # When
    [sentence] = odd_lengths(exposures)
    # Then the odd exposure and the option are named
    assert "jw3.fits" in sentence
    assert "--truncate 7" in sentence
    assert "NRCA1" not in sentence


def test_exposures_of_one_length_are_no_matter() -> None:
    assert odd_lengths((configuration(ngroups=8), f"jw{n}.fits") for n in range(3)) == []
    assert odd_lengths([(None, "x.fits")]) == []


def ramp(name: str, **before: str) -> RampMetadata:
    bench = Ingest(DictStore(), StageSettings(store="s3://test"))
    manifest = bench.ramp(Exposure(name, before=tuple(before.items()) if before else None))
    return RampMetadata.model_validate(manifest.results)


def test_ramps_of_another_calibration_are_named_with_what_they_were_made() -> None:
    # Given two raw exposures, and two that were calibrated elsewhere, each in its own way
    ramps = [ramp("a"), ramp("b"), ramp("c", CAL_VER="1.4.6"), ramp("d", CAL_VER="1.18.0", mask="m.fits")]
    # When
    sentences = different_calibrations(ramps)
    # Then each of these is named with its values
    assert len(sentences) == 2
    assert "d_uncal.fits calibrated with CAL_VER 1.18.0, mask m.fits" in sentences[0]
    assert "c_uncal.fits calibrated with CAL_VER 1.4.6" in sentences[1]
    # and there is nothing to say of the others
    assert different_calibrations(ramps[:2]) == []
