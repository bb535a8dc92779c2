"""What the header of a file tells before it is announced."""

from nircam_darks.operations.candidates import peek
from shared.settings.stage import StageSettings
from support.ingest_exposures import write_exposure


def test_the_configuration_is_that_of_the_truncated_exposure(tmp_path):
    long = write_exposure(tmp_path / "jw1_nrca3_uncal.fits", ngroups=6)
    short = write_exposure(tmp_path / "jw2_nrca3_uncal.fits", ngroups=5)
    settings = StageSettings(store=tmp_path / "store", truncate=5)
    assert peek(long).configuration != peek(short).configuration
    assert peek(long, settings).configuration == peek(short, settings).configuration
    assert peek(long, settings).configuration == peek(short).configuration
