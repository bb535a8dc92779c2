"""The report as HTML: an index and one page per set, each complete in a single file."""

from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from importlib import resources
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined

from nircam_darks.report.content import Chapter, Index, SetPage
from nircam_darks.report.exposure_sets import ExposureSet, exposure_sets
from nircam_darks.report.index import READING, index
from nircam_darks.report.plots.style import styled
from nircam_darks.report.record import ReportRecord, keep
from nircam_darks.report.set_page import set_page
from nircam_darks.report.store_wide import stability_page
from nircam_darks.report.summary import write_atomically
from nircam_darks.report.text import mark
from shared.catalog.products import RunProducts
from shared.store.base import Store

TITLE = "Dark references and noise"
#: Text of the banner on the page of simulated exposures.
WARNING = "none of these numbers is a flight result"

#: In the head of every page, so that only pages of ours are ever removed.
_GENERATOR = '<meta name="generator" content="nircam-darks">'
#: Number of bytes from the start of a page in which to look for it.
_HEAD = 1000


def write_report(store: Store, record: ReportRecord, path: Path) -> None:
    """Write the report: first the pages, then the index, each file atomically.

    A reader finds either the old index or the new one, and never a page half written. Pages of sets that
    are not in the new index are removed.

    Parameters
    ----------
    store : Store
        Holds the products that `record` names.
    record : ReportRecord
        The record of a run is kept in the folder of the pages.
    path : Path
        The index, ``.html``; the pages go into the folder of the same name without the suffix. Existing
        files are replaced.
    """
    pages = folder_of(path)
    pages.mkdir(exist_ok=True)
    sets = exposure_sets(RunProducts.of(store, record.products))
    address = partial(_address, pages.name)
    head = index(record, sets, address)
    names = set()
    for make in page_makers(store, record, sets):
        with styled():
            page = make()
            text = set_as_html(page, head, path.name)
        write_atomically(pages / f"{page.entry.name}.html", text)
        names.add(f"{page.entry.name}.html")
    if record.scope == "run":
        keep(record, pages)
    write_atomically(path, index_as_html(head, address))
    for old in pages.glob("*.html"):
        if old.name not in names and _is_ours(old):
            old.unlink(missing_ok=True)


def page_makers(
    store: Store, record: ReportRecord, sets: Sequence[ExposureSet]
) -> Iterator[Callable[[], SetPage]]:
    """Yield a function per page that draws it, since a store may hold more plots than fit into memory."""
    for exposure_set in sets:
        yield partial(set_page, store, record.summary, exposure_set)
    if record.stability.tested:
        yield partial(stability_page, record.stability)


def folder_of(path: Path) -> Path:
    """Return the folder of an index's pages."""
    return path.with_suffix("")


def _address(pages: str, name: str) -> str:
    return f"{quote(pages)}/{quote(name)}.html"


def index_as_html(head: Index, address: Callable[[str], str]) -> str:
    """Return the index; `address` takes the name of a page and returns the link to it."""
    return rendered(
        "index.html.j2", head, title=TITLE, address=address, page_warning=head.warning, generator=_GENERATOR
    )


def set_as_html(page: SetPage, head: Index, index_name: str) -> str:
    """Return a set's page, which needs no other file; call inside `style.styled`."""
    return rendered(
        "set.html.j2",
        head,
        title=page.entry.title,
        page=page,
        index_name=index_name,
        page_warning=WARNING if page.entry.simulated else "",
        generator=_GENERATOR,
        reading=Chapter("How to read this", READING),
    )


def rendered(template: str, head: Index, **values: object) -> str:
    """Return a rendered template; `values` extend and override what every template is given."""
    common: dict[str, object] = {
        "head": head,
        "version": head.version,
        "finished": head.finished,
        "mark": mark,
        # On the screen, the browser places the pictures of a chapter.
        "picture_rows": lambda pictures: [pictures],
        "style": stylesheet("report.css"),
    }
    return _templates().get_template(template).render(common | values)


def stylesheet(name: str) -> str:
    """Return the text of one of the report's stylesheets."""
    return resources.files("nircam_darks.report").joinpath("templates", name).read_text("utf-8")


@cache
def _templates() -> Environment:
    templates = Environment(
        loader=PackageLoader("nircam_darks.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    templates.filters["kind"] = lambda block: type(block).__name__
    return templates


def _is_ours(path: Path) -> bool:
    with path.open("rb") as file:
        return _GENERATOR.encode() in file.read(_HEAD)
