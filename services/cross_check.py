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
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from services.cross_check_compare import TOLERANCE, Difference, compare
from services.darkref.products import CONTRIBUTIONS, INPUT_ROLE, ReferenceFacts
from shared.detectors import FULL_FRAME
from shared.errors import PermanentError
from shared.store.manifest import MANIFEST, Manifest

_DARK = "jwst_reffiles_dark.fits"
_COUNTS = "good_signals_per_group.fits"
#: Its maps of hits are int64 (integrations, groups, y, x); it holds about five of one file at a time.
_MAPS = 5 * 8


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
        """Return it for the terminal: the answer, the figures, the reasons."""
        count = len(self.ramps)
        answer = "agree" if self.agrees else "DIFFER"
        lines = [
            f"They {answer}: {Path(self.reference).name}, and what jwst_reffiles "
            f"{metadata.version('jwst_reffiles')} makes of the {count} ramp{'s' * (count != 1)} it was made "
            "from.",
            "",
            f"        {'places':>12}{'off':>10}  largest difference, at (group, y, x)",
        ]
        for one in self.differences:
            lines.append(
                f"  {one.name:6}{one.places:12d}{one.above:10d}  {one.largest:.1e} at {one.worst}: "
                f"{one.ours:.7g} DN here, {one.theirs:.7g} DN there"
            )
        same = f"{self.contributions_differ} places differ" if self.contributions_differ else "all the same"
        lines += [
            f"  Measurements used per group and pixel: {same}.",
            "",
            "  A difference is relative to the larger of |SCI| and ERR at its place; above "
            f"{TOLERANCE:g} a place is off.",
        ]
        return "\n".join(lines + [f"  - {reason}" for reason in self.reasons])


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
        differences, contributions, rounding = compare(
            reference,
            Path(folder) / _DARK,
            (root / manifest.object(CONTRIBUTIONS).key, Path(folder) / _COUNTS),
            sum(counts),
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
