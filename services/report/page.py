"""The report as HTML: an index, and a page for each set, every one of them whole in one file."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib import resources
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from services.report.chapters import set_page
from services.report.collect import RunProducts
from services.report.content import Chapter, Index, SetPage
from services.report.exposure_sets import ExposureSet, exposure_sets
from services.report.index import READING, index
from services.report.record import ReportRecord, keep
from services.report.store_wide import stability_page
from services.report.style import styled
from services.report.wording import mark
from services.summary import write_atomically
from shared.store.base import Store

#: Stands in the head of every page, so that only our own are ever removed.
_GENERATOR = '<meta name="generator" content="nircam-darks">'
#: Bytes of a page in which that must be found.
_HEAD = 1000


def write_report(store: Store, record: ReportRecord, path: Path) -> None:
    """Write the report: the pages first, the index last, each of them all at once.

    A reader finds the old index or the new one, and never a page half written. Pages of sets that the
    new index does not name are removed.

    Parameters
    ----------
    store : Store
        Holds the products that `record` names.
    record : ReportRecord
        A run's record is kept in the folder of the pages.
    path : Path
        The index, ``.html``; the pages lie in the folder of the same name without it. What is there
        already is replaced.
    """
    pages = folder_of(path)
    pages.mkdir(exist_ok=True)
    sets = exposure_sets(RunProducts.of(store, record.products))
    head = index(record, sets, pages.name)
    names = set()
    for make in makers(store, record, sets):
        with styled():
            page = make()
            text = set_as_html(page, head, path.name)
        write_atomically(pages / f"{page.entry.name}.html", text)
        names.add(f"{page.entry.name}.html")
    if record.scope == "run":
        keep(record, pages)
    write_atomically(path, index_as_html(head, pages.name))
    for old in pages.glob("*.html"):
        if old.name not in names and _is_ours(old):
            old.unlink(missing_ok=True)


def makers(
    store: Store, record: ReportRecord, sets: Sequence[ExposureSet]
) -> Iterator[Callable[[], SetPage]]:
    """Yield what makes each page, one at a time: a store may hold more pictures than memory does."""
    for one in sets:
        yield partial(set_page, store, record.summary, one)
    if record.stability.tested:
        yield partial(stability_page, record.stability)


def folder_of(path: Path) -> Path:
    """Return the folder of the pages that belong to an index."""
    return path.with_suffix("")


def index_as_html(head: Index, pages: str) -> str:
    """Return the index; it links to the files in the folder `pages` beside it, and needs none of them."""
    return (
        _templates()
        .get_template("index.html.j2")
        .render(
            title="Dark references and noise",
            head=head,
            pages=pages,
            page_warning=head.warning,
            **_common(head),
        )
    )


def set_as_html(page: SetPage, head: Index, index_name: str) -> str:
    """Return a set's page, which needs nothing beside it; call inside `style.styled`."""
    return (
        _templates()
        .get_template("set.html.j2")
        .render(
            title=page.entry.title,
            page=page,
            index_name=index_name,
            page_warning="none of these numbers is a flight result" if page.entry.simulated else "",
            reading=Chapter("How to read this", READING),
            **_common(head),
        )
    )


def _common(head: Index) -> dict[str, object]:
    return {
        "version": head.version,
        "finished": head.finished,
        "generator": _GENERATOR,
        "mark": mark,
        "style": resources.files("services.report").joinpath("templates/report.css").read_text("utf-8"),
        "kind": lambda block: type(block).__name__,
    }


def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("services.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )


def _is_ours(path: Path) -> bool:
    with path.open("rb") as file:
        return _GENERATOR.encode() in file.read(_HEAD)
