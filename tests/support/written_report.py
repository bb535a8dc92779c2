"""A report as it was written, parsed and held to be well formed."""

from html.parser import HTMLParser

from nircam_darks.report.html import write_report
from nircam_darks.report.record import of_run
from nircam_darks.report.summary import build_summary

VOID = {"meta", "img", "br", "link", "input", "hr", "col"}


class Page(HTMLParser):
    """What a browser would make of the page, as far as the tests ask."""

    def __init__(self, text: str):
        super().__init__()
        self.text, self.images, self.addresses, self.open, self.ids, self.anchors = "", [], [], [], [], []
        self.tags = set()
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        named = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "img":
            self.images.append(named)
        if "id" in named:
            self.ids.append(named["id"])
        for name in ("src", "href", "srcset", "data", "action"):
            if name in named:
                (self.anchors if named[name].startswith("#") else self.addresses).append(named[name])

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.text += " " + data

    @property
    def words(self) -> str:
        return " ".join(self.text.split())


def record_of(filled, **settings):
    run = filled.run(**settings)
    return of_run(filled.store, build_summary(filled.store, run), run)


class Report:
    """A report that was written, its index and its pages parsed, and each held to be well formed."""

    def __init__(self, filled, **settings):
        self.path = filled.folder / "report.html"
        write_report(filled.store, record_of(filled, **settings), self.path)
        self.html = {self.path.name: self.path.read_text()}
        self.html |= {
            f"report/{page.name}": page.read_text() for page in self.path.with_suffix("").glob("*.html")
        }
        self.parsed = {name: Page(text) for name, text in self.html.items()}
        for page in self.parsed.values():
            assert not page.open, f"never closed: {page.open}"
        self.index = self.parsed.pop(self.path.name)
        self.pages = [page for name, page in self.parsed.items() if name != "report/stability.html"]

    @property
    def page(self) -> Page:
        """The page of the one set there is."""
        (page,) = self.pages
        return page

    @property
    def images(self):
        return [image for page in self.pages for image in page.images]
