"""Check a dark against the rules of CRDS, and open it strictly with jwst's own data model.

The rules are those of the installed crds package (``crds.certify`` with its own ``all_all``, ``all_dark``,
``nircam_all`` and ``nircam_dark`` tables, and the keys that its ``nircam_dark.rmap`` selects by), so that
they are as recent as the package. Neither server nor cache is needed: all that certify takes of a context is
that rmap. It runs in a child process, because crds reads its settings from the environment when it is first
imported, and another step of the same job may have imported it for another cache.

Only headers and shapes of the file are looked at. `stdatamodels` would hold all of it in memory, so it opens
a copy with every header and one row of every image.

`verification.checks` checks what those rules leave out: NOUTPUTS, by which CRDS selects, and whether the
keywords are those of the exposures.
"""

import io
import json
import re
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from astropy.io import fits
from pydantic import BaseModel

from shared.errors import TransientError
from shared.runtime.python_child import python_command, python_environment

#: Seconds. It takes five; a machine that is ten times as slow is busy, not stuck.
_TIME_LIMIT = 300
#: Name of a keyword in crds -> in FITS, where they differ.
_FITS_KEYWORDS = {
    "META.TELESCOPE": "TELESCOP",
    "META.INSTRUMENT.NAME": "INSTRUME",
    "META.INSTRUMENT.CORONAGRAPH": "CORONMSK",
    "META.DESCRIPTION": "DESCRIP",
    "META.MODEL_TYPE": "DATAMODL",
    "META.EXPOSURE.TYPE": "EXP_TYPE",
    "META.SUBARRAY.NAME": "SUBARRAY",
    "META.SUBARRAY.XSTART": "SUBSTRT1",
    "META.SUBARRAY.YSTART": "SUBSTRT2",
    "META.SUBARRAY.XSIZE": "SUBSIZE1",
    "META.SUBARRAY.YSIZE": "SUBSIZE2",
}


class Violation(BaseModel):
    """A rule that a file breaks.

    Attributes
    ----------
    by : str
        ``"CRDS certify"`` or ``"strict DarkModel"``.
    about : str
        The keyword or array.
    rule : str
        What is required, in the words of CRDS or stdatamodels.
    """

    by: str
    about: str
    rule: str

    def __str__(self) -> str:
        """Return the keyword, the rule, and the cure."""
        return f"{self.about}: {self.rule} ({self.by}); correct {self.about} and build the reference again"


def violations(path: Path) -> list[Violation]:
    """Return every rule of CRDS and of a strict `DarkModel` that a file breaks; none if both accept it.

    Parameters
    ----------
    path : Path
        A FITS file on this machine, of any size; little of it is read.

    Raises
    ------
    TransientError
        If the child process dies or hangs.
    """
    with TemporaryDirectory(prefix="darkref-certify-") as folder:
        environment = python_environment(
            CRDS_PATH=folder,
            CRDS_SERVER_URL="https://crds-serverless-mode.stsci.edu",
            CRDS_OBSERVATORY="jwst",
            # Or the data model would accept what strict validation is for.
            PASS_INVALID_VALUES="false",
        )
        command = python_command("-m", "services.darkref.verification.certify", str(path.resolve()), folder)
        try:
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=_TIME_LIMIT, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise TransientError(
                f"{path.name}: crds certify took more than {_TIME_LIMIT} s; try again when the machine is "
                "less busy"
            ) from error
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise TransientError(f"{path.name}: crds certify ended with {done.returncode}: {last}; try again")
    return [Violation.model_validate(entry) for entry in json.loads(done.stdout)]


def crds_violations(path: Path) -> list[Violation]:
    """Return what ``crds.certify`` finds, in this process; call `violations` instead.

    Parameters
    ----------
    path : Path
        Absolute, as a bare name would be looked for in the cache of CRDS.
    """
    from crds.certify.certify import FitsCertifier, ReferenceCertifier
    from crds.core import rmap

    with resources.as_file(resources.files("crds.jwst") / "specs" / "nircam_dark.rmap") as spec:
        selection = rmap.ReferenceMapping.from_file(str(spec), ignore_checksum=True)
    broken: list[Violation] = []

    class Listener:
        def log_and_track_error(self, _file: str, *words: Any, **_: Any) -> None:
            broken.append(_violation(" ".join(str(word) for word in words)))

    class Certifier(FitsCertifier):  # type: ignore[misc]
        def get_corresponding_rmap(self) -> Any:
            return selection

    certifier = Certifier(str(path), context="jwst_0001.pmap", observatory="jwst", script=Listener())
    try:
        # FitsCertifier.certify would go on to open the whole file as a data model.
        ReferenceCertifier.certify(certifier)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - whatever crds and its readers may raise is about the file
        # certify cannot even start on a file that does not say what it is.
        broken.append(Violation(by="CRDS certify", about="INSTRUME or REFTYPE", rule=_line(error)))
    return broken


def model_violations(path: Path, folder: Path) -> list[Violation]:
    """Return why a strict `DarkModel` does not open a file, in this process.

    Parameters
    ----------
    folder : Path
        For a copy with one row of each image.
    """
    from stdatamodels.jwst.datamodels import DarkModel

    try:
        excerpt = one_row(path, folder)
        with DarkModel(str(excerpt), strict_validation=True, validate_arrays=True) as model:
            model.validate()
    except (OSError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - stdatamodels and asdf raise what they like
        rule = _line(error)
        about = re.search(r"missing values for \['(\w+)'|validating ([\w.]+\w)", rule)
        name = next(filter(None, about.groups())) if about else "arrays"
        return [Violation(by="strict DarkModel", about=_keyword(name), rule=rule)]
    return []


def one_row(path: Path, folder: Path) -> Path:
    """Copy a FITS file with every header and table, but only the first row of every image."""
    copy = folder / path.name
    with fits.open(path, do_not_scale_image_data=True, lazy_load_hdus=False) as hdus:
        kept = []
        for hdu in hdus:
            if isinstance(hdu, fits.ImageHDU) and hdu.header["NAXIS"] >= 2:
                cut = fits.ImageHDU(hdu.section[..., :1, :], hdu.header)
                # Assigning the data loses the keywords that make stored integers unsigned.
                for keyword in ("BZERO", "BSCALE"):
                    if keyword in hdu.header:
                        cut.header[keyword] = hdu.header[keyword]
                kept.append(cut)
            else:
                kept.append(hdu)
        fits.HDUList(kept).writeto(copy, overwrite=True)
    return copy


def _violation(message: str) -> Violation:
    line = _line(message)
    match = re.match(r"(?:Checking|Missing required array) '([^']+)'(?: : )?(.*)", line)
    about = _keyword(match.group(1)) if match else "file"
    rule = (match.group(2).replace("META.DESCRIPTION", "DESCRIP") if match else line) or line
    return Violation(by="CRDS certify", about=about, rule=rule.strip())


def _keyword(name: str) -> str:
    """Return the FITS keyword for a name in crds or stdatamodels."""
    full = name.upper()
    for known, keyword in _FITS_KEYWORDS.items():
        if full in (known, known.removeprefix("META.")):
            return keyword
    return full.rsplit(".", 1)[-1]


def _line(message: object) -> str:
    # The data models append the whole schema.
    return " ".join(str(message).split("Failed validating")[0].split())[:300]


def _main(path: Path, folder: Path) -> None:
    discarded = io.StringIO()
    with redirect_stdout(discarded), redirect_stderr(discarded):
        broken = crds_violations(path) + model_violations(path, folder)
    sys.stdout.write(json.dumps([violation.model_dump() for violation in broken]))


if __name__ == "__main__":
    _main(Path(sys.argv[1]), Path(sys.argv[2]))
