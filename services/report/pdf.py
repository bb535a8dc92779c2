"""The report as one PDF, from the same chapters as the pages: the verdicts first, then set by set."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from uuid import uuid4

from matplotlib.backends.backend_pdf import PdfPages

from services.report.collect import RunProducts
from services.report.content import Cell, Chapter, Facts, Index, Pictures, SetPage, Table, Words
from services.report.exposure_sets import exposure_sets
from services.report.index import index
from services.report.page import makers
from services.report.pdf_flow import Flow, first_picture_height
from services.report.pdf_page import STYLE
from services.report.record import ReportRecord
from services.report.style import styled
from shared.store.base import Store

TITLE = "Dark references and noise"


def write_pdf(store: Store, record: ReportRecord, path: Path) -> int:
    """Write the report as PDF, all at once: a failure leaves the old file and nothing else.

    Parameters
    ----------
    store : Store
        Holds the products that `record` names.
    record : ReportRecord
    path : Path
        What is there already is replaced.

    Returns
    -------
    int
        Number of pages.
    """
    draft = path.with_name(f".{path.name}.{uuid4().hex}")
    sets = exposure_sets(RunProducts.of(store, record.products))
    head = index(record, sets)
    try:
        with styled(STYLE), PdfPages(draft, metadata=_metadata(head, record.summary.finished)) as pages:
            flow = Flow(pages, f"{TITLE} · nircam-darks {head.version} · {head.finished}", bool(head.warning))
            _title_page(flow, head)
            for make in makers(store, record, sets):
                _set(flow, make())
            flow.finish()
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return flow.pages


def _metadata(head: Index, finished: datetime) -> dict[str, object]:
    return {
        "Title": f"{TITLE}, {head.finished}",
        "Subject": "simulated data" if head.warning else "JWST NIRCam",
        "Creator": f"nircam-darks {head.version}",
        # The same products give the same file.
        "CreationDate": finished,
    }


def _title_page(flow: Flow, head: Index) -> None:
    flow.title(TITLE, head.lead)
    if head.warning:
        flow.banner(f"SIMULATED DATA: {head.warning}")
    flow.heading("Verdicts")
    if head.sets:
        flow.table(_verdicts(head))
    else:
        flow.words(Words("No exposure was ingested, so there is nothing to measure.", weight="missing"))
    for chapter in head.chapters:
        _chapter(flow, chapter)


def _verdicts(head: Index) -> Table:
    """Return the verdict table: in each place the figure, what is expected of it, and the verdict."""
    lines: list[Sequence[Cell]] = []
    for one in head.sets:
        line = [Cell(f"{one.title}{chr(10) + 'simulated' if one.simulated else ''}")]
        for figure in one.figures:
            said = [f"{figure.value} {figure.unit}".rstrip()]
            if figure.expected != "–":
                said.append(f"expected {figure.expected}")
            line.append(Cell("\n".join([*said, figure.verdict]), tone=figure.tone))
        lines.append(line)
    return Table(["Set", *head.figures], lines, widths=(0.2, *[0.8 / len(head.figures)] * len(head.figures)))


def _set(flow: Flow, page: SetPage) -> None:
    flow.new_page()
    flow.title(page.entry.title, page.configuration)
    if page.entry.simulated:
        flow.banner("SIMULATED DATA: none of these numbers is a flight result")
    for chapter in page.chapters:
        _chapter(flow, chapter)


def _chapter(flow: Flow, chapter: Chapter) -> None:
    if chapter.title:
        first = chapter.blocks[0]
        over = first_picture_height(first.pictures) if isinstance(first, Pictures) else 0.0
        flow.heading(chapter.title, over)
    for block in chapter.blocks:
        if isinstance(block, Words):
            flow.words(block)
        elif isinstance(block, Facts):
            flow.facts(block.pairs)
        elif isinstance(block, Table):
            flow.table(block)
        elif isinstance(block, Pictures):
            flow.pictures(block.pictures)
