"""What an error carries beside its sentence, and that it reaches the worker from a job's process."""

import pickle

import pytest

from shared.errors import BadInput, EnvironmentFault


@pytest.mark.parametrize(
    "error",
    [
        BadInput("EXP_TYPE", "x.fits: no dark", where="x.fits", keyword="EXP_TYPE"),
        EnvironmentFault("no certificate", where="ca.pem", setting="DARKS_S3_CA"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_keeps_what_it_carries_over_a_pipe(error):
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)
