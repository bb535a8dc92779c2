"""A dark against an exposure that is not in it: what jwst's dark_current step leaves of the exposure.

The subtraction is the step's own (`stcal.dark_current.dark_sub.do_correction`, which is what
``jwst.dark_current.DarkCurrentStep`` calls; called directly it needs no CRDS cache), on `RampModel` and
`DarkModel` of a band of rows: pixels do not know of each other there, so the bands do not show.

Of each integration and pixel, the groups before the first one with a flag count.

- Mean residual: the pixel's mean over groups and integrations, median over an amplifier's science pixels.
  Median, as hits that were not detected and hot pixels are no fault of the amplifier.
- Rise: residual of the last group less that of the first, of pixels without a flag; median likewise. What
  a wrong rate does, and free of pedestals.
- CDS noise: per pixel the variance over the pairs of groups (0,1), (2,3), ..., median over pixels, corrected
  for the median of a chi-square; before and after the subtraction. A mean over N integrations brings
  1/N of the variance with it, so ``sqrt(1 + 1/N)`` times the noise before is expected after.
- Read noise: CDS noise before, over sqrt(2).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray
from scipy import stats

from services.darkref.flight_kernels import ENDS_USE
from services.darkref.reference_planes import bands, native
from services.darkref.verification_products import AmplifierResidual, LeftOut
from shared.configuration import ConfigurationKey
from shared.geometry import amplifiers, science_pixels
from shared.medians import SIGMA_PER_MAD
from shared.ramps import Ramp

_DO_NOT_USE = 1


def subtract(
    reference: Path, ramp: Ramp, key: ConfigurationKey, exposure: str, measurements: float
) -> LeftOut:
    """Run the dark_current step with a reference on an exposure, in bands of rows, and measure what is left.

    Parameters
    ----------
    reference : Path
        A dark of the same pixels, made without this exposure; RAPID serves every pattern.
    ramp : Ramp
        As ingest leaves it: SCI, GROUPDQ, PIXELDQ.
    key : ConfigurationKey
        Of the ramp.
    exposure : str
        Its name.
    measurements : float
        Median number of integrations in a (group, pixel) of the dark.

    Raises
    ------
    ValueError
        If the step would leave the ramp as it is, because the dark's groups have more frames.
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
                left, bad = step((science, flags, bad), (band, quality[rows]), key, header)
                unused = np.bitwise_or.accumulate(flags & ENDS_USE, axis=0) != 0
                unused |= (bad & _DO_NOT_USE) != 0
                planes.add(rows, index, science, left, ~unused)
    return LeftOut(
        exposure=exposure,
        readpatt=key.readpatt,
        nframes=key.nframes,
        integrations=integrations,
        measurements=measurements,
        amplifiers=[
            planes.amplifier(number, columns, science_pixels(key))
            for number, columns in enumerate(amplifiers(key), start=1)
        ],
    )


def step(
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
        done, _ = do_correction(model, subtracted)
        if done.cal_step != "COMPLETE":
            raise ValueError(
                f"the dark_current step is {done.cal_step}: the reference has NFRAMES {header['NFRAMES']}, "
                f"GROUPGAP {header['GROUPGAP']}, the exposure {key.nframes}, {key.groupgap}; only a dark of "
                "fewer or as many serves it"
            )
        return done.data[0], done.pixeldq


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
        left: NDArray[np.float32],
        used: NDArray[np.bool_],
    ) -> None:
        used = used & np.isfinite(left)
        self.total[rows] += np.where(used, left, 0).sum(axis=0, dtype=float)
        self.groups[rows] += used.sum(axis=0, dtype=np.int32)
        whole = used.all(axis=0)
        rise = np.where(whole, left[-1].astype(float) - left[0], 0)
        self.rise[rows] += rise
        self.rises[rows] += whole
        if integration == 0:
            self.last[rows] = np.where(whole, left[-1], np.nan)
            self.last_rise[rows] = np.where(whole, rise, np.nan)
        even = len(science) // 2 * 2
        both = used[1:even:2] & used[:even:2]
        self.pairs[rows] += both.sum(axis=0, dtype=np.int32)
        for pairs, cube in ((self.before, science), (self.after, left)):
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
    return float(SIGMA_PER_MAD * np.median(np.abs(values - np.median(values))))
