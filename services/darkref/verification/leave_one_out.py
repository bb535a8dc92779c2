"""Try a dark on an exposure that is not in it: what remains after jwst's dark_current step.

The subtraction is the step's own (`stcal.dark_current.dark_sub.do_correction`, which
``jwst.dark_current.DarkCurrentStep`` calls; called directly it needs no CRDS cache). It gets a `RampModel`
and a `DarkModel` of a band of rows at a time, which makes no difference, as it treats every pixel by itself.

The groups of each integration and pixel before its first bad one count. The first group is subtracted from
the others: an integration starts wherever the reset leaves it (kTC noise, a common level of 10 or 20 DN,
settling of 20 e-), which the dark does not predict and the slope of a ramp does not see.

- Mean residual: a pixel's mean over the later groups and integrations; median over an amplifier's science
  pixels, because undetected hits and hot pixels are no fault of the amplifier.
- Rise: the residual of the last group, of pixels without a bad group; median likewise. It shows a wrong rate.
- CDS noise: the variance of a pixel over the pairs of groups (0,1), (2,3), ...; median over pixels, corrected
  for the median of a chi-square; before and after the subtraction. A mean over N integrations adds 1/N of the
  variance, so that ``sqrt(1 + 1/N)`` times the noise before is expected after.
- Read noise: CDS noise before, over sqrt(2).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray
from scipy import stats

from services.darkref.reference_file.reader import bands, native, read_model_ramp
from shared.nircam.configuration import ConfigurationKey
from shared.nircam.dq import BAD_GROUP_FLAGS, PixelFlag
from shared.nircam.geometry import amplifiers, science_pixels
from shared.products.reference import AmplifierResidual, LeaveOneOutResult
from shared.ramps.ramp import Ramp
from shared.statistics.robust import median_and_sigma


def measure_residuals(
    reference: Path, ramp: Ramp, key: ConfigurationKey, exposure: str, n_valid: float
) -> LeaveOneOutResult:
    """Run the dark_current step with a reference on an exposure, in bands of rows, and measure the residuals.

    Parameters
    ----------
    reference : Path
        A dark of the same pixels, built without this exposure; a RAPID dark serves every pattern.
    ramp : Ramp
        As ingest leaves it: SCI, GROUPDQ, PIXELDQ.
    key : ConfigurationKey
        Of the ramp.
    exposure : str
        Its name.
    n_valid : float
        Median number of integrations behind a (group, pixel) of the dark.

    Raises
    ------
    ValueError
        If the step would skip the ramp, because the groups of the dark have more frames.
    """
    integrations = ramp.shape("SCI")[0]
    planes = _Planes((key.subsize2, key.subsize1))
    with fits.open(reference, memmap=False) as hdus:
        header, dark, quality = hdus[0].header, hdus["SCI"], hdus["DQ"].data
        longest = max(dark.shape[0], key.ngroups)
        for rows in bands((longest, key.subsize2, key.subsize1)):
            band = native(dark.section[:, rows, :])
            for index in range(integrations):
                science = ramp.read("SCI", index, rows=rows)
                flags = ramp.read("GROUPDQ", index, rows=rows)
                bad = ramp.read_image("PIXELDQ", rows) if ramp.has("PIXELDQ") else quality[rows] * 0
                residual, bad = subtract_dark((science, flags, bad), (band, quality[rows]), key, header)
                unused = np.bitwise_or.accumulate(flags & BAD_GROUP_FLAGS.mask, axis=0) != 0
                unused |= (bad & PixelFlag.DO_NOT_USE.mask) != 0
                planes.add(rows, index, science, residual, ~unused)
    science = science_pixels(key)
    modelled = read_model_ramp(reference, science.shape)
    return LeaveOneOutResult(
        exposure=exposure,
        readpatt=key.readpatt,
        nframes=key.nframes,
        integrations=integrations,
        measurements=n_valid,
        amplifiers=[
            planes.amplifier(number, columns, science_pixels(key))
            for number, columns in enumerate(amplifiers(key), start=1)
        ],
        model_share=float(np.mean(modelled[science])) if science.any() else 0.0,
    )


def subtract_dark(
    ramp: tuple[NDArray[Any], NDArray[Any], NDArray[Any]],
    dark: tuple[NDArray[np.float32], NDArray[Any]],
    key: ConfigurationKey,
    header: fits.Header,
) -> tuple[NDArray[np.float32], NDArray[Any]]:
    """Subtract a dark from one integration as the dark_current step does.

    Parameters
    ----------
    ramp : (SCI, GROUPDQ, PIXELDQ)
        3D (groups, y, x) DN, 3D and 2D.
    dark : (SCI, DQ)
        3D (groups, y, x) DN and 2D.
    key : ConfigurationKey
        Of the ramp.
    header : Header
        Primary header of the dark, for NFRAMES, NGROUPS, GROUPGAP.

    Returns
    -------
    (ndarray, ndarray)
        SCI, 3D, DN, and PIXELDQ, 2D, after the step.
    """
    from stcal.dark_current.dark_sub import do_correction
    from stdatamodels.jwst.datamodels import DarkModel, RampModel

    science, flags, bad = ramp
    with (
        RampModel(
            data=science[np.newaxis], groupdq=flags[np.newaxis], pixeldq=bad.astype(np.uint32)
        ) as model,
        DarkModel(data=dark[0].copy(), dq=dark[1].astype(np.uint32)) as subtracted,
    ):
        model.meta.exposure.nframes, model.meta.exposure.groupgap = key.nframes, key.groupgap
        subtracted.meta.exposure.nframes = int(header["NFRAMES"])
        subtracted.meta.exposure.ngroups = int(header["NGROUPS"])
        subtracted.meta.exposure.groupgap = int(header["GROUPGAP"])
        corrected, _ = do_correction(model, subtracted)
        if corrected.cal_step != "COMPLETE":
            raise ValueError(
                f"the dark_current step is {corrected.cal_step}: the reference has NFRAMES "
                f"{header['NFRAMES']}, GROUPGAP {header['GROUPGAP']}, the exposure {key.nframes}, "
                f"{key.groupgap}; only a dark of as many or fewer can be subtracted"
            )
        return corrected.data[0], corrected.pixeldq


@dataclass
class _Pairs:
    """Running sums of the differences of pairs of groups, per pixel."""

    total: NDArray[np.float64]
    square: NDArray[np.float64]

    def noise(self, counts: NDArray[np.int32], chosen: NDArray[np.bool_]) -> float | None:
        chosen = chosen & (counts >= 2)
        if not chosen.any():
            return None
        n, total = counts[chosen], self.total[chosen]
        variance = (self.square[chosen] - total**2 / n) / (n - 1)
        freedom = np.arange(1, n.max())
        middle = np.concatenate([[1.0, 1.0], stats.chi2.median(freedom) / freedom])
        return float(np.sqrt(np.median(variance / middle[n])))


class _Planes:
    def __init__(self, shape: tuple[int, int]) -> None:
        self.total = np.zeros(shape)
        self.groups = np.zeros(shape, np.int32)
        self.rise = np.zeros(shape)
        self.rises = np.zeros(shape, np.int32)
        self.last = np.full(shape, np.nan)
        self.last_rise = np.full(shape, np.nan)
        self.pairs = np.zeros(shape, np.int32)
        self.before = _Pairs(np.zeros(shape), np.zeros(shape))
        self.after = _Pairs(np.zeros(shape), np.zeros(shape))

    def add(
        self,
        rows: slice,
        integration: int,
        science: NDArray[Any],
        residual: NDArray[np.float32],
        used: NDArray[np.bool_],
    ) -> None:
        used = used & np.isfinite(residual)
        # No later group is used without the first.
        later = used[1:] & used[0]
        levels = residual[1:].astype(float) - residual[0]
        self.total[rows] += np.where(later, levels, 0).sum(axis=0)
        self.groups[rows] += later.sum(axis=0, dtype=np.int32)
        whole = used.all(axis=0)
        rise = np.where(whole, residual[-1].astype(float) - residual[0], 0)
        self.rise[rows] += rise
        self.rises[rows] += whole
        if integration == 0:
            self.last[rows] = np.where(whole, residual[-1], np.nan)
            self.last_rise[rows] = np.where(whole, rise, np.nan)
        even = len(science) // 2 * 2
        both = used[1:even:2] & used[:even:2]
        self.pairs[rows] += both.sum(axis=0, dtype=np.int32)
        for pairs, cube in ((self.before, science), (self.after, residual)):
            difference = np.where(both, cube[1:even:2].astype(float) - cube[:even:2], 0)
            pairs.total[rows] += difference.sum(axis=0)
            pairs.square[rows] += (difference**2).sum(axis=0)

    def amplifier(self, number: int, columns: slice, science: NDArray[np.bool_]) -> AmplifierResidual:
        mine = np.zeros_like(science)
        mine[:, columns] = science[:, columns]
        seen, whole = mine & (self.groups > 0), mine & (self.rises > 0)
        before = self.before.noise(self.pairs, mine)
        return AmplifierResidual(
            amplifier=number,
            pixels=int(seen.sum()),
            mean_residual_dn=_median(self.total[seen] / self.groups[seen]),
            rise_dn=_median(self.rise[whole] / self.rises[whole]),
            read_noise_dn=None if before is None else before / np.sqrt(2),
            cds_before_dn=before,
            cds_after_dn=self.after.noise(self.pairs, mine),
            scatter_dn=_scatter(self.last[mine]),
            rise_scatter_dn=_scatter(self.last_rise[mine]),
        )


def _median(values: NDArray[Any]) -> float | None:
    return float(np.median(values)) if values.size else None


def _scatter(values: NDArray[Any]) -> float | None:
    values = values[np.isfinite(values)]
    if values.size < 2:
        return None
    return median_and_sigma(values)[1]
