"""Child processes import what their parent imports, and nothing that happens to lie in the working directory.

Every Python process that this program starts goes through here: Python itself puts the working directory
first on the path of ``-c`` and ``-m``, and would take a folder called ``services`` or a file called
``signal.py`` there for the real one.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

#: The folder that this process imports the house from.
_HOME = str(Path(__file__).resolve().parents[2])


def python_command(*arguments: str) -> list[str]:
    """Return the command of a Python child; it is to be run in a `python_environment`.

    Parameters
    ----------
    *arguments : str
        Of the interpreter, such as ``"-m", "package.module"``.
    """
    return [sys.executable, "-P", *arguments]


def python_environment(**variables: str) -> Mapping[str, str]:
    """Return the environment of a Python child: this process's, with its import path and with `variables`."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(import_path()), **variables}


def import_path() -> list[str]:
    """Return this process's import path without the working directory, and with the folder of the house."""
    path = [entry for entry in sys.path if entry not in ("", ".")]
    return path if _HOME in path else [*path, _HOME]
