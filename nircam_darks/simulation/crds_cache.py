"""Writes a complete CRDS cache: server config, mappings and references, for use without a server."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from pprint import pformat
from typing import Any

#: Context of every simulated cache, with a number that no operational context has.
CONTEXT = "jwst_0001.pmap"
_IMAP = "jwst_nircam_0001.imap"
#: Reference types that steps may request and a simulated cache does not have.
_NOT_APPLICABLE = (
    "area",
    "bkg",
    "chargeloss",
    "dark",
    "emicorr",
    "firstframe",
    "gainfactor",
    "ipc",
    "lastframe",
    "persat",
    "pictureframe",
    "refpix",
    "reset",
    "rscd",
    "sirskernel",
    "trapdensity",
    "trappars",
)


def environment(crds_path: Path) -> dict[str, str]:
    """Return the environment variables with which the pipeline uses this cache and no network.

    They must be set before jwst or crds is imported.
    """
    return {
        "CRDS_PATH": str(crds_path),
        "CRDS_SERVER_URL": "https://crds-serverless-mode.stsci.edu",
        "CRDS_CONTEXT": CONTEXT,
        "STPIPE_DISABLE_CRDS_STEPPARS": "true",
    }


def references_folder(crds_path: Path) -> Path:
    """Return the folder of the cache's NIRCam references."""
    return crds_path / "references" / "jwst" / "nircam"


def write_cache(
    crds_path: Path, references: Mapping[str, Mapping[tuple[str, str], str]], useafter: str
) -> None:
    """Write the config and the mappings of a cache whose references exist already.

    Parameters
    ----------
    references : mapping
        Reference type -> (detector, subarray) -> file name.
    useafter : str
        ``yyyy-mm-ddThh:mm:ss``.
    """
    mappings = crds_path / "mappings" / "jwst"
    config = crds_path / "config" / "jwst"
    for folder in (mappings, config):
        folder.mkdir(parents=True, exist_ok=True)
    selected = {name.upper(): "N/A" for name in _NOT_APPLICABLE}
    for reftype, files in references.items():
        rmap = f"jwst_nircam_{reftype}_0001.rmap"
        selected[reftype.upper()] = rmap
        header = _header("REFERENCE", rmap, "CRDS") | {
            "classes": ("Match", "UseAfter"),
            "filekind": reftype.upper(),
            "instrument": "NIRCAM",
            "parkey": (
                ("META.INSTRUMENT.DETECTOR", "META.SUBARRAY.NAME"),
                ("META.OBSERVATION.DATE", "META.OBSERVATION.TIME"),
            ),
        }
        when = useafter.replace("T", " ")
        rows = "".join(
            f"    {key!r} : UseAfter({{\n        {when!r} : {name!r},\n    }}),\n"
            for key, name in sorted(files.items())
        )
        _write_mapping(mappings / rmap, header, f"Match({{\n{rows}}})")
    imap = _header("INSTRUMENT", _IMAP, "by hand") | {"instrument": "NIRCAM", "parkey": ("REFTYPE",)}
    _write_mapping(mappings / _IMAP, imap, pformat(selected))
    pmap = _header("PIPELINE", CONTEXT, "by hand") | {"parkey": ("META.INSTRUMENT.NAME",)}
    _write_mapping(mappings / CONTEXT, pmap, pformat({"NIRCAM": _IMAP}))
    (config / "server_config").write_text(repr(_server_config()))
    (config / "ref_cache_subdir_mode").write_text("instrument\n")


def _header(kind: str, name: str, derived_from: str) -> dict[str, Any]:
    return {
        "derived_from": derived_from,
        "description": "SIMULATED: made by nircam-darks simulate",
        "mapping": kind,
        "name": name,
        "observatory": "JWST",
    }


def _write_mapping(path: Path, header: dict[str, Any], selector: str) -> None:
    # CRDS's checksum of a mapping is the SHA-1 of its text without the line that holds the checksum.
    lines = [f"    {key!r} : {value!r},\n" for key, value in sorted(header.items())]
    before, after = "header = {\n" + "".join(lines), "}\n\nselector = " + selector + "\n"
    digest = hashlib.sha1((before + after).encode(), usedforsecurity=False).hexdigest()
    path.write_text(f"{before}    'sha1sum' : {digest!r},\n{after}")


def _server_config() -> dict[str, Any]:
    version = "14.0.3"
    return {
        "observatory": "jwst",
        "operational_context": CONTEXT,
        "edit_context": CONTEXT,
        "latest_context": CONTEXT,
        "bad_files": "",
        "bad_files_set": [],
        "bad_files_list": [],
        "crds_version": {"str": version},
        "server_version": version,
        "effective_mode": "local",
        "force_remote_mode": False,
        "reference_url": "none",
        "mapping_url": "none",
        "checksum_url": "none",
        "last_synced": "never",
        "status": "cache",
        "connected": False,
    }
