"""What a run's summary says of every file, reference and set."""

import json
import math
from pathlib import Path
from typing import get_args

import pytest
from pydantic import ValidationError

from nircam_darks.report.exposure_entries import ExposureEntry
from nircam_darks.report.summary import (
    NoiseEntry,
    ReferenceEntry,
    RunResult,
    Summary,
    build_summary,
    write_summary,
)
from shared.catalog.products import RunProducts, read_results
from shared.store.local import LocalStore
from support.report_store import FilledStore, a_key

#: The names that the issue fixes, and what JSON may hold under each.
NUMBER = (int, float, type(None))
EXPOSURE = {
    "id": str,
    "file": str,
    "configuration": (str, type(None)),
    "status": str,
    "reason": (str, type(None)),
}
REFERENCE = {
    "configuration": str,
    "path": (str, type(None)),
    "mode": str,
    "exposures": int,
    "integrations": int,
    "dark_current_e_per_ks": NUMBER,
    "dark_current_error_e_per_ks": NUMBER,
    "expected_e_per_ks": NUMBER,
    "verdict": str,
}
NOISE = {
    "configuration": str,
    "ramps": int,
    "cds_noise_e": NUMBER,
    "spatial_effective_noise_e": NUMBER,
    "temporal_effective_noise_e": NUMBER,
    "jump_flags": (int, type(None)),
    "jump_pixel_percent": NUMBER,
    "verdict": str,
}


@pytest.fixture
def filled(tmp_path):
    return FilledStore(LocalStore(tmp_path / "store"), tmp_path)


def as_json(filled, **settings) -> dict:
    return json.loads(build_summary(filled.store, filled.run(**settings)).model_dump_json())


def test_has_exactly_the_names_and_types_that_the_issue_asks_for(filled, tmp_path):
    # Given a run with every kind of outcome
    filled.whole_set(a_key(), 10)
    filled.reject("bad.fits", "bad", "EXP_TYPE", "bad.fits: EXP_TYPE = 'FGS_ACQ1', not 'NRC_DARK'")
    # When its summary is written
    write_summary(build_summary(filled.store, filled.run()), tmp_path / "summary.json")
    document = json.loads((tmp_path / "summary.json").read_text())
    # Then every entry has every name, of its type
    for part, names in (("exposures", EXPOSURE), ("references", REFERENCE), ("noise", NOISE)):
        assert document[part]
        for entry in document[part]:
            for name, kinds in names.items():
                assert isinstance(entry[name], kinds), (part, name, entry[name])
    assert {entry["status"] for entry in document["exposures"]} == {"ingested", "rejected"}
    assert document["simulated"] is True
    assert {"ingested", "rejected"} < set(get_args(ExposureEntry.model_fields["status"].annotation))
    # And nothing else is left beside the file
    assert not list(tmp_path.glob(".summary*"))


def test_numbers_are_those_of_the_products(filled):
    names = filled.whole_set(a_key(), 10)
    output = as_json(filled)
    (reference,) = output["references"]
    assert (reference["dark_current_e_per_ks"], reference["dark_current_error_e_per_ks"]) == (26.83, 0.41)
    assert (reference["exposures"], reference["integrations"], reference["expected_e_per_ks"]) == (
        10,
        10,
        27.0,
    )
    assert reference["exposure_ids"] == names
    assert Path(reference["path"]).read_bytes() == b"a dark"
    (noise,) = output["noise"]
    assert (noise["ramps"], noise["cds_noise_e"], noise["cds_noise_error_e"]) == (10, 13.31, 0.021)
    assert (noise["jump_flags"], noise["jump_flags_error"]) == (1204, 34.7)
    assert (noise["jump_pixel_percent"], noise["jump_pixel_percent_error"]) == (3.31, 0.08)


def test_temporal_effective_noise_is_null_where_it_was_refused(filled):
    filled.whole_set(a_key(), 5)
    (noise,) = as_json(filled)["noise"]
    assert noise["temporal_effective_noise_e"] is None
    assert noise["temporal_effective_noise_error_e"] is None
    assert noise["spatial_effective_noise_e"] > 0


def test_every_file_has_one_entry_also_two_of_one_exposure(filled):
    # Given two files of one exposure, of which ingest refused the second, and one file with no answer
    key = a_key()
    filled.ramp(key, "jw1", file="jw1_uncal.fits")
    filled.reject(
        "jw1_jump.fits", "jw1", "duplicate", "jw1_jump.fits: a second file of exposure jw1", key.slug
    )
    filled.files.append((filled.folder / "lost.fits", "lost"))
    # When
    entries = as_json(filled)["exposures"]
    # Then
    assert [entry["file"].rpartition("/")[2] for entry in entries] == [
        "jw1_uncal.fits",
        "jw1_jump.fits",
        "lost.fits",
    ]
    assert [entry["status"] for entry in entries] == ["ingested", "rejected", "rejected"]
    assert entries[1]["reason"] == "jw1_jump.fits: a second file of exposure jw1"
    assert (entries[1]["configuration"], entries[1]["check"]) == (key.slug, "duplicate")
    assert "run the command again" in entries[2]["reason"]


def test_an_exposure_that_was_dead_lettered_is_rejected_with_the_reason(filled):
    path = filled.folder / "a b#1.fits"
    filled.files.append((path, "ab1"))
    filled.fail("ingest", "no CRDS cache: set CRDS_PATH", uri=path.as_uri())
    output = as_json(filled)
    assert [(e["status"], e["reason"]) for e in output["exposures"]] == [
        ("rejected", "no CRDS cache: set CRDS_PATH")
    ]
    assert output["failures"][0]["service"] == "ingest"


def test_files_that_were_moved_since_an_earlier_run_are_still_found(filled):
    # Given products that carry the address of an earlier folder
    key = a_key()
    old = filled.folder / "old"
    filled.ramp(key, "jw1", uri=(old / "jw1_uncal.fits").as_uri())
    filled.files.append((filled.folder / "cut.fits", "cut"))
    filled.rejected[(old / "cut.fits").as_uri()] = "cut.fits: truncated"
    # Then both are matched by what they are called
    assert [(e["status"], e["reason"]) for e in as_json(filled)["exposures"]] == [
        ("ingested", None),
        ("rejected", "cut.fits: truncated"),
    ]


def test_a_reference_that_was_not_built_is_there_with_the_reason(filled):
    # Given a set of one integration, which darkref refused
    key = a_key()
    filled.ramp(key, "jw1")
    filled.set_noise(key, ["jw1"], temporal=False)
    filled.fail("darkref", "set 5e7 has 1 integration", configuration=key.slug, set_id="5e7")
    # When
    (reference,) = as_json(filled)["references"]
    # Then
    assert reference["verdict"] == "not built: set 5e7 has 1 integration"
    assert reference["path"] is None
    assert [reference[n] for n in REFERENCE if n.endswith("_per_ks")] == [None, None, None]
    assert (reference["exposures"], reference["integrations"]) == (1, 1)


@pytest.mark.parametrize(
    ("least", "said"), [(2, "--min-integrations requires 2"), (1, "run the command again")]
)
def test_a_set_that_never_came_about_says_why(filled, least, said):
    filled.ramp(a_key(), "jw1")
    summary = as_json(filled, min_integrations=least)
    assert said in summary["references"][0]["verdict"]
    assert said in summary["noise"][0]["verdict"]
    assert summary["noise"][0]["jump_flags"] is None


def test_products_of_other_runs_in_the_same_store_do_not_count(filled):
    # Given a store with another run's set
    filled.whole_set(a_key(detector="NRCB1"), 3)
    filled.files, filled.manifests = [], []
    # When this run has a set of its own
    filled.whole_set(a_key(), 10)
    output = as_json(filled)
    # Then only that is told
    assert {entry["configuration"] for entry in output["references"] + output["noise"]} == {a_key().slug}


def test_a_set_that_a_larger_one_holds_is_superseded(filled):
    key = a_key()
    names = filled.whole_set(key, 10)
    filled.reference(key, names[:4], set_id="small")
    filled.set_noise(key, names[:4], temporal=False, set_id="small")
    output = as_json(filled)
    assert [entry["set_id"] for entry in output["references"] + output["noise"]] == ["5e7", "5e7"]


def test_nan_never_gets_into_the_json(filled):
    # Given products whose numbers could not be measured: NaN in memory, null in the manifest
    key = a_key()
    names = filled.whole_set(key, 3)
    filled.manifests = [m for m in filled.manifests if not m.startswith("darkref/")]
    filled.reference(key, names, rate=26.0, error=0.4, set_id="nan", dark_current_e_per_ks=math.nan)
    # When
    text = build_summary(filled.store, filled.run()).model_dump_json()
    # Then
    assert "NaN" not in text
    assert json.loads(text)["references"][0]["dark_current_e_per_ks"] is None


def test_facts_with_a_null_for_a_number_are_read_as_nan_and_other_faults_are_not_hidden(filled):
    results = filled.reference(a_key(), ["jw1"]).model_dump(mode="json")
    results["mean_ramp_dn"][2] = None
    read = read_results(type(filled.reference(a_key(), ["jw1"], set_id="2")), results)
    assert math.isnan(read.mean_ramp_dn[2])
    results["integrations"] = "many"
    with pytest.raises(ValidationError) as caught:
        read_results(type(read), results)
    assert caught.value.errors()[0]["loc"] == ("integrations",)


def test_a_manifest_that_is_gone_is_passed_over(filled):
    assert RunProducts.of(filled.store, ["ingest/none/such/aa/manifest.json"]) == RunProducts()


def test_an_empty_run_has_an_empty_summary(filled):
    run: RunResult = filled.run()
    summary: Summary = build_summary(filled.store, run)
    assert (summary.exposures, summary.references, summary.noise, summary.simulated) == ([], [], [], False)


def test_models_give_every_number_an_error():
    numbers = {
        n
        for n, f in (ReferenceEntry.model_fields | NoiseEntry.model_fields).items()
        if n.endswith(("_e", "_ks", "percent"))
    }
    values = {n for n in numbers if "error" not in n and "expected" not in n}
    assert values == {
        "dark_current_e_per_ks",
        "amplifier_dark_current_e_per_ks",
        "cds_noise_e",
        "spatial_effective_noise_e",
        "temporal_effective_noise_e",
        "jump_pixel_percent",
    }
    rates = {name for name in values if name.endswith("_per_ks")}
    assert {
        name.replace("_e_per_ks", "_error_e_per_ks") for name in rates
    } <= ReferenceEntry.model_fields.keys()
    for name in values - rates:
        stem = name.removesuffix("_e")
        assert {f"{stem}_error_e", f"{stem}_error"} & NoiseEntry.model_fields.keys()


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(filled, tmp_path, monkeypatch):
    target = tmp_path / "out" / "summary.json"
    target.parent.mkdir()
    target.write_text("old")
    monkeypatch.setattr("pathlib.Path.replace", lambda *_: (_ for _ in ()).throw(OSError("no space")))
    with pytest.raises(OSError):
        write_summary(build_summary(filled.store, filled.run()), target)
    assert [p.name for p in target.parent.iterdir()] == ["summary.json"]
    assert target.read_text() == "old"


@pytest.mark.parametrize(
    ("status", "well"), [("ingested", True), ("not needed", True), ("waiting", False), ("rejected", False)]
)
def test_a_run_went_well_unless_a_file_is_rejected_or_waits_for_segments(filled, status, well):
    summary = build_summary(filled.store, filled.run())
    entry = ExposureEntry(id="jw1", file="a.fits", configuration=None, status=status, reason=None)
    assert summary.model_copy(update={"exposures": [entry]}).all_well is well
