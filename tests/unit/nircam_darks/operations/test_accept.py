"""A person's word on a held reference: recorded once, seen by every reader, and never on a rejected one."""

import json
from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner

from nircam_darks.cli.main import app
from nircam_darks.operations.accept import accept_reference
from nircam_darks.operations.coverage import coverage_matrix
from nircam_darks.operations.status import store_status
from nircam_darks.report.summary import build_summary
from shared.catalog.products import product_at, walk
from shared.catalog.store_contents import read_stored
from shared.errors import BadInput
from shared.products.reference import ReferenceResults
from shared.products.sign_off import SIGN_OFF, SignOff
from shared.settings.stage import StageSettings
from shared.statistics.verdicts import Acceptance
from shared.store.local import LocalStore
from shared.store.manifest import MANIFEST
from support.report_store import FilledStore, a_key

FAILED = {"name": "dark current", "where": "detector", "passed": False, "value": -70.5, "limit": 5.0}


@pytest.fixture
def filled(tmp_path) -> FilledStore:
    return FilledStore(LocalStore(tmp_path), tmp_path)


def verified(filled: FilledStore, outcome: str, exposures=("jw1",), set_id: str = "0123456789abcdef") -> str:
    """Commit a reference whose verification came to `outcome`; return its path."""
    key = a_key()
    filled.reference(key, list(exposures), set_id=set_id)
    path = f"darkref/{key.slug}/{set_id}/bb"
    manifest = json.loads(filled.store.get(f"{path}/{MANIFEST}"))
    checks = [] if outcome == "accepted" else [FAILED | {"on_failure": outcome}]
    manifest["facts"]["verification"] = {
        "accepted": outcome == "accepted",
        "acceptance": outcome,
        "verdict": f"{outcome}: x",
        "amplifiers": [None],
        "detector": outcome == "accepted",
        "checks": checks,
        "measurements": 5,
    }
    filled.store.put(f"{path}/{MANIFEST}", json.dumps(manifest).encode())
    return path


def test_a_held_reference_is_accepted_with_who_when_and_why(filled):
    path = verified(filled, "held")
    assert product_at(filled.store, path).is_withheld
    # When
    begun = datetime.now(UTC)
    accept_reference(filled.store, "0123456789abcdef", "ana@here", "the leak is the lamp test of day 108")
    # Then the record lies beside the product
    recorded = SignOff.model_validate_json(filled.store.get(f"{path}/{SIGN_OFF}"))
    assert (recorded.by, recorded.reason) == ("ana@here", "the leak is the lamp test of day 108")
    assert begun <= recorded.time <= datetime.now(UTC)
    assert len(recorded.held_for) == 1
    # And whoever walks the store sees it as accepted
    (product,) = walk(filled.store, "darkref/", kind=ReferenceResults)
    assert (product.acceptance, product.is_withheld) == (Acceptance.ACCEPTED, False)
    assert product.sign_off == recorded
    # And what was measured stays as it was
    assert product.results.verification.outcome.decision == Acceptance.HELD


def test_every_reader_sees_the_hold_lifted(filled):
    key, settings = a_key(), StageSettings(store=filled.folder)
    filled.ramp(key, "jw1", integrations=5)
    verified(filled, "held")

    def seen():
        summary = build_summary(filled.store, filled.run())
        (entry,) = summary.references
        stored = read_stored(filled.store)
        (product,) = stored.of_kind("reference")
        cells = coverage_matrix(filled.store, settings, datetime.now(UTC)).cells
        (cell,) = [cell for cell in cells if cell.configurations]
        states = store_status(stored, settings, 10, datetime.now(UTC)).last_products
        (state,) = [each for each in states if each.kind == "reference"]
        return summary.all_well, entry.accepted, product.withheld, len(cell.held_references), state.is_off

    assert seen() == (False, False, True, 1, True)
    accept_reference(filled.store, key.slug, "ana", "fine")
    assert seen() == (True, True, False, 0, False)


@pytest.mark.parametrize("outcome", ["accepted", "rejected"])
def test_only_a_hold_can_be_lifted(filled, outcome):
    path = verified(filled, outcome)
    with pytest.raises(BadInput):
        accept_reference(filled.store, "0123456789abcdef", "ana", "please")
    assert f"{path}/{SIGN_OFF}" not in set(filled.store.list("darkref/"))


def test_a_second_word_and_an_unknown_set_are_refused(filled):
    path = verified(filled, "held")
    with pytest.raises(BadInput):
        accept_reference(filled.store, "no such set", "ana", "fine")
    accept_reference(filled.store, "0123456789abcdef", "ana", "fine")
    with pytest.raises(BadInput):
        accept_reference(filled.store, "0123456789abcdef", "bo", "fine as well")
    assert SignOff.model_validate_json(filled.store.get(f"{path}/{SIGN_OFF}")).by == "ana"


def test_a_configuration_names_a_set_only_where_one_is_held(filled):
    verified(filled, "held", ["jw1"], "one")
    verified(filled, "held", ["jw2"], "two")
    with pytest.raises(BadInput):
        accept_reference(filled.store, a_key().slug, "ana", "fine")
    assert accept_reference(filled.store, "two", "ana", "fine").set_id == "two"
    assert accept_reference(filled.store, a_key().slug, "ana", "fine").set_id == "one"


def test_the_command_records_and_needs_a_reason(filled):
    verified(filled, "held")
    asked = ["accept", "0123456789abcdef", "--store", str(filled.folder), "--by", "ana"]
    assert CliRunner().invoke(app, asked).exit_code != 0
    done = CliRunner().invoke(app, [*asked, "--reason", "known leak"])
    assert done.exit_code == 0, done.output
    assert "known leak" in done.output


def test_a_held_reference_supersedes_none_until_it_is_accepted(filled):
    key = a_key()
    small = verified(filled, "accepted", ["jw1"], "small")
    large = verified(filled, "held", ["jw1", "jw2"], "large")

    def current():
        (configuration,) = store_status(
            read_stored(filled.store), StageSettings(store=filled.folder), 10, datetime.now(UTC)
        ).configurations
        return {each.path: each.superseded_by for each in configuration.references}

    assert current() == {small: None, large: None}
    accept_reference(filled.store, "large", "ana", "fine")
    assert current() == {small: large, large: None}
    assert key.slug
