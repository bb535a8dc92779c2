"""Manifests of earlier versions: read as they were written, and never by the words of their verdicts."""

import json
from typing import Any

import pytest

from shared.catalog.products import read_results
from shared.catalog.series_products import of_exposure_noise, of_reference, of_set_noise
from shared.products.figures import FigureResults, figures_of
from shared.products.noise import ExposureNoiseResults, SetNoiseResults
from shared.products.reference import ReferenceResults
from shared.statistics.verdicts import VerdictState
from shared.store.manifest import Manifest
from support.paths import MANIFESTS

MODELS = {
    "reference": ReferenceResults,
    "set-noise": SetNoiseResults,
    "exposure-noise": ExposureNoiseResults,
}


def stored(product: str) -> tuple[Manifest, FigureResults]:
    manifest = Manifest.model_validate_json((MANIFESTS / f"{product}-1.0.json").read_bytes())
    return manifest, read_results(MODELS[product], manifest.results)


def differences(written: Any, read: Any, where: str = "") -> list[str]:
    """Return where what was written is no longer what is read; NaN is written as null."""
    if isinstance(written, dict):
        return [place for key in written for place in differences(written[key], read[key], f"{where}/{key}")]
    if isinstance(written, list):
        pairs = enumerate(zip(written, read, strict=True))
        return [place for n, (one, other) in pairs for place in differences(one, other, f"{where}/{n}")]
    return [] if written == read else [where]


@pytest.mark.parametrize("product", MODELS)
def test_nothing_of_an_earlier_manifest_is_lost(product: str) -> None:
    manifest, results = stored(product)
    assert differences(manifest.results, json.loads(results.model_dump_json())) == []


@pytest.mark.parametrize("product", MODELS)
def test_an_earlier_verdict_is_a_reason_and_not_a_state(product: str) -> None:
    _, results = stored(product)
    figures = figures_of(results)
    assert figures
    for name, figure in figures.items():
        verdict = figure.comparison
        assert verdict.state in (VerdictState.NOT_COMPARED, VerdictState.NOT_ENOUGH), name
        assert not verdict.is_off


def test_the_sentence_of_an_earlier_verdict_is_kept() -> None:
    _, results = stored("set-noise")
    assert isinstance(results, SetNoiseResults)
    assert results.cds_noise.verdict.startswith("within (13.188")
    assert results.cds_noise.comparison.reason == results.cds_noise.verdict
    assert results.verdicts == {}


def test_earlier_products_are_followed_in_time() -> None:
    _, reference = stored("reference")
    _, noise = stored("set-noise")
    _, exposure = stored("exposure-noise")
    assert isinstance(reference, ReferenceResults)
    assert isinstance(noise, SetNoiseResults)
    assert isinstance(exposure, ExposureNoiseResults)
    quantities = {quantity for quantity, _, _ in of_reference(reference) + of_set_noise(noise)}
    assert {"dark rate", "CDS noise", "spatial effective noise", "temporal effective noise"} <= quantities
    assert {quantity for quantity, _, _ in of_exposure_noise(exposure)} == {"CDS noise", "jump rate", "hits"}


def test_the_checks_of_an_earlier_verification_are_counted() -> None:
    _, results = stored("reference")
    assert isinstance(results, ReferenceResults)
    assert results.verification is not None
    outcome = results.verification.outcome
    assert outcome.accepted
    assert outcome.checks == len(results.verification.checks)
    assert str(outcome) == results.verification.verdict
