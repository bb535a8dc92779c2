"""The exposures of one detector side by side: the same products as one after the other."""

import io
import random

import pytest
from rich.console import Console

from nircam_darks.cli.progress import StageBars
from nircam_darks.cli.run.local_run import run_local
from nircam_darks.operations.candidates import peek
from shared.products.ramp import RampMetadata
from shared.settings.stage import StageSettings
from shared.store.local import LocalStore
from shared.store.manifest import find_all
from support.ingest_exposures import (
    FRAME_TIME,
    SECOND,
    START_MJD,
    bench_on,
    write_exposure,
    write_references,
)
from support.same_products import essence

COUNT = 8
GAP = 30.0


@pytest.fixture
def darks(tmp_path, monkeypatch):
    """Write exposures that glow into the next; each long one is followed by a short one."""
    references = write_references(tmp_path / "references")
    bench_on(tmp_path, references, monkeypatch)
    files, start = [], START_MJD
    for number in range(COUNT):
        groups = 6 if number % 2 else 60
        files.append(
            write_exposure(
                tmp_path / "in" / f"jw{number + 1}_nrca3_uncal.fits",
                seed=number,
                ngroups=groups,
                nints=1,
                start_mjd=start,
                saturated=[(8 + 6 * number, 20)],
            )
        )
        start += (FRAME_TIME * groups + GAP) * SECOND
    return files, references


def run(files, out, references, jobs):
    candidates = [peek(file) for file in files]
    settings = StageSettings(store=out, overrides=references, persistence_time=1000, min_integrations=2)
    bars = StageBars(Console(file=io.StringIO()), len(candidates))
    outcome = run_local(candidates, out, settings, jobs, {}, bars)
    assert outcome.summary.failures == []
    return LocalStore(out)


@pytest.mark.timeout(600)
def test_two_jobs_in_any_order_make_what_one_makes_in_order_of_time(tmp_path, darks):
    # Given exposures that leave states for the next ones, run in strict order of time
    files, references = darks
    in_order = run(files, tmp_path / "one", references, jobs=1)

    # When they are run side by side, given in no order
    shuffled = random.Random(3).sample(files, COUNT)
    side_by_side = run(shuffled, tmp_path / "two", references, jobs=2)

    # Then every ramp began with the state of the exposure before it
    ramps = sorted(
        (
            RampMetadata.model_validate(m.results)
            for m in find_all(side_by_side, "ingest/")
            if m.product == "ramp"
        ),
        key=lambda ramp: ramp.start_mjd,
    )
    assert [ramp.persistence_from for ramp in ramps] == [
        None,
        *(f"jw{number}_nrca3" for number in range(1, COUNT)),
    ]
    assert all(ramp.persistence_pixels > 0 for ramp in ramps[1:])
    # And all products have the same keys, and the same bytes but for the time of their making
    expected = essence(in_order)
    assert len([path for path in expected if path.startswith("persistence/")]) == COUNT
    assert essence(side_by_side) == expected
