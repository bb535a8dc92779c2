"""Results of a flight-mode set as later versions give them, drawn here and called simulated."""

import numpy as np

from shared.nircam.dq import PixelFlag
from shared.products.jumps import ChargeHistogram, JumpEvents
from shared.products.noise import NOISE_SPECTRUM, NoiseSpectrum, TheoryFit, Transient
from shared.statistics.verdicts import Value, measured_against, not_compared
from support.report_store import FilledStore, fits_bytes


def quality_plane(key, random):
    """A DQ plane with some of every flag, and how many."""
    dq = np.zeros((key.subsize2, key.subsize1), np.uint32)
    counts = {}
    for name, bit, number in (
        ("unreliable", PixelFlag.UNRELIABLE_DARK.mask, 40),
        ("warm", PixelFlag.WARM.mask, 12),
        ("rc", PixelFlag.RC.mask, 5),
        ("hot", PixelFlag.HOT.mask, 8),
        ("dead", PixelFlag.DEAD.mask, 2),
    ):
        at = random.choice(dq.size, number, replace=False)
        dq.flat[at] |= bit
        counts[name] = number
    return dq, counts


def flight_reference(filled: FilledStore, key, names, **changes):
    dq, counts = quality_plane(key, filled.random)
    results = {
        "mode": "flight",
        "clip": "median/MAD, 1 round, 3.9 sigma at 10 integrations",
        "err_is": "standard error of the mean",
        "min_measurements": 3,
        "unreliable_pixels": 40,
        "flagged_pixels": {"science": 3600, "few_measurements": 30, "noisy": 10, **counts},
        "flag_thresholds": {
            "hot_sigma": 5.0,
            "warm_sigma": 3.0,
            "fraction": 0.75,
            "hot_e_per_s": 0.5,
            "warm_e_per_s": 0.1,
            "rc_sigma": 5.0,
            "rc_excess": 0.5,
            "dead_noise": 0.1,
            "noisy_noise": 3.0,
            "min_measurements": 3,
        },
        "differences": [
            "DIFFERENCES: 12 pixels newly hot, 3 no longer.",
            "Rate +0.31 +- 0.52 e- per 1000 s.",
        ],
    }
    return filled.reference(key, names, dark=fits_bytes("DQ", dq), **(results | changes))


def events(n: int, random) -> JumpEvents:
    edges = np.geomspace(20, 2e5, 31)
    centres = np.sqrt(edges[1:] * edges[:-1])
    shape = np.exp(-0.5 * (np.log(centres / 900) / 1.3) ** 2)
    result = random.poisson(14 * shape)
    noise = random.poisson(6 * np.exp(-0.5 * (np.log(centres / 45) / 0.3) ** 2))
    hits = float(result.sum() - noise.sum())
    exposure = 0.5 * 200.0
    return JumpEvents(
        start_mjd=59698.5 + n * 0.003,
        mid_mjd=59698.501 + n * 0.003,
        end_mjd=59698.502 + n * 0.003,
        events=int(result.sum()),
        negative_events=int(noise.sum()),
        unmeasured_events=2,
        expected_false_events=11.0,
        faint_single_events=6,
        merged_events=0.4,
        hits=hits,
        hits_low=hits - 12,
        hits_high=hits + 13,
        area_cm2=0.5,
        live_seconds=200.0,
        lost_percent=0.8,
        hits_per_cm2_s=hits / exposure,
        hits_per_cm2_s_error=12 / exposure,
        hits_per_cm2_s_low=(hits - 12) / exposure,
        hits_per_cm2_s_high=(hits + 13) / exposure,
        expected_hits_per_cm2_s=(2.0, 5.0),
        verdict="within (1.3 +- 0.1, expected 2 to 5)",
        threshold_e=62.0,
        pixels_per_event=4.1,
        median_charge_e=880.0,
        median_charge_error_e=61.0,
        saturated_events=1,
        charge=ChargeHistogram(
            edges_e=list(edges), events=[int(v) for v in result], mirrored=[int(v) for v in noise]
        ),
        large_events=1,
        large_events_per_cm2_s=0.01,
        large_events_per_cm2_s_low=0.002,
        large_events_per_cm2_s_high=0.03,
        expected_large_events=0.8,
        core_events=3,
        notes=["Charge over flagged pixels only."],
    )


def spectrum() -> bytes:
    frequencies = np.geomspace(0.1, 5e4, 40)
    white, power = 8e-4, 0.8
    curves = [list(white * (1 + 0.1 * a) + power / frequencies) for a in range(4)]
    common = list(0.4 * power / frequencies - 2e-6)
    return (
        NoiseSpectrum(
            pixel_seconds=1e-5,
            line_overhead=12,
            line_seconds=524e-5,
            frames=90,
            frequencies_hz=list(frequencies),
            modes=[max(1, int(f)) for f in frequencies],
            amplifiers=curves,
            common=common,
            fitted_amplifiers=curves,
            fitted_common=list(0.4 * power / frequencies),
            common_power_e2=0.3,
            common_power_e2_error=0.02,
            own_power_e2=[0.5] * 4,
            own_power_e2_error=[0.03] * 4,
            white_e2=[80.0] * 4,
            white_e2_error=[0.4] * 4,
        )
        .model_dump_json()
        .encode()
    )


def flight_noise(filled: FilledStore, key, names, **changes):
    groups = np.arange(2, key.ngroups + 1)
    plain = filled.set_noise(key, names, temporal=True, set_id="draft")
    filled.manifests.pop()
    stability = plain.stability.model_copy(
        update={
            "transients": [
                Transient(
                    what="first group",
                    unit="DN",
                    value=3.2,
                    error=0.4,
                    sigmas=8.0,
                    said="the first group of each integration lies 3.2 +- 0.4 DN above the others' line",
                ),
                Transient(what="first integration", unit="DN", said="one integration an exposure"),
            ]
        }
    )
    results = {
        "ktc_noise": measured_against(Value(37.2, 0.3), Value(37.0, 3.0)),
        "ktc_noise_by_amplifier_e": [36.8, 37.1, 37.4, 37.5],
        "correlated_noise": not_compared(Value(3.1, 0.2), "no table"),
        "uncorrelated_noise": not_compared(Value(4.4, 0.2), "no table"),
        "uncorrelated_noise_by_amplifier_e": [4.1, 4.3, 4.5, 4.7],
        "white_noise": not_compared(Value(8.9, 0.02), "no table"),
        "reference_cds_noise": not_compared(Value(9.9, 0.1), "no table"),
        "theory_fit": TheoryFit(
            p0_squared=2.1,
            p0_squared_error=0.2,
            p0=1.45,
            p0_error=0.07,
            p1=9.6,
            p1_error=0.5,
            usual_p0=1.5,
            usual_p1=10.0,
            held_read_noise_e=10.0,
            held_dark_e_per_s=0.034,
            curve=list(15.0 / np.sqrt(groups / 2)),
            scatter=0.004,
            said="p0 1.45 +- 0.07, p1 9.6 +- 0.5",
        ),
        "stability": stability,
    }
    return filled.set_noise(key, names, objects=[(NOISE_SPECTRUM, spectrum())], **(results | changes))


def flight_set(filled: FilledStore, key, exposures=10, stem="jw01062001001_02101"):
    """Commit everything that a set of flight mode gives; return the names of its exposures."""
    names = [f"{stem}_{n:05d}_{key.detector.lower()}" for n in range(1, exposures + 1)]
    for n, name in enumerate(names):
        filled.ramp(key, name, n)
        filled.exposure_noise(key, name, n, events=events(n, filled.random))
    flight_reference(filled, key, names)
    flight_noise(filled, key, names)
    return names
