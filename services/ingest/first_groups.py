"""Opens the first groups of an exposure as a data model of jwst, from what our own reader gives.

A data model that opens a file opens all of it: extensions of any name and size, and the ASDF extension, in
which aliases of a few kilobytes unfold to gigabytes, a block may be compressed a thousandfold, and arrays may
lie in other files of the machine. The model here is made from the header and from the extensions that an
up-the-ramp exposure of NIRCam has, each of a size that SCI bounds. The ASDF extension only repeats the
header, which decides (docs/decisions/0014-the-header-decides.md); jwst makes it anew for the ramp.
"""

import math
from typing import Any

import numpy as np
from astropy.io import fits
from stdatamodels.jwst.datamodels import RampModel

from services.ingest.memory_plan import LEAST_RUN
from services.ingest.references import quiet_pipeline
from shared.errors import BadInput, DarksError, TransientError
from shared.ramps.hdus import BLOCK
from shared.ramps.ramp import Ramp

#: Name of the check.
DATA_MODEL = "data model"
#: Tables with rows for integrations or their groups. INT_TIMES of a day of integrations has a few MB.
_TABLES, _LARGEST_TABLE = ("GROUP", "INT_TIMES"), 64 * 1024**2


def open_first_groups(ramp: Ramp) -> Any:
    """Open the first groups of a validated exposure as a data model; the caller closes it.

    All its metadata and small extensions are in it: PIXELDQ, AVDRKCUR, GROUP and INT_TIMES, and ZEROFRAME of
    the first integration. Of the extensions with an array for each group it has SCI and GROUPDQ alone: an ERR
    of older versions of jwst, all zeros, is left out, as are extensions that no ramp has.

    Parameters
    ----------
    ramp : Ramp

    Raises
    ------
    BadInput
        If jwst cannot open it, or an extension does not fit SCI (check ``"data model"``).
    TransientError
        If memory is short, or the disk fails.
    """
    with quiet_pipeline():
        try:
            return RampModel(fits.HDUList(_hdus(ramp))).copy()
        except DarksError:
            raise
        except MemoryError as error:
            raise TransientError(f"{ramp.where}: not enough memory to open it") from error
        except Exception as error:  # the data models raise whatever a strange file leads to
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise BadInput(DATA_MODEL, f"{ramp.where}: jwst cannot open it: {reason}") from error


def _hdus(ramp: Ramp) -> list[Any]:
    integrations, _, ny, nx = ramp.shape("SCI")
    shapes = {"PIXELDQ": (ny, nx), "ZEROFRAME": (integrations, ny, nx), "AVDRKCUR": (ny, nx)}
    hdus: list[Any] = [fits.PrimaryHDU(header=ramp.primary)]
    for name, header in ramp.headers.items():
        if name in ("SCI", "GROUPDQ"):
            data = ramp.read(name, 0, slice(0, LEAST_RUN))[np.newaxis]
            hdus.append(fits.ImageHDU(data.astype(np.float32 if name == "SCI" else np.uint8), header))
        elif name in shapes:
            if ramp.shape(name) != shapes[name]:
                raise BadInput(
                    DATA_MODEL,
                    f"{ramp.where}: {name} is {ramp.shape(name)}, but SCI {ramp.shape('SCI')} needs "
                    f"{shapes[name]}; fetch it again",
                )
            data = ramp.read_frame(name, 0)[np.newaxis] if name == "ZEROFRAME" else ramp.read_whole(name)
            hdus.append(fits.ImageHDU(data, header))
        elif name in _TABLES and str(header.get("XTENSION")).strip() == "BINTABLE":
            hdus.append(_table(ramp, name, header))
    return hdus


def _table(ramp: Ramp, name: str, header: fits.Header) -> fits.BinTableHDU:
    size = ramp.stored_size(name)
    if size > _LARGEST_TABLE:
        raise BadInput(
            DATA_MODEL,
            f"{ramp.where}: the table {name} has {size} bytes, at most {_LARGEST_TABLE} are read; "
            "fetch it again",
        )
    data = b"".join(ramp.stored_bytes(name))
    padding = bytes(math.ceil(size / BLOCK) * BLOCK - size)
    return fits.BinTableHDU.fromstring(header.tostring().encode("ascii") + data + padding)
