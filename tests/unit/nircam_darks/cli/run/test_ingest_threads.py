"""Jobs that have no exposure of their own leave their processors to the threads of the others."""

from pathlib import Path

import pytest

from nircam_darks.cli.run.local_run import ingest_threads
from shared.settings.stage import StageSettings


@pytest.mark.parametrize(
    ("given", "jobs", "exposures", "expected"),
    [
        (1, 2, 1, 2),
        (1, 2, 2, 1),
        (1, 8, 3, 2),
        (1, 2, 100, 1),
        (1, 2, 0, 2),
        # What was set is not lowered, and no job gets more threads than the setting allows.
        (4, 2, 10, 4),
        (1, 64, 1, 16),
    ],
)
def test_processors_are_shared(given: int, jobs: int, exposures: int, expected: int) -> None:
    settings = StageSettings(store=Path("results"), ingest_threads=given)
    assert ingest_threads(settings, jobs, exposures) == expected
