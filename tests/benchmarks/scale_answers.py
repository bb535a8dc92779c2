"""What `status`, `coverage`, `stability` and the survey cost with ever more products: `scale_answers.py`.

Fills the catalog of a store with exposures of ten configurations in campaigns of ten, each exposure with its
noise and announced count, each set with its reference and its noise, as if the services had made and packed
them; the manifests themselves are not written, since nothing here reads them. Each command then runs in a
process of its own. Prints JSON lines, and draws the cost against the number with `--plot`.
"""

import argparse
import json
import multiprocessing
import os
import resource
import tempfile
import time
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from scale import settings_of

from nircam_darks.operations.coverage import coverage_matrix
from nircam_darks.operations.stability import store_stability
from nircam_darks.operations.status import store_status
from shared.catalog.exposure_sets import set_id
from shared.catalog.packs import Catalog, CatalogPart, collecting_later, stored_by_catalog
from shared.catalog.products import walk
from shared.catalog.series_products import series_product_of
from shared.catalog.store_contents import summary_of
from shared.catalog.waiting import WaitingSurvey
from shared.contracts.messages import SetMember
from shared.products.announced_counts import note_key
from shared.runtime.metrics import Metrics
from shared.settings.stage import StageSettings
from shared.store.base import Store
from shared.store.counting import CountingStore
from shared.store.manifest import MANIFEST
from shared.store.opening import open_store
from support.arrivals import DictStore
from support.report_store import FilledStore, a_key

STEPS = (1000, 3000, 10_000, 30_000, 100_000)
COMMANDS = ("status", "coverage", "stability", "survey")
DETECTORS = [f"NRC{module}{n}" for module in "AB" for n in (1, 2, 3, 4)] + ["NRCALONG", "NRCBLONG"]
#: Campaigns of ten exposures within an hour, 17 hours apart.
_FIRST, _APART, _EXPOSURE = 52000.0, 0.7, 0.004
_CREATED = datetime(2026, 1, 1, tzinfo=UTC)
_A_SET = 10
#: Sets written at once: about a pack.
_SETS_AT_ONCE = 200


class Template:
    """The products of one configuration, of which those of the campaigns are copies."""

    def __init__(self, detector: str) -> None:
        store = DictStore()
        self.key = a_key(detector=detector)
        filled = FilledStore(store, Path("/files"))
        filled.ramp(self.key, "template", 0, integrations=2)
        filled.exposure_noise(self.key, "template")
        names = [f"template{n}" for n in range(_A_SET)]
        filled.reference(self.key, names)
        filled.set_noise(self.key, names)
        products = list(walk(store, "ingest/", "darkref/", "noise/"))
        self.summaries = {product.kind: summary_of(product) for product in products}
        self.series = {product.kind: series_product_of(product) for product in products}

    def add_set(self, number: int, part: CatalogPart) -> None:
        """Add a campaign: its exposures with their noise, its reference and its noise."""
        created = _CREATED + timedelta(seconds=number)
        members = [self._add_exposure(number, n, created, part) for n in range(_A_SET)]
        names = [member.exposure_id for member in members]
        name = set_id(members)
        for kind, stage in (("reference", "darkref"), ("set-noise", "noise")):
            path = f"{stage}/{self.key.slug}/{name}/{number:032x}"
            part.products[path] = replace(
                self.summaries[kind], path=path, subject=name, created=created, exposures=frozenset(names)
            )
            copied = json.loads(self.series[kind].model_dump_json())
            measured = sorted({point["name"] for _, of, point in copied["points"] if of == "exposure"})
            renamed = dict(zip(measured, names, strict=False))
            for _, of, point in copied["points"]:
                point["name"] = renamed[point["name"]] if of == "exposure" else name
                point["mjd"] += _APART * number
            copied |= {"path": path, "created": created, "exposures": names}
            part.series[path] = type(self.series[kind]).model_validate(copied)

    def _add_exposure(self, number: int, n: int, created: datetime, part: CatalogPart) -> SetMember:
        name = f"jw{number:07d}{n}{self.key.detector.lower()}"
        path = f"ingest/{self.key.slug}/{name}/{number * _A_SET + n:032x}"
        ramp = self.summaries["ramp"]
        start = _FIRST + _APART * number + _EXPOSURE * n
        member = ramp.member.model_copy(
            update={
                "exposure_id": name,
                "manifest": f"{path}/{MANIFEST}",
                "start_mjd": start,
                "end_mjd": start + _EXPOSURE,
            }
        )
        delivery = replace(ramp.delivery, exposure_id=name, revision=path, created=created)
        part.products[path] = replace(
            ramp, path=path, subject=name, created=created, member=member, delivery=delivery
        )
        part.notes.add(note_key(self.key.slug, name, _A_SET))
        noise = path.replace("ingest/", "noise/", 1)
        part.products[noise] = replace(
            self.summaries["exposure-noise"], path=noise, subject=name, created=created
        )
        series = self.series["exposure-noise"]
        points = [
            (quantity, of, point.model_copy(update={"name": name, "mjd": start}))
            for quantity, of, point in series.points
        ]
        part.series[noise] = series.model_copy(update={"path": noise, "created": created, "points": points})
        return member


def fill(store: Store, templates: list[Template], first: int, last: int) -> None:
    """Bring the catalog of a store from one number of exposures to another."""
    catalog, part = Catalog(store), CatalogPart()
    for number in range(first // _A_SET, last // _A_SET):
        templates[number % len(templates)].add_set(number, part)
        if number % _SETS_AT_ONCE == _SETS_AT_ONCE - 1:
            catalog.write(part)
            part = CatalogPart()
    catalog.write(part)


def run(command: str, settings: StageSettings) -> dict[str, Any]:
    """Run one command; return what it cost."""
    store = CountingStore(open_store(settings))
    now = datetime(2026, 3, 2, tzinfo=UTC)
    began = time.perf_counter()
    if command == "status":
        with collecting_later():
            store_status(stored_by_catalog(store), settings, 10, now)
    elif command == "coverage":
        with collecting_later():
            coverage_matrix(store, settings, now)
    elif command == "stability":
        with collecting_later():
            store_stability(store)
    else:
        WaitingSurvey(Metrics("ingest"))(store)
    seconds = time.perf_counter() - began
    return {
        "command": command,
        "seconds": round(seconds, 2),
        "processor_seconds": round(time.process_time(), 2),
        "requests": store.requests,
        "memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def plot(points: list[dict[str, Any]], path: Path) -> None:
    """Draw requests and processor time of each command against the number of exposures."""
    from matplotlib import pyplot as plt
    from matplotlib.ticker import StrMethodFormatter

    figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), sharex=True, layout="constrained")
    for command in COMMANDS:
        mine = [point for point in points if point["command"] == command]
        x = [point["exposures"] for point in mine]
        axes[0].loglog(x, [point["requests"] for point in mine], "o-", label=command)
        axes[1].loglog(x, [point["processor_seconds"] for point in mine], "o-", label=command)
    axes[0].axhline(200, color="grey", ls=":")
    axes[1].axhline(10, color="grey", ls=":")
    axes[0].set_ylabel("requests")
    axes[1].set_ylabel("processor seconds, start included")
    axes[0].legend()
    for axis in axes:
        axis.set_xlabel("exposures")
        axis.grid(which="major", alpha=0.3)
        axis.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        for each in (axis.yaxis.set_major_formatter, axis.yaxis.set_minor_formatter):
            each(StrMethodFormatter("{x:.0f}"))
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure, print, and draw."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--exposures", type=int, default=10_000, help="fill the store up to this number")
    options.add_argument("--store", choices=["folder", "bucket"], default="folder")
    options.add_argument("--plot", type=Path)
    given = options.parse_args()
    points = []
    templates = [Template(detector) for detector in DETECTORS]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-answers-")))
        settings = stack.enter_context(settings_of(given.store, folder))
        store = open_store(settings)
        stack.callback(store.close)
        Catalog(store).remake()
        filled = 0
        for step in [step for step in STEPS if step < given.exposures] + [given.exposures]:
            fill(store, templates, filled, step)
            filled = step
            for command in COMMANDS:
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    points.append({"exposures": step, **pool.apply(run, (command, settings))})
                print(json.dumps(points[-1]), flush=True)
    if given.plot:
        plot(points, given.plot)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
