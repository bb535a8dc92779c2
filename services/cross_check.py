"""Run jwst_reffiles itself on the set a dark reference was made from; say where the two differ, and why.

jwst_reffiles writes into its current directory, so it runs in a process of its own in a scratch folder.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from services.darkref.products import CONTRIBUTIONS, INPUT_ROLE, ReferenceFacts
from shared.detectors import FULL_FRAME
from shared.errors import PermanentError
from shared.store.manifest import MANIFEST, Manifest

#: The two are said to agree up to this, relative to the larger of a place's value and its scatter.
TOLERANCE = 1e-5
_DARK = "jwst_reffiles_dark.fits"
_COUNTS = "good_signals_per_group.fits"
_EPSILON = float(np.finfo(np.float32).eps)
#: Its maps of hits are int64 (integrations, groups, y, x); it holds about five of one file at a time.
_MAPS = 5 * 8


@dataclass(frozen=True)
class Difference:
    """How an array of the reference differs from jwst_reffiles'.

    Attributes
    ----------
    name : str
        ``"SCI"`` or ``"ERR"``.
    places : int
        (group, pixel) places compared.
    largest : float
        Largest difference, relative to the larger of the place's |SCI| and ERR.
    largest_of_value : float
        Largest difference relative to the value itself; near zero that is rounding over nothing.
    above : int
        Places where `largest`'s measure is above `TOLERANCE`.
    worst : tuple of int
        (group, y, x) of the largest difference, 0-based.
    """

    name: str
    places: int
    largest: float
    largest_of_value: float
    above: int
    worst: tuple[int, int, int]


@dataclass(frozen=True)
class CrossCheckResult:
    """What the comparison found.

    Attributes
    ----------
    agrees : bool
        No place differs by more than `TOLERANCE`.
    reasons : list of str
        Why the two differ where they do, and what else jwst_reffiles does otherwise.
    """

    reference: str
    ramps: list[str]
    agrees: bool
    differences: list[Difference]
    contributions_differ: int
    reasons: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return asdict(self)

    def text(self) -> str:
        """Return it for the terminal."""
        lines = [
            f"{self.reference}",
            f"against jwst_reffiles on the {len(self.ramps)} ramp{'s' * (len(self.ramps) != 1)} "
            "it was made from:",
        ]
        for one in self.differences:
            group, y, x = one.worst
            lines.append(
                f"  {one.name}: largest difference {one.largest:.1e} of the larger of value and scatter "
                f"(group {group}, y {y}, x {x}), {one.largest_of_value:.1e} of the value; "
                f"{one.above} of {one.places} places above {TOLERANCE:g}"
            )
        lines.append(f"  contributions: {self.contributions_differ} places differ")
        lines += [f"  {reason}" for reason in self.reasons]
        lines.append("They agree." if self.agrees else "They differ.")
        return "\n".join(lines)


def cross_check(
    reference: Path, ramps: Sequence[Path] | None = None, scratch: Path | None = None
) -> CrossCheckResult:
    """Compare a reference with what jwst_reffiles makes of the same ramps.

    Parameters
    ----------
    reference : Path
        A dark that `nircam-darks run` made, where it made it: its product's manifest is found from there.
    ramps : sequence of Path, optional
        The ramps it was made from, if they are no longer in the store it lies in.
    scratch : Path, optional
        Where jwst_reffiles may leave its files; a folder that is removed again by default.

    Raises
    ------
    PermanentError
        If there is no manifest, a ramp is missing or is not the one it was made from, the set is one
        that jwst_reffiles cannot do, or jwst_reffiles fails.
    """
    root, manifest = _manifest_of(reference)
    facts = ReferenceFacts.model_validate(manifest.facts)
    if facts.mode != "reference":
        raise PermanentError(
            f"{reference} was made in {facts.mode} mode, which jwst_reffiles does not have; "
            "cross-check compares references of mode reference"
        )
    files = list(ramps) if ramps is not None else _ramps_of(root, facts)
    _require_inputs(files, manifest)
    headers = [fits.getheader(file) for file in files]
    # NINTS of file 0 is used for every file, and a file with fewer integrations ends in an IndexError.
    order = np.argsort([header["NINTS"] for header in headers], kind="stable")
    files = [files[n].absolute() for n in order]
    counts = [int(headers[n]["NINTS"]) for n in order]
    _refuse_impossible(facts, counts)
    if scratch is not None:
        scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="nircam-darks-cross-check-", dir=scratch) as folder:
        _run_jwst_reffiles(Path(folder), files, facts, counts, float(manifest.parameters["sigma"]))
        differences, contributions, rounding = _compare(
            reference, root / manifest.object(CONTRIBUTIONS).key, facts, sum(counts), Path(folder)
        )
    above = sum(one.above for one in differences)
    reasons = _reasons(facts, counts, above, rounding)
    if _sha256(reference) != manifest.object(facts.file).sha256:
        reasons.insert(0, "the reference was changed since it was made (its sha256 is not the manifest's)")
    return CrossCheckResult(
        reference=str(reference),
        ramps=[str(file) for file in files],
        agrees=above == 0,
        differences=differences,
        contributions_differ=contributions,
        reasons=reasons,
    )


def equivalent_groups(facts: ReferenceFacts, files: int, integrations: int) -> int:
    """Return a `max_equivalent_groups` with which jwst_reffiles does not raise.

    It takes ``int(max_equivalent_groups / pix_ratio / files)`` groups at a time, where `pix_ratio` is the
    full frame's pixels over the subarray's: the ratio is upside down, so that the bound must grow as
    the subarray shrinks. Undone here: as many groups as keep its float32 samples near 256 MiB.
    """
    pixels = facts.key.subsize1 * facts.key.subsize2
    ratio = FULL_FRAME**2 // pixels
    groups = min(max((1 << 28) // (4 * pixels * integrations), 1), facts.key.ngroups)
    return ratio * files * groups


def _manifest_of(reference: Path) -> tuple[Path, Manifest]:
    """Return the store's root and the manifest of the product that the file belongs to."""
    if not reference.is_file():
        raise PermanentError(f"{reference}: there is no such file; give the path that summary.json has")
    for folder in reference.absolute().parents:
        try:
            manifest = Manifest.model_validate_json((folder / MANIFEST).read_text())
        except (FileNotFoundError, NotADirectoryError):
            continue
        if manifest.product == "reference":
            return folder.parents[len(Path(manifest.path).parts) - 1], manifest
    raise PermanentError(
        f"{reference}: no {MANIFEST} of a reference lies beside it or above it, so its ramps are not known; "
        "give the path that summary.json has, inside the folder that `nircam-darks run --out` wrote"
    )


def _ramps_of(root: Path, facts: ReferenceFacts) -> list[Path]:
    files = [root / key for key in facts.ramps]
    for file in files:
        if not file.is_file():
            raise PermanentError(
                f"{file}, a ramp that {facts.file} was made from, is gone; run the same exposures into the "
                "same --out again"
            )
    return files


def _require_inputs(files: Sequence[Path], manifest: Manifest) -> None:
    wanted = sorted(one.sha256 for one in manifest.inputs if one.role == INPUT_ROLE)
    found = {file: _sha256(file) for file in files}
    for file, digest in found.items():
        if digest not in wanted:
            raise PermanentError(
                f"{file} is not a ramp that the reference was made from (its sha256 is not in {MANIFEST}); "
                "give the very files, or run the exposures again"
            )
    if sorted(found.values()) != wanted:
        raise PermanentError(
            f"the reference was made from {len(wanted)} ramps, {len(found)} were given; give all of them"
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _refuse_impossible(facts: ReferenceFacts, counts: Sequence[int]) -> None:
    pixels = facts.key.subsize1 * facts.key.subsize2
    needed = _MAPS * max(counts) * facts.key.ngroups * pixels
    have = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > have:
        raise PermanentError(
            f"jwst_reffiles cannot do this set here: its maps of the hits in one whole exposure take about "
            f"{needed / 1024**3:.1f} GiB (int64, outside its own memory bound), this machine has "
            f"{have / 1024**3:.1f} GiB; cross-check on a larger machine, or a smaller set"
        )


def _run_jwst_reffiles(
    scratch: Path, files: Sequence[Path], facts: ReferenceFacts, counts: Sequence[int], sigma: float
) -> None:
    arguments = {
        "file_list": [str(file) for file in files],
        "max_equivalent_groups": equivalent_groups(facts, len(files), sum(counts)),
        "sigma_threshold": sigma,
        # Release 1.0.1 takes GROUND or dated INFLIGHT, one string as history, and nothing else.
        "pedigree": "GROUND",
        "descrip": "cross-check of a dark reference",
        "author": "nircam-darks",
        "use_after": "2022-01-01T00:00:00",
        "history": "made for a cross-check",
        "output_file": str(scratch / _DARK),
    }
    (scratch / "arguments.json").write_text(json.dumps(arguments))
    done = subprocess.run(
        [sys.executable, "-c", "from services.cross_check import run_in_scratch; run_in_scratch()"],
        cwd=scratch,
        env=os.environ | {"MPLBACKEND": "Agg", "MPLCONFIGDIR": str(scratch)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode or not (scratch / _DARK).is_file():
        said = [line for line in done.stderr.splitlines() if line.strip()] or ["it said nothing"]
        raise PermanentError(f"jwst_reffiles failed on this set: {said[-1].strip()}")


def run_in_scratch() -> None:
    """Run jwst_reffiles in the current directory with the arguments that lie there; for a subprocess."""
    from jwst_reffiles.dark_current.dark_reffile import Dark

    class Unplotted(Dark):  # type: ignore[misc]
        # Its plots take longer than everything else, and are not compared.
        def create_num_contributions_plots(self, clean_signals: Any, bad_signals: Any) -> None:
            pass

    Unplotted(**json.loads(Path("arguments.json").read_text()))


def _compare(
    reference: Path, contributions: Path, facts: ReferenceFacts, integrations: int, scratch: Path
) -> tuple[list[Difference], int, int]:
    """Return the differences, how many contributions differ, and how much of `above` is rounding."""
    tally = {name: _Tally() for name in ("SCI", "ERR")}
    rounding = counts_differ = 0
    with (
        fits.open(reference) as ours,
        fits.open(scratch / _DARK) as theirs,
        fits.open(contributions) as used,
        fits.open(scratch / _COUNTS) as good,
    ):
        for group in range(facts.key.ngroups):
            mine = {name: _plane(ours, name, group) for name in tally}
            other = {name: _plane(theirs, name, group) for name in tally}
            scale = np.maximum(np.abs(other["SCI"]), other["ERR"])
            # The bound of a float32 sum of N values, none further from the mean than the clip leaves.
            bound = integrations * _EPSILON * (np.abs(other["SCI"]) + 4 * other["ERR"])
            for name, one in tally.items():
                off = one.add(group, mine[name], other[name], scale)
                rounding += int(np.count_nonzero(off & (np.abs(mine[name] - other[name]) <= bound)))
            differ = used["NMEAS"].section[group] != good[0].section[group]
            counts_differ += int(np.count_nonzero(differ))
    return [one.result(name) for name, one in tally.items()], counts_differ, rounding


def _plane(hdus: fits.HDUList, name: str, group: int) -> NDArray[np.float64]:
    plane: NDArray[np.float64] = hdus[name].section[group].astype(np.float64)
    return plane


class _Tally:
    """The largest differences so far, plane by plane."""

    def __init__(self) -> None:
        self._places = self._above = 0
        self._largest = self._of_value = 0.0
        self._worst = (0, 0, 0)

    def add(
        self, group: int, mine: NDArray[np.float64], other: NDArray[np.float64], scale: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        """Take a plane in; return where it differs by more than `TOLERANCE`."""
        difference = np.abs(mine - other)
        relative = _ratio(difference, scale)
        self._of_value = max(self._of_value, float(_ratio(difference, np.abs(other)).max()))
        where = np.unravel_index(int(relative.argmax()), relative.shape)
        if relative[where] > self._largest:
            self._largest, self._worst = float(relative[where]), (group, int(where[0]), int(where[1]))
        off: NDArray[np.bool_] = relative > TOLERANCE
        self._above += int(np.count_nonzero(off))
        self._places += relative.size
        return off

    def result(self, name: str) -> Difference:
        return Difference(name, self._places, self._largest, self._of_value, self._above, self._worst)


def _ratio(difference: NDArray[np.float64], scale: NDArray[np.float64]) -> NDArray[np.float64]:
    # Equal values do not differ, zeros of no measurement among them; a value against 0 differs by all.
    some = np.where(difference > 0, np.inf, 0.0)
    ratio: NDArray[np.float64] = np.divide(difference, scale, out=some, where=scale > 0)
    return ratio


def _reasons(facts: ReferenceFacts, counts: Sequence[int], above: int, rounding: int) -> list[str]:
    said = []
    if len(set(counts)) > 1:
        ignored = sum(counts) - counts[0] * len(counts)
        said.append(
            f"jwst_reffiles uses NINTS of its first file ({counts[0]}) for every file, so {ignored} of "
            f"{sum(counts)} integrations are missing from its mean; this alone makes the two differ"
        )
    if rounding:
        said.append(
            f"{rounding} of {above} places above the tolerance lie within the rounding of jwst_reffiles' "
            "float32 sums (ours are float64)"
        )
    if above > rounding and len(set(counts)) == 1:
        said.append(
            f"{above - rounding} places differ by more than rounding explains: report this as a defect, "
            "with the ramps and this text"
        )
    if facts.unmeasured:
        said.append(f"{facts.unmeasured} places have no measurement: SCI and ERR are 0 in both")
    said.append(
        f"headers: PEDIGREE is {facts.pedigree} here and GROUND there (release 1.0.1 takes GROUND or dated "
        "INFLIGHT only); NOUTPUTS and DESCRIP are missing there"
    )
    return said
