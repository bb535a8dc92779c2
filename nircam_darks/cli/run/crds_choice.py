"""Which CRDS cache a run takes its references from.

Simulated exposures bring their own cache, which `simulate` writes beside them; real ones need the user's. The
references of one do not serve the other, and a process knows one cache only. What the user has set for real
data (CRDS_PATH, CRDS_CONTEXT, ...) therefore never takes the place of a simulated cache, unless `--crds-path`
says so.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nircam_darks.operations.candidates import Candidate
from nircam_darks.simulation.crds_cache import environment as simulated_environment
from shared.errors import EnvironmentFault

_CACHE = "crds_cache"
_SERVER_CONFIG = Path("config") / "jwst" / "server_config"


@dataclass(frozen=True)
class CrdsChoice:
    """The references of a run.

    Attributes
    ----------
    environment : dict of str to str
        Variables of the processes that look for references.
    ignored : list of str
        Variables that the user has set and that must not be handed on.
    lines : list of str
        What to tell the user, a line for each folder of exposures with a cache of its own.
    """

    environment: dict[str, str]
    ignored: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


def choose_crds(
    candidates: Sequence[Candidate],
    crds_path: Path | None,
    crds_context: str | None,
    variables: Mapping[str, str] = os.environ,
) -> CrdsChoice:
    """Return where the references of a run come from.

    Parameters
    ----------
    candidates : sequence of Candidate
    crds_path, crds_context : optional
        As given with ``--crds-path`` and ``--crds-context``.
    variables : mapping of str to str, optional
        The user's environment.

    Raises
    ------
    EnvironmentFault
        If the exposures need different caches.
    """
    # The parameters of steps are set here: no pars-* reference may silently change one.
    environment = {"STPIPE_DISABLE_CRDS_STEPPARS": "true"}
    if crds_context:
        environment["CRDS_CONTEXT"] = crds_context
    if crds_path:
        return CrdsChoice(environment | {"CRDS_PATH": str(crds_path.absolute())})
    exposures = [each for each in candidates if each.configuration is not None]
    by_folder = {each.path.parent: _cache_beside(each.path.parent) for each in exposures if each.simulated}
    caches = {cache for cache in by_folder.values() if cache is not None}
    if not caches:
        return CrdsChoice(environment)
    real = sum(not each.simulated for each in exposures)
    if len(caches) > 1 or real:
        places = [f"{folder} has {cache}" for folder, cache in by_folder.items() if cache is not None]
        places += [f"{real} exposures are not simulated"] if real else []
        raise EnvironmentFault(
            f"these exposures need different references: {'; '.join(places)}; run each folder by itself, "
            "or give the cache for all of them with --crds-path",
            setting="--crds-path",
        )
    (cache,) = caches
    environment = simulated_environment(cache) | environment
    ignored = sorted(name for name in variables if name.startswith("CRDS_") and name not in environment)
    replaced = sorted(
        name for name in variables if name.startswith("CRDS_") and variables[name] != environment.get(name)
    )
    aside = f"; {', '.join(replaced)} of the environment set aside, --crds-path overrides" if replaced else ""
    lines = [
        f"References: the simulated CRDS cache beside the exposures of {folder}, {cache}{aside}"
        for folder, own in by_folder.items()
        if own is not None
    ]
    return CrdsChoice(environment, ignored, lines)


def _cache_beside(folder: Path) -> Path | None:
    cache = folder.parent / _CACHE
    return cache if (cache / _SERVER_CONFIG).is_file() else None
