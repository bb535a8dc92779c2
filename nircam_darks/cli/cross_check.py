"""Runs jwst_reffiles on the ramps behind a dark reference, and compares the two references.

jwst_reffiles writes into its working directory, so it runs in a separate process in a scratch folder. The
comparison covers every value of SCI and ERR and the numbers of measurements, and gives the reasons for
differences.
"""

import hashlib
import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from nircam_darks.report.text import count
from shared.errors import PermanentError
from shared.nircam.detectors import FULL_FRAME
from shared.products.ramp import MEMBER_ROLE
from shared.products.reference import CONTRIBUTIONS, ReferenceResults
from shared.runtime.python_child import python_command, python_environment
from shared.store.manifest import MANIFEST, Manifest

#: Two values agree if they differ by no more than this, relative to the larger of value and scatter.
TOLERANCE = 1e-5
_EPSILON = float(np.finfo(np.float32).eps)


@dataclass(frozen=True)
class ArrayDifference:
    """How an array of the reference differs from that of jwst_reffiles.

    Attributes
    ----------
    name : str
        ``"SCI"`` or ``"ERR"``.
    places : int
        Number of (group, pixel) values compared.
    largest : float
        Largest difference, relative to the larger of |SCI| and ERR.
    largest_of_value : float
        Largest difference relative to the value itself, which means little for values near zero.
    above : int
        Number of values whose difference, measured like `largest`, is above `TOLERANCE`.
    worst : tuple of int
        (group, y, x) of the largest difference, 0-based.
    ours, theirs : float
        The two values at `worst` (DN).
    """

    name: str
    places: int
    largest: float
    largest_of_value: float
    above: int
    worst: tuple[int, int, int]
    ours: float
    theirs: float


def compare_to_jwst_reffiles(
    reference: Path, oracle: Path, counts: tuple[Path, Path], integrations: int
) -> tuple[list[ArrayDifference], int, int]:
    """Compare a reference with that of jwst_reffiles, group by group.

    Parameters
    ----------
    reference, oracle : Path
        Two darks with SCI and ERR (groups, y, x) in DN.
    counts : tuple of Path
        Measurements per (group, y, x), ours (NMEAS) and jwst_reffiles' (primary).
    integrations : int
        Integrations in all files, which is the number of terms in a float32 sum.

    Returns
    -------
    differences : list of ArrayDifference
        For SCI and ERR.
    contributions : int
        Number of values with different numbers of measurements.
    rounding : int
        Number of differences above `TOLERANCE` that the rounding of float32 sums explains.
    """
    tally = {name: _Tally() for name in ("SCI", "ERR")}
    rounding = counts_differ = 0
    with (
        fits.open(reference) as ours,
        fits.open(oracle) as theirs,
        fits.open(counts[0]) as used,
        fits.open(counts[1]) as good,
    ):
        for group in range(ours["SCI"].shape[0]):
            mine = {name: _plane(ours, name, group) for name in tally}
            other = {name: _plane(theirs, name, group) for name in tally}
            scale = np.maximum(np.abs(other["SCI"]), other["ERR"])
            # Error bound of a float32 sum of N values that lie within the clip limits of the mean.
            bound = integrations * _EPSILON * (np.abs(other["SCI"]) + 4 * other["ERR"])
            for name, running in tally.items():
                off = running.add(group, mine[name], other[name], scale)
                rounding += int(np.count_nonzero(off & (np.abs(mine[name] - other[name]) <= bound)))
            differ = used["NMEAS"].section[group] != good[0].section[group]
            counts_differ += int(np.count_nonzero(differ))
    return [running.result(name) for name, running in tally.items()], counts_differ, rounding


def _plane(hdus: fits.HDUList, name: str, group: int) -> NDArray[np.float64]:
    plane: NDArray[np.float64] = hdus[name].section[group].astype(np.float64)
    return plane


class _Tally:
    """The largest differences in the planes added so far."""

    def __init__(self) -> None:
        self._places = self._above = 0
        self._largest = self._of_value = 0.0
        self._worst = (0, 0, 0)
        self._values = (0.0, 0.0)

    def add(
        self, group: int, mine: NDArray[np.float64], other: NDArray[np.float64], scale: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        """Add a plane; return where it differs by more than `TOLERANCE`."""
        difference = np.abs(mine - other)
        relative = _ratio(difference, scale)
        self._of_value = max(self._of_value, float(_ratio(difference, np.abs(other)).max()))
        where = np.unravel_index(int(relative.argmax()), relative.shape)
        if relative[where] > self._largest or self._places == 0:
            self._largest, self._worst = float(relative[where]), (group, int(where[0]), int(where[1]))
            self._values = (float(mine[where]), float(other[where]))
        off: NDArray[np.bool_] = relative > TOLERANCE
        self._above += int(np.count_nonzero(off))
        self._places += relative.size
        return off

    def result(self, name: str) -> ArrayDifference:
        return ArrayDifference(
            name, self._places, self._largest, self._of_value, self._above, self._worst, *self._values
        )


def _ratio(difference: NDArray[np.float64], scale: NDArray[np.float64]) -> NDArray[np.float64]:
    # Equal values have no difference, also zeros without measurement; a value against 0 differs infinitely.
    default = np.where(difference > 0, np.inf, 0.0)
    ratio: NDArray[np.float64] = np.divide(difference, scale, out=default, where=scale > 0)
    return ratio


_DARK = "jwst_reffiles_dark.fits"
_COUNTS = "good_signals_per_group.fits"
#: Bytes per value: jwst_reffiles holds about five int64 maps (integrations, groups, y, x) of one file.
_MAPS = 5 * 8


@dataclass(frozen=True)
class CrossCheckResult:
    """Result of a comparison.

    Attributes
    ----------
    agrees : bool
        True if no value differs by more than `TOLERANCE`.
    reasons : list of str
        Reasons for the differences, and other peculiarities of jwst_reffiles.
    """

    reference: str
    ramps: list[str]
    agrees: bool
    differences: list[ArrayDifference]
    contributions_differ: int
    reasons: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        return asdict(self)

    def text(self) -> str:
        """Return the result as text: the verdict, the differences, the reasons."""
        answer = "agree" if self.agrees else "DIFFER"
        lines = [
            f"They {answer}: {Path(self.reference).name} and the dark that jwst_reffiles "
            f"{metadata.version('jwst_reffiles')} builds from the same {count(len(self.ramps), 'ramp')}.",
            "",
            f"        {'values':>12}{'differ':>10}  largest difference, at (group, y, x)",
        ]
        for array in self.differences:
            lines.append(
                f"  {array.name:6}{array.places:12d}{array.above:10d}  {array.largest:.1e} at {array.worst}: "
                f"{array.ours:.7g} DN here, {array.theirs:.7g} DN there"
            )
        same = f"{self.contributions_differ} differ" if self.contributions_differ else "all the same"
        lines += [
            f"  Measurements used per group and pixel: {same}.",
            "",
            "  Differences are relative to the larger of |SCI| and ERR; values with a difference above "
            f"{TOLERANCE:g} are counted.",
        ]
        return "\n".join(lines + [f"  - {reason}" for reason in self.reasons])


def cross_check(
    reference: Path, ramps: Sequence[Path] | None = None, scratch: Path | None = None
) -> CrossCheckResult:
    """Compare a reference with the one that jwst_reffiles builds from the same ramps.

    Parameters
    ----------
    reference : Path
        A dark built by `nircam-darks run`, in its original place, from where its manifest is found.
    ramps : sequence of Path, optional
        The ramps it was built from, if they are no longer in its store.
    scratch : Path, optional
        Folder for the files of jwst_reffiles; by default a temporary one.

    Raises
    ------
    PermanentError
        If there is no manifest, if a ramp is missing or has changed, if the set is beyond jwst_reffiles, or
        if jwst_reffiles fails.
    """
    root, manifest = _manifest_of(reference)
    results = ReferenceResults.model_validate(manifest.results)
    if results.mode_name != "notebook":
        raise PermanentError(
            f"{reference} was built in {results.mode_name} mode, which jwst_reffiles does not have; "
            "cross-check compares references built with --mode notebook"
        )
    files = list(ramps) if ramps is not None else _ramps_of(root, results)
    _require_inputs(files, manifest)
    headers = [fits.getheader(file) for file in files]
    # jwst_reffiles takes NINTS from the first file; a file with fewer integrations is an IndexError.
    order = np.argsort([header["NINTS"] for header in headers], kind="stable")
    files = [files[n].absolute() for n in order]
    counts = [int(headers[n]["NINTS"]) for n in order]
    _refuse_impossible(results, counts)
    if scratch is not None:
        scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="nircam-darks-cross-check-", dir=scratch) as folder:
        _run_jwst_reffiles(Path(folder), files, results, counts, float(manifest.parameters["sigma"]))
        differences, contributions, rounding = compare_to_jwst_reffiles(
            reference,
            Path(folder) / _DARK,
            (root / manifest.object(CONTRIBUTIONS).key, Path(folder) / _COUNTS),
            sum(counts),
        )
    above = sum(difference.above for difference in differences)
    reasons = _reasons(results, counts, above, rounding)
    if _sha256(reference) != manifest.object(results.file).sha256:
        reasons.insert(
            0, "the reference has changed since it was built (its sha256 is not that in the manifest)"
        )
    return CrossCheckResult(
        reference=str(reference),
        ramps=[str(file) for file in files],
        agrees=above == 0,
        differences=differences,
        contributions_differ=contributions,
        reasons=reasons,
    )


def equivalent_groups(results: ReferenceResults, files: int, integrations: int) -> int:
    """Return a `max_equivalent_groups` with which jwst_reffiles does not fail.

    It takes ``int(max_equivalent_groups / pix_ratio / files)`` groups at a time, where `pix_ratio` is the
    full frame's pixels over the subarray's. The ratio is upside down: the bound must grow as the subarray
    shrinks. Undone here, with as many groups as keep its float32 samples near 256 MiB.
    """
    pixels = results.key.subsize1 * results.key.subsize2
    ratio = FULL_FRAME**2 // pixels
    groups = min(max((1 << 28) // (4 * pixels * integrations), 1), results.key.ngroups)
    return ratio * files * groups


def _manifest_of(reference: Path) -> tuple[Path, Manifest]:
    """Return the root of the store, and the manifest of the product that the file belongs to."""
    if not reference.is_file():
        raise PermanentError(f"{reference}: no such file; give the path in summary.json", where=reference)
    for folder in reference.absolute().parents:
        try:
            manifest = Manifest.model_validate_json((folder / MANIFEST).read_text())
        except (FileNotFoundError, NotADirectoryError):
            continue
        if manifest.product == "reference":
            return folder.parents[len(Path(manifest.path).parts) - 1], manifest
    raise PermanentError(
        f"{reference}: there is no {MANIFEST} of a reference beside or above it, so its ramps are unknown; "
        "give the path in summary.json, inside the results folder of `nircam-darks run`",
        where=reference,
    )


def _ramps_of(root: Path, results: ReferenceResults) -> list[Path]:
    files = [root / key for key in results.ramps]
    for file in files:
        if not file.is_file():
            raise PermanentError(
                f"{file}, a ramp that {results.file} was built from, is missing; run the same exposures "
                "with the same --out again",
                where=file,
            )
    return files


def _require_inputs(files: Sequence[Path], manifest: Manifest) -> None:
    wanted = sorted(source.sha256 for source in manifest.inputs if source.role == MEMBER_ROLE)
    digests = {file: _sha256(file) for file in files}
    for file, digest in digests.items():
        if digest not in wanted:
            raise PermanentError(
                f"{file} is not a ramp that the reference was built from (its sha256 is not in {MANIFEST}); "
                "give the original files, or run the exposures again",
                where=file,
            )
    if sorted(digests.values()) != wanted:
        raise PermanentError(
            f"the reference was built from {len(wanted)} ramps, not from the {len(digests)} given; give all"
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _refuse_impossible(results: ReferenceResults, counts: Sequence[int]) -> None:
    pixels = results.key.subsize1 * results.key.subsize2
    needed = _MAPS * max(counts) * results.key.ngroups * pixels
    have = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > have:
        raise PermanentError(
            f"jwst_reffiles cannot process this set here: its maps of the hits in one exposure take about "
            f"{needed / 1024**3:.1f} GiB (int64, not subject to its memory bound), and this machine has "
            f"{have / 1024**3:.1f} GiB; use a larger machine or a smaller set"
        )


def _run_jwst_reffiles(
    scratch: Path, files: Sequence[Path], results: ReferenceResults, counts: Sequence[int], sigma: float
) -> None:
    arguments = {
        "file_list": [str(file) for file in files],
        "max_equivalent_groups": equivalent_groups(results, len(files), sum(counts)),
        "sigma_threshold": sigma,
        # Release 1.0.1 accepts only GROUND or dated INFLIGHT, and a single string as history.
        "pedigree": "GROUND",
        "descrip": "cross-check of a dark reference",
        "author": "nircam-darks",
        "use_after": "2022-01-01T00:00:00",
        "history": "made for a cross-check",
        "output_file": str(scratch / _DARK),
    }
    (scratch / "arguments.json").write_text(json.dumps(arguments))
    done = subprocess.run(
        python_command("-c", "from nircam_darks.cli.cross_check import run_in_scratch; run_in_scratch()"),
        cwd=scratch,
        env=python_environment(MPLBACKEND="Agg", MPLCONFIGDIR=str(scratch)),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode or not (scratch / _DARK).is_file():
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["without a message"]
        raise PermanentError(f"jwst_reffiles failed on this set: {lines[-1].strip()}")


def run_in_scratch() -> None:
    """Run jwst_reffiles in the working directory, with the arguments stored there; for a subprocess."""
    from jwst_reffiles.dark_current.dark_reffile import Dark

    class Unplotted(Dark):  # type: ignore[misc]
        # The plots take longer than everything else, and are not compared.
        def create_num_contributions_plots(self, clean_signals: Any, bad_signals: Any) -> None:
            pass

    Unplotted(**json.loads(Path("arguments.json").read_text()))


def _reasons(results: ReferenceResults, counts: Sequence[int], above: int, rounding: int) -> list[str]:
    reasons = []
    if len(set(counts)) > 1:
        ignored = sum(counts) - counts[0] * len(counts)
        reasons.append(
            f"jwst_reffiles takes NINTS of its first file ({counts[0]}) for every file, so {ignored} of "
            f"{sum(counts)} integrations are missing from its mean, which explains a difference"
        )
    if rounding:
        reasons.append(
            f"{rounding} of {above} differences above the tolerance are within the rounding of "
            "jwst_reffiles' float32 sums (ours are float64)"
        )
    if above > rounding and len(set(counts)) == 1:
        reasons.append(
            f"{count(above - rounding, 'value')} with a difference that rounding does not explain; please "
            "report this as a defect, with the ramps and this text"
        )
    if results.unmeasured:
        reasons.append(
            f"{count(results.unmeasured, 'value')} without measurement, where SCI and ERR are 0 in both"
        )
    reasons.append(
        f"headers: PEDIGREE is {results.pedigree} here and GROUND there (release 1.0.1 accepts only GROUND "
        "or dated INFLIGHT); NOUTPUTS and DESCRIP are missing there"
    )
    return reasons
