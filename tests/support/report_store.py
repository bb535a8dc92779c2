"""A store filled with products that look like a run's, every number drawn here and called simulated."""

import io
import json
import math
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from astropy.io import fits

from nircam_darks.report.exposure_entries import Failure
from nircam_darks.report.summary import RunResult
from shared.nircam.configuration import ConfigurationKey
from shared.nircam.geometry import amplifiers, science_pixels
from shared.products.noise import (
    CDS_MAP,
    PIXEL_RAMPS,
    EffectiveNoiseCurve,
    ExposureNoiseResults,
    PixelRamp,
    SetNoiseResults,
    Stability,
    Trend,
)
from shared.products.ramp import RAMP, RampMetadata, RejectionMetadata, StepRecord
from shared.products.reference import CONTRIBUTIONS, DARK_CURRENT_MAP, ReferenceResults
from shared.settings.stage import StageSettings
from shared.statistics.verdicts import Measured, Value, compare, measured_against, not_compared, not_measured
from shared.store.manifest import MANIFEST, Draft

STEPS = ("dq_init", "saturation", "superbias", "refpix", "linearity", "jump", "persistence")
START = 59698.5


def a_key(**changes) -> ConfigurationKey:
    values = {
        "detector": "NRCALONG",
        "subarray": "SUB64P",
        "substrt1": 1,
        "substrt2": 1,
        "subsize1": 64,
        "subsize2": 64,
        "noutputs": 4,
        "readpatt": "RAPID",
        "nframes": 1,
        "groupgap": 0,
        "tframe": 10.73677,
        "ngroups": 20,
        "exp_type": "NRC_DARK",
    }
    return ConfigurationKey(**(values | changes))


def fits_bytes(name: str, data: np.ndarray) -> bytes:
    out = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(data, name=name)]).writeto(out)
    return out.getvalue()


@dataclass
class FilledStore:
    """The store, and what `run` would know of it."""

    store: object
    folder: Path
    files: list = field(default_factory=list)
    manifests: list = field(default_factory=list)
    rejected: dict = field(default_factory=dict)
    failures: list = field(default_factory=list)
    simulated: bool = True
    seed: int = 1

    def __post_init__(self):
        self.random = np.random.default_rng(self.seed)

    def run(self, **settings) -> RunResult:
        started = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
        return RunResult(
            files=self.files,
            manifests=self.manifests,
            rejected=self.rejected,
            failures=self.failures,
            settings=StageSettings(store=self.folder, **settings),
            started=started,
            finished=started + timedelta(seconds=154),
        )

    def _commit(self, product, path, results, objects=(), listed=True, **timings):
        draft = Draft(self.store, product, path, [], {}, {product: "1"})
        for name, data in objects:
            draft.add(name, data)
        draft.commit(results, timings=timings)
        if listed:
            self.manifests.append(f"{path}/{MANIFEST}")

    def ramp(self, key, exposure, n=0, integrations=1, file=None, **changes):
        path = self.folder / (file or f"{exposure}_uncal.fits")
        self.files.append((path, exposure))
        results = RampMetadata(
            exposure_id=exposure,
            uri=path.as_uri(),
            file=path.name,
            configuration=key.slug,
            key=key,
            integrations=integrations,
            start_mjd=START + n * 0.003,
            end_mjd=START + n * 0.003 + integrations * key.ngroups * key.group_time / 86400,
            date_obs="2022-04-29",
            gain=1.82,
            simulated=self.simulated,
            pedigree="SIMULATION" if self.simulated else "INFLIGHT",
            steps=[StepRecord(name=s, status="complete", seconds=0.3 + 0.4 * i) for i, s in enumerate(STEPS)],
            references={
                t: f"jwst_nircam_{t}_sim_nrcalong.fits"
                for t in ("mask", "saturation", "superbias", "linearity", "gain", "readnoise")
            },
            persistence_from=None if n == 0 else "the one before",
            flagged_fraction=0.0021,
            jwst_version="3.0.0",
            crds_context="jwst_9999.pmap",
        )
        results = results.model_copy(update=changes)
        self._commit("ramp", f"ingest/{key.slug}/{exposure}/aa", results, [(RAMP, b"")])
        return results

    def reject(self, file, exposure, check, reason, configuration=None):
        path = self.folder / file
        self.files.append((path, exposure))
        self.rejected[path.as_uri()] = reason
        results = RejectionMetadata(
            exposure_id=exposure,
            uri=path.as_uri(),
            file=file,
            configuration=configuration,
            check=check,
            reason=reason,
        )
        self._commit("rejection", f"ingest/rejected/{exposure}/{check}", results, listed=False)

    def fail(self, service, reason, **about):
        self.failures.append(Failure(service=service, reason=reason, **about))

    def reference(self, key, exposures, rate=26.83, error=0.41, set_id="5e7", dark=b"a dark", **changes):
        shape = (key.subsize2, key.subsize1)
        groups = np.arange(key.ngroups)
        image = self.random.normal(rate, 9.0, shape).astype("f4")
        hot = self.random.random(shape) < 0.004
        image[hot] += self.random.exponential(900, hot.sum())
        image[~science_pixels(key)] = self.random.normal(0, 4, (~science_pixels(key)).sum())
        left = np.full((3, *shape), len(exposures), "u2")
        for _ in range(max(30, image.size // 700)):
            y, x = self.random.integers(0, shape[0] - 1), self.random.integers(0, shape[1] - 2)
            left[1:, y : y + 2, x : x + 3] -= 1
        yy, xx = np.ogrid[: shape[0], : shape[1]]
        left[2, (yy - shape[0] * 0.7) ** 2 + (xx - shape[1] * 0.3) ** 2 < (min(shape) * 0.06) ** 2] -= 1
        slope = rate / 1000 / 1.82 * key.group_time
        results = ReferenceResults(
            configuration=key.slug,
            key=key,
            set_id=set_id,
            mode="reference",
            file=f"{key.detector.lower()}_dark.fits",
            exposures=exposures,
            integrations=len(exposures),
            gain=1.82,
            pedigree="SIMULATION",
            simulated=self.simulated,
            dark_current_e_per_ks=rate,
            dark_current_error_e_per_ks=error,
            expected_e_per_ks=27.0,
            expected_sigma_e_per_ks=5.0,
            verdict=str(compare(Value(26.83, 0.41), Value(27.0, 5.0))),
            comparison=compare(Value(26.83, 0.41), Value(27.0, 5.0)),
            dark_current_by_integration=list(self.random.normal(rate, 1.4, len(exposures))),
            integration_mjd=[START + n * 0.003 for n in range(len(exposures))],
            amplifier_dark_current_e_per_ks=[26.4, 27.1, None, 26.9],
            mean_ramp_dn=list(2.1 + slope * groups + self.random.normal(0, 0.06, key.ngroups)),
            mean_ramp_error_dn=[0.1] * key.ngroups,
            group_time=key.group_time,
            hot_pixels=int(hot.sum()),
            unmeasured=12,
            clipped_fraction=0.0009,
            groups_per_window=20,
            rows_per_window=64,
            ramps=[],
        )
        results = results.model_copy(update=changes)
        objects = [
            (results.file, dark),
            (CONTRIBUTIONS, fits_bytes("NMEAS", left)),
            (DARK_CURRENT_MAP, fits_bytes("DARKCURR", image)),
        ]
        self._commit("reference", f"darkref/{key.slug}/{set_id}/bb", results, objects, combine=8.2, write=1.1)
        return results

    def exposure_noise(self, key, exposure, n=0, **changes):
        groups = key.ngroups
        flags = self.random.poisson(14, groups)
        flags[0] = 0
        per_group = 26.8 / 1000 / 1.82 * key.group_time
        pedestal = self.random.normal(0, 20)
        medians = pedestal + per_group * np.arange(groups) - 1.1 * np.exp(-np.arange(groups) / 1.5)
        results = ExposureNoiseResults(
            configuration=key.slug,
            exposure_id=exposure,
            jump_flags=int(flags.sum()) + 31,
            jump_flags_error=11.2,
            jump_pixel_percent_error=0.31,
            science_jump_flags_error=10.9,
            science_jump_pixel_percent_error=0.32,
            jump_events=88,
            science_flags_per_group=[int(f) for f in flags],
            expected_false_positive_flags=3.4,
            live_seconds=(groups - 1) * key.group_time,
            jump_pixels_judged=measured_against(Value(3.35, 0.32), Value(1.5, 0.5)),
            amplifier_median_dn=[[[level + a for a in range(key.noutputs)] for level in medians]],
            jump_pixels=int(flags.sum()),
            jump_pixel_percent=3.21,
            science_jump_flags=int(flags.sum()),
            science_jump_pixels=int(flags.sum()) - 9,
            science_jump_pixel_percent=3.35,
            flags_per_group=[int(f) for f in flags],
            expected_false_positive_percent=0.12,
            median_dn=[list(medians + self.random.normal(0, 0.15, groups))],
            cds_noise_e=[float(self.random.normal(13.25, 0.05))],
            integration_mjd=[START + n * 0.003],
            seconds_per_integration=(groups - 1) * key.group_time,
            simulated=self.simulated,
        )
        results = results.model_copy(update=changes)
        ramps = [
            self._pixel_ramp(groups, x, y, per_group, jump=(x == 31))
            for y in (30, 31, 32)
            for x in (30, 31, 32)
        ]
        ramps.append(ramps[4])
        body = json.dumps([ramp.model_dump() for ramp in ramps]).encode()
        self._commit("exposure-noise", f"noise/{key.slug}/{exposure}/cc", results, [(PIXEL_RAMPS, body)])
        return results

    def _pixel_ramp(self, groups, x, y, per_group, jump):
        signal = 14650 + per_group * np.arange(groups) + self.random.normal(0, 5.1, groups)
        at = groups // 2
        if jump:
            signal[at:] += 240 / (1 + abs(y - 31))
        good = at if jump else groups
        slope, intercept = np.polyfit(np.arange(good), signal[:good], 1)
        return PixelRamp(
            x=x,
            y=y,
            integration=0,
            signal_dn=list(signal),
            jumps=[at] if jump else [],
            slope=float(slope),
            intercept=float(intercept),
        )

    def set_noise(self, key, exposures, temporal=True, set_id="5e7", objects=(), **changes):
        n = np.arange(2, key.ngroups + 1)
        seconds = (n - 1) * key.group_time
        theory = np.sqrt(
            100 * 12 * (n - 1) / (n * (n + 1)) + 0.034 * seconds * 6 * (n**2 + 1) / (5 * n * (n + 1)) + 8
        )
        spatial, steady = theory * 1.04 + 0.2, theory * 0.99
        wobble = [1 + 0.01 * a for a in (-2, 0, 1, 3)][: key.noutputs]
        shape = (key.subsize2, key.subsize1)
        image = (13.25 * np.sqrt(self.random.chisquare(11, shape) / 11)).astype("f4")
        for columns, factor in zip(amplifiers(key), wobble, strict=True):
            image[:, columns] *= factor
        image[5, 7] = math.nan
        refusal = f"refused: {len(exposures)} ramps, at least 10 are needed"
        results = SetNoiseResults(
            configuration=key.slug,
            key=key,
            set_id=set_id,
            exposures=exposures,
            ramps=len(exposures),
            gain=1.82,
            simulated=self.simulated,
            cds_noise=measured_against(Value(13.31, 0.021), Value(13.25, 0.08)),
            cds_noise_by_amplifier_e=[13.0 * w for w in wobble],
            cds_noise_median_removed=not_compared(Value(12.92, 0.02), "no table"),
            cds_noise_median_removed_by_amplifier_e=[12.9 * w for w in wobble],
            science_jump_flags=1190,
            science_jump_flags_error=34.5,
            science_jump_pixel_percent=measured_against(Value(3.4, 0.09), Value(1.5, 0.5)),
            expected_false_positive_percent=0.12,
            expected_false_positive_flags=41.0,
            notes=["Groups after a jump are left out", "The ddof=0 bias of 10 ramps is corrected."],
            stability=self._stability(key, exposures),
            spatial_effective_noise=Measured.of(
                Value(float(spatial[-1]), 0.04), compare(Value(8.85, 0.04), Value(9.28, 0.12))
            ),
            temporal_effective_noise=measured_against(Value(float(steady[-1]), 0.05), Value(9.28, 0.12))
            if temporal
            else not_measured(refusal),
            jump_flags=1204,
            jump_flags_error=34.7,
            jump_pixel_percent=not_compared(Value(3.31, 0.08), "nothing is expected of it"),
            curve=EffectiveNoiseCurve(
                groups=list(n),
                seconds=list(seconds),
                theory=list(theory),
                spatial=list(spatial),
                spatial_by_amplifier=[list(spatial * w) for w in wobble],
                reference_pixels=list(theory * 0.7),
                temporal=list(steady) if temporal else None,
                temporal_by_amplifier=[list(steady * w) for w in wobble] if temporal else None,
                temporal_refusal=None if temporal else refusal,
            ),
            verdict="3.4 sigma below expected (spatial effective noise)",
        )
        results = results.model_copy(update=changes)
        self._commit(
            "set-noise",
            f"noise/{key.slug}/{set_id}/dd",
            results,
            [(CDS_MAP, fits_bytes("CDSNOISE", image)), *objects],
            noise=3.9,
        )
        return results

    def _stability(self, key, exposures):
        count, groups = len(exposures), key.ngroups
        levels = self.random.normal(0, 20, (count, 1)) + 0.16 * np.arange(groups)
        levels += self.random.normal(0, 0.15, (count, groups))
        by_amplifier = levels[:, :, None] + self.random.normal(0, 3, (count, 1, key.noutputs))
        trend = Trend(slope=-0.42, slope_error=0.61, scatter=1.3)
        return Stability(
            integration_mjd=[START + n * 0.003 for n in range(count)],
            exposure_ids=exposures,
            median_dn=levels.tolist(),
            amplifier_median_dn=by_amplifier.tolist(),
            dark_rate_e_per_ks=list(self.random.normal(26.8, 1.4, count)),
            dark_rate_error_e_per_ks=[0.9] * count,
            cds_noise_e=list(self.random.normal(13.25, 0.05, count)),
            dark_rate_per_hour=trend if count > 2 else None,
            cds_noise_per_hour=trend if count > 2 else None,
            amplifier_pedestal_per_hour=[trend if count > 2 else None] * key.noutputs,
            amplifier_ramp_per_second=[Trend(slope=0.0147, slope_error=0.0004, scatter=0.03)] * key.noutputs,
        )

    def whole_set(self, key, exposures=12, set_id="5e7", temporal=None, stem="jw01062001001_02101"):
        """Commit everything that a healthy set of one integration an exposure gives."""
        names = [f"{stem}_{n:05d}_{key.detector.lower()}" for n in range(1, exposures + 1)]
        for n, name in enumerate(names):
            self.ramp(key, name, n)
            self.exposure_noise(key, name, n)
        self.reference(key, names, set_id=set_id)
        self.set_noise(key, names, exposures >= 10 if temporal is None else temporal, set_id=set_id)
        return names
