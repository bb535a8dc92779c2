"""Flags the groups inside a persistence window, with jwst's own code on the few pixels that it concerns.

This is the part of the calibration that has to wait for the exposures before (`services.ingest.persistence`),
so it has to be cheap. jwst's persistence step looks at each pixel by itself, but passes some ten times over
the whole frame for every group, 5 s for a full frame of 108 groups, and needs GROUPDQ in memory. A window can
open only where a group is saturated (or exceeds a threshold, if the step's parameters set one), and can be
open at the start only where the state says so. The step's code is therefore run on these pixels alone,
gathered into short rows; the result is bit for bit that of the whole frame.
"""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
from jwst.persistence.persistence import DataSet
from numpy.typing import NDArray

from services.ingest.persistence import PersistenceState
from shared.nircam.dq import GroupFlag

#: Groups of pixels that are gathered at once; jwst's code needs some ten bytes of memory for each.
_GATHERED = 16 * 1024**2


def window_openers(
    groupdq: NDArray[np.uint8], data: NDArray[np.float32] | None = None, threshold: float | None = None
) -> NDArray[np.bool_]:
    """Return the pixels in which an exposure may open a persistence window.

    Parameters
    ----------
    groupdq : ndarray of uint8, 4D (integration, group, y, x)
        Complete up to the jump step, which flags more groups as saturated; may be a memory map.
    data : ndarray of float32, 4D, optional
        SCI (DN); needed with a threshold.
    threshold : float, optional
        ``dn_threshold`` of jwst's step (DN).

    Returns
    -------
    ndarray of bool, 2D (y, x)
    """
    opens = np.zeros(groupdq.shape[2:], bool)
    for integration in range(groupdq.shape[0]):
        for group in range(groupdq.shape[1]):
            opens |= (groupdq[integration, group] & GroupFlag.SATURATED.mask) != 0
            if threshold is not None and data is not None:
                opens |= data[integration, group] > threshold
    return opens


def flag_persistence(
    step: Any,
    model: Any,
    groupdq: NDArray[np.uint8],
    openers: NDArray[np.bool_],
    before: PersistenceState | None,
    data: NDArray[np.float32] | None = None,
) -> PersistenceState:
    """Flag the groups inside a persistence window, and return the state that the exposure leaves.

    Parameters
    ----------
    step : PersistenceStep
        Of jwst, with its parameters: ``persistence_time`` (s), ``dn_threshold``, ``persistence_dnu``.
    model : datamodel
        Times of the exposure: ``meta.exposure`` and ``int_times``.
    groupdq : ndarray of uint8, 4D (integration, group, y, x)
        Changed in place; may be a memory map.
    openers : ndarray of bool, 2D (y, x)
        The pixels in which a window may open, see `window_openers`.
    before : PersistenceState or None
        The state at the start of the exposure, in its pixels.
    data : ndarray of float32, 4D, optional
        SCI (DN); needed if the step has a threshold.

    Returns
    -------
    PersistenceState
        In the exposure's pixels, row by row, as jwst's step writes it.
    """
    integrations, groups, ny, nx = groupdq.shape
    window_end = np.zeros((ny, nx))
    if before is not None:
        window_end[before.rows, before.columns] = before.window_end
    concerned = np.flatnonzero(openers | (window_end != 0))
    for pixels in _batches(concerned, integrations * groups):
        y, x = np.divmod(pixels, nx)
        row = SimpleNamespace(
            meta=model.meta,
            int_times=model.int_times,
            groupdq=groupdq[:, :, y, x][:, :, np.newaxis],
            # Without a threshold jwst asks only for the shape.
            data=np.broadcast_to(np.float32(0), (integrations, groups, 1, len(pixels)))
            if data is None
            else data[:, :, y, x][:, :, np.newaxis],
        )
        ends = window_end[y, x][np.newaxis]
        dataset = DataSet(row, None, step.persistence_time, step.dn_threshold, ends, step.persistence_dnu)
        dataset.do_all()
        groupdq[:, :, y, x] = row.groupdq[:, :, 0]
        window_end[y, x] = ends[0]
    rows, columns = np.nonzero(window_end)
    return PersistenceState(rows, columns, window_end[rows, columns])


def _batches(pixels: NDArray[np.int64], groups: int) -> Iterator[NDArray[np.int64]]:
    step = max(1, _GATHERED // groups)
    for start in range(0, len(pixels), step):
        yield pixels[start : start + step]
