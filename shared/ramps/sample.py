"""Some groups of some integrations of a ramp, read as if they were a ramp of their own.

What looks at a whole exposure (`nircam-darks inspect`) looks at a large one through this window, with the
same functions.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import BadInput
from shared.ramps.ramp import Ramp


class RampSample(Ramp):
    """A ramp that shows only a sample of its groups; PIXELDQ and the headers are those of the file.

    Parameters
    ----------
    ramp : Ramp
        Its file is read; to close one of both is enough.
    planes : int
        How many groups to show, over all integrations: the largest number that does not exceed it, but three
        an integration where there are as many.

    Attributes
    ----------
    integrations, groups : list of int
        Those that are shown, ascending, 0-based: spread evenly, with the first and the last of both, and the
        second group. The same groups of every integration. All of them where they are not more than `planes`.

    Raises
    ------
    BadInput
        If SCI is missing, or is not 4-D (check ``"shape"``).
    """

    #: Most integrations of a sample: beyond, further groups tell more of an exposure.
    MOST_INTEGRATIONS = 8

    def __init__(self, ramp: Ramp, planes: int) -> None:
        super().__init__(ramp._reader, ramp.where)
        shape = super().shape("SCI")
        if len(shape) != 4:
            raise BadInput("shape", f"{self.where}: SCI has {len(shape)} axes, not 4")
        integrations, groups = self._whole = shape[:2]
        if integrations * groups <= planes:
            self.integrations, self.groups = list(range(integrations)), list(range(groups))
            return
        self.integrations = _spread(integrations, min(self.MOST_INTEGRATIONS, planes))
        least = max(3, planes // max(len(self.integrations), 1))
        self.groups = sorted({*_spread(groups, least - 1), *range(min(groups, 2))})

    @property
    def is_whole(self) -> bool:
        """True if nothing is left out."""
        return (len(self.integrations), len(self.groups)) == self._whole

    @property
    def planes(self) -> tuple[int, int]:
        """Number of groups that are shown, and of those in the file, over all integrations."""
        return len(self.integrations) * len(self.groups), self._whole[0] * self._whole[1]

    def shape(self, extension: str = "SCI") -> tuple[int, ...]:
        """Return the shape of an extension in the sample; see `Ramp.shape`."""
        shape = super().shape(extension)
        if len(shape) == 4 and shape[:2] == self._whole:
            return len(self.integrations), len(self.groups), *shape[2:]
        return shape

    def read(
        self,
        extension: str,
        integration: int,
        groups: slice = slice(None),
        rows: slice = slice(None),
    ) -> NDArray[Any]:
        """Read a window of the sample, in its own numbers of integrations and groups; see `Ramp.read`."""
        if self.shape(extension) == super().shape(extension):
            return super().read(extension, integration, groups, rows)
        planes = [
            super(RampSample, self).read(
                extension, self.integrations[integration], slice(group, group + 1), rows
            )
            for group in self.groups[groups]
        ]
        return np.concatenate(planes)

    def read_stored(
        self, extension: str, integration: int, groups: slice, rows: slice, into: NDArray[Any]
    ) -> None:
        """Read a window of the sample into an array; see `Ramp.read_stored`."""
        into[...] = self.read(extension, integration, groups, rows)


def _spread(length: int, count: int) -> list[int]:
    """Return at most `count` numbers below `length`, spread evenly from the first to the last."""
    return sorted({int(number) for number in np.linspace(0, length - 1, min(count, length)).round()})
