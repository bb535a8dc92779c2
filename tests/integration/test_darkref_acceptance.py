"""Good sets of every detector are accepted; what is wrong is held or rejected, and by the check meant for it.

The ramps are those of the independent generator.
"""

import dataclasses

import numpy as np
import pytest

from services.darkref.verification import verify
from shared.nircam.detectors import detectors
from shared.runtime.handler import StageContext
from shared.settings.stage import StageSettings
from shared.statistics.verdicts import Acceptance
from shared.store.local import LocalStore
from support.darkref_building import built
from support.independent_detector import Scene
from support.independent_files import commit_scene
from support.independent_ramps import expose_set


@pytest.fixture(autouse=True)
def no_certify(monkeypatch):
    # Five seconds each, and the rules of CRDS have tests of their own.
    monkeypatch.setattr(verify, "violations", lambda path: [])


def verified(tmp_path, scene, spoil=None, **settings):
    """Build the dark of a scene, its raw frames spoilt; return its verification."""
    exposures = expose_set(scene)
    if spoil is not None:
        exposures = [
            dataclasses.replace(each, raw=np.clip(np.round(spoil(each)), 0, 65535).astype(np.uint16))
            for each in exposures
        ]
    store = LocalStore(tmp_path / "store")
    context = StageContext(store, StageSettings(store=tmp_path / "store", verify=True, **settings))
    _, results = built(context, commit_scene(scene, store, tmp_path / "files", exposures))
    return results.verification


def failed(verification):
    return {check.name for check in verification.checks if check.passed is False and check.required}


def small(detector="NRCALONG", **other):
    values = {"rows": 64, "columns": 64, "ngroups": 24, "exposures": 6, "hits": 5.0}
    return Scene(detector=detector, **(values | other))


@pytest.mark.parametrize("first_row", [1, 1201], ids=["reference pixels", "none"])
@pytest.mark.parametrize("detector", sorted(detectors()))
def test_a_good_set_of_each_detector_is_accepted(tmp_path, detector, first_row):
    # Given its own read noise and dark current, a common level, and an outside scatter of levels
    scene = small(detector, first_row=first_row, level=10.0, level_scatter=20.0)
    # When
    verification = verified(tmp_path, scene)
    # Then
    assert verification.acceptance == Acceptance.ACCEPTED, verification.verdict


def test_settling_after_the_reset_is_no_fault_of_the_dark(tmp_path):
    verification = verified(tmp_path, small(settling=20.0, settling_time=20.0))
    assert verification.acceptance == Acceptance.ACCEPTED, verification.verdict


def groups(each):
    return np.arange(each.raw.shape[1])[:, None, None]


def light(each, image):
    """Add light to a raw exposure: `image` in e-/s, with its Poisson noise."""
    scene = each.detector.scene
    rng = np.random.default_rng(each.number)
    photons = rng.poisson(np.broadcast_to(image, scene.shape) * scene.group_time, each.raw.shape)
    return each.raw + photons.cumsum(axis=1) / scene.own.gain


def falling(each):
    return each.raw - 3.0 * groups(each)


def leak(each):
    return light(each, 0.3)


def gradient(each):
    return light(each, np.linspace(0, 0.6, each.raw.shape[-1])[None, :])


def stars(each):
    rng = np.random.default_rng(7)
    y, x = np.mgrid[:64, :64]
    image = np.zeros((64, 64))
    for row, column in rng.uniform(4, 60, (8, 2)):
        image += 20 * np.exp(-((y - row) ** 2 + (x - column) ** 2) / 2 / 1.2**2)
    return light(each, image)


@pytest.mark.parametrize(
    ("spoil", "names"),
    [
        (falling, {"dark current"}),
        (leak, {"dark current"}),
        (gradient, {"gradient along x"}),
        (stars, {"sources"}),
    ],
)
def test_what_is_unlike_a_dark_is_held_with_the_reason(tmp_path, spoil, names):
    verification = verified(tmp_path, small(), spoil)
    assert verification.acceptance == Acceptance.HELD, verification.verdict
    assert names <= failed(verification)
    assert not verification.accepted


def test_an_amplifier_that_differs_is_held_and_named(tmp_path):
    # Given four outputs, the second of which collects 0.2 e-/s more: 15 sigma of a pixel
    scene = small(outputs=4, columns=128, rows=64)

    def spoil(each):
        image = np.zeros(scene.shape)
        image[:, 32:64] = 0.2
        return light(each, image)

    # When
    verification = verified(tmp_path, scene, spoil)
    # Then
    assert verification.acceptance == Acceptance.HELD, verification.verdict
    apart = {c.where for c in verification.checks if c.passed is False and c.name.startswith("amplifier")}
    assert "amplifier 2" in apart


def test_a_dead_output_is_rejected(tmp_path):
    # Given four outputs, the second of which is saturated from the start
    scene = small(outputs=4, columns=128, rows=64)

    def spoil(each):
        raw = each.raw.astype(float)
        raw[..., 32:64] = 65535
        return raw

    # When
    verification = verified(tmp_path, scene, spoil)
    # Then three quarters of the pixels do not make up for it
    assert verification.acceptance == Acceptance.REJECTED
    wrong = [check for check in verification.checks if check.name == "unreliable pixels" and not check.passed]
    assert [(check.where, check.value) for check in wrong] == [("amplifier 2", 100.0)]


def test_two_integrations_are_enough_only_by_the_users_word(tmp_path):
    scene = small(exposures=2)
    assert "unreliable pixels" in failed(verified(tmp_path / "three", scene))
    verification = verified(tmp_path / "two", scene, min_valid=2)
    assert "unreliable pixels" not in failed(verification)
    assert verification.acceptance == Acceptance.ACCEPTED, verification.verdict


def test_noise_twice_as_large_is_rejected(tmp_path):
    # Also where too few integrations are left to leave an exposure out
    for exposures in (3, 6):
        verification = verified(tmp_path / str(exposures), small(cds=30.0, exposures=exposures))
        assert verification.acceptance == Acceptance.REJECTED
        assert "read noise" in failed(verification)


def test_charge_that_one_integration_alone_kept_is_no_source(tmp_path):
    # Given a halo that no flag covers in one of three integrations: 0.9 e-/s in their mean
    y, x = np.mgrid[:64, :64]
    halo = 2.7 * (np.hypot(y - 30, x - 40) < 5)

    def spoil(each):
        return light(each, halo) if each.number == 1 else each.raw

    # When
    verification = verified(tmp_path, small(exposures=3, hits=0.0), spoil)
    # Then
    assert "sources" not in failed(verification), verification.verdict
