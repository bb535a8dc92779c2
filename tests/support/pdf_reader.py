"""A PDF as other programs read it: poppler's pdftotext, pdffonts, pdfinfo and pdftohtml."""

import re
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

from nircam_darks.report.pdf import load_weasyprint
from shared.errors import EnvironmentFault
from support.doing_without import do_without

_BOX = re.compile(r'xMin="([-\d.]+)" yMin="([-\d.]+)" xMax="([-\d.]+)" yMax="([-\d.]+)"')


def need_pdf() -> None:
    """Skip, or fail where CI=true, on a machine that can neither write nor read a PDF."""
    try:
        load_weasyprint()
    except EnvironmentFault as error:
        do_without(f"{error}; sh deploy/install-servers.sh pdf does it")
    if shutil.which("pdftotext") is None:
        do_without("poppler-utils is not installed: sh deploy/install-servers.sh pdf")


def words_of(path: Path) -> str:
    """Return a PDF's text without any white space, so that line breaks do not matter."""
    return squeezed(_ran("pdftotext", path, "-"))


def squeezed(text: str) -> str:
    return "".join(text.split())


def fonts_of(path: Path) -> list[tuple[str, str, str]]:
    """Return of each font whether it is embedded, a subset, and mapped to Unicode: ``yes`` or ``no``."""
    _, _, *lines = _ran("pdffonts", path).splitlines()
    # A font's type may have blanks in it, so columns are counted from the right.
    return [tuple(line.split()[-5:-2]) for line in lines]


def properties_of(path: Path) -> dict[str, str]:
    """Return what the PDF says of itself: title, number of pages and so on."""
    pairs = (line.partition(":") for line in _ran("pdfinfo", path).splitlines())
    return {name: value.strip() for name, _, value in pairs}


def outline_of(path: Path) -> list[tuple[str, list[str]]]:
    """Return the bookmarks: those of the first level, each with those below it."""
    root = ElementTree.fromstring(_ran("pdftohtml", "-xml", "-i", "-stdout", path))
    outline: list[tuple[str, list[str]]] = []
    for entry in root.find("outline"):
        if entry.tag == "item":
            outline.append((entry.text, []))
        else:
            outline[-1][1].extend(item.text for item in entry)
    return outline


def word_boxes(path: Path) -> list[tuple[float, ...]]:
    """Return left, top, right and bottom of each word, in points from the upper left corner of its page."""
    return [tuple(map(float, box)) for box in _BOX.findall(_ran("pdftotext", "-bbox", path, "-"))]


def _ran(*command: object) -> str:
    return subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True).stdout
