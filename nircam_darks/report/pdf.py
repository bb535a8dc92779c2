"""The report as one PDF: the content of the HTML pages on A4 paper, rendered by WeasyPrint."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import matplotlib as mpl

from nircam_darks.report.content import SetPage
from nircam_darks.report.exposure_sets import exposure_sets
from nircam_darks.report.html import TITLE, WARNING, page_makers, rendered, stylesheet
from nircam_darks.report.index import index
from nircam_darks.report.plots.style import Picture, styled
from nircam_darks.report.record import ReportRecord
from shared.catalog.products import RunProducts
from shared.errors import EnvironmentFault
from shared.store.base import Store

#: These fonts come with matplotlib, so a PDF looks the same whatever the machine has installed.
_FONTS = (
    ("DejaVu Sans", "normal", "DejaVuSans.ttf"),
    ("DejaVu Sans", "bold", "DejaVuSans-Bold.ttf"),
    ("DejaVu Sans Mono", "normal", "DejaVuSansMono.ttf"),
)
#: Inches: the width of a page's text, and the gutter between pictures.
_WIDTH, _GUTTER = 10.6, 0.2
#: Inches: heights of a row of pictures, of a wide one, and of a wide one that is a grid of several; any two
#: fit on a page with their captions, so that no page stays half empty.
_ROW, _WIDE, _GRID = 2.6, 2.7, 3.5
#: Inches: a picture that was drawn higher than this is a grid.
_GRID_FROM = 6.0


def write_pdf(store: Store, record: ReportRecord, path: Path) -> int:
    """Write the report as PDF, atomically: a failure leaves an existing file as it was.

    Parameters
    ----------
    store : Store
        Holds the products that `record` names.
    record : ReportRecord
    path : Path
        The file; an existing one is replaced.

    Returns
    -------
    int
        Number of pages.

    Raises
    ------
    EnvironmentFault
        If a library that WeasyPrint needs is missing.
    """
    weasyprint = load_weasyprint()
    html = weasyprint.HTML(
        string=report_as_one_page(store, record),
        # The document contains everything but the fonts; nothing is fetched from a network.
        url_fetcher=weasyprint.urls.URLFetcher(allowed_protocols={"data", "file"}, fail_on_errors=True),
    )
    document = html.render()
    draft = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        document.write_pdf(draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return len(document.pages)


def load_weasyprint() -> Any:
    """Return the module WeasyPrint, which needs the system's Pango.

    Raises
    ------
    EnvironmentFault
        If a library is missing; the message says what to install.
    """
    try:
        # WeasyPrint prints several lines of advice before it fails.
        with redirect_stdout(StringIO()):
            import weasyprint
    except OSError as error:
        library = str(error).split(":")[0].removeprefix("cannot load library ").strip("'\" ")
        raise EnvironmentFault(
            f"--format pdf needs Pango, and {library} is not installed: apt-get install libpango-1.0-0 "
            "libpangoft2-1.0-0 libharfbuzz-subset0 (Debian, Ubuntu), or brew install pango (macOS)"
        ) from error
    return weasyprint


def report_as_one_page(store: Store, record: ReportRecord) -> str:
    """Return the whole report as one HTML page, styled for paper."""
    sets = exposure_sets(RunProducts.of(store, record.products))
    head = index(record, sets, address)
    # Lazily: each page is drawn, rendered and released before the next one is drawn.
    pages: Iterator[SetPage] = (make() for make in page_makers(store, record, sets))
    with styled({"font.sans-serif": [_FONTS[0][0]]}):
        return rendered(
            "paper.html.j2",
            head,
            title=TITLE,
            created=record.summary.finished.isoformat(),
            pages=pages,
            set_warning=WARNING,
            address=address,
            picture_rows=picture_rows,
            style="\n".join([*_font_faces(), stylesheet("report.css"), stylesheet("paper.css")]),
        )


def address(name: str) -> str:
    """Return the address of a page within the document."""
    return f"#{quote(name)}"


def picture_rows(pictures: Iterable[Picture]) -> Iterator[Sequence[Picture]]:
    """Yield pictures row by row, in order, each resized for its place on paper.

    A wide picture has a row of its own; the others come in pairs. If the last three of an odd number
    include a map, they share a row, since a map needs only a third of the width.
    """
    waiting: list[Picture] = []
    for picture in pictures:
        if picture.place != "wide":
            waiting.append(picture)
            continue
        yield from _pairs(waiting)
        waiting = []
        height = picture.figure.get_figheight()
        picture.figure.set_size_inches(_WIDTH, min(height, _GRID if height > _GRID_FROM else _WIDE))
        yield [picture]
    yield from _pairs(waiting)


def _pairs(pictures: Sequence[Picture]) -> Iterator[Sequence[Picture]]:
    while pictures:
        three = len(pictures) == 3 and any(picture.place == "tall" for picture in pictures)
        row = pictures[: 3 if three else 2]
        columns = max(len(row), 2)
        for picture in row:
            picture.figure.set_size_inches((_WIDTH - (columns - 1) * _GUTTER) / columns, _ROW)
        yield row
        pictures = pictures[len(row) :]


def _font_faces() -> Iterator[str]:
    folder = Path(mpl.get_data_path(), "fonts", "ttf")
    for family, weight, file in _FONTS:
        yield (
            f'@font-face {{ font-family: "{family}"; font-weight: {weight}; '
            f'src: url("{(folder / file).as_uri()}"); }}'
        )
