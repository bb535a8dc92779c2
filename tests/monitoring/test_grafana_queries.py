"""Every query of every panel, its variables in place, asked of a real Prometheus that saw real services."""

import os
import re
import shutil
import subprocess
import urllib.parse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from shared.contracts.routing import BINDINGS
from support.grafana_dashboards import DASHBOARDS, Asked, all_queries, substituted, variables
from support.watched_services import Watched

pytestmark = pytest.mark.xdist_group("ceph")

#: Of this one the watched services made every product.
DETECTOR = "NRCB1"
RANGE = "1h"
QUERIES = [pytest.param(asked, id=str(asked)) for asked in all_queries()]


def offered(watched: Watched, variable: dict[str, Any]) -> list[str]:
    """Return the values that Grafana would offer: those of ``label_values(metric, label)``."""
    asked = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
    assert asked is not None
    result = watched.prometheus.query(f"group by ({asked[2]}) ({asked[1]})")
    return sorted(each["metric"][asked[2]] for each in result)


def chosen(watched: Watched, dashboard: str, **only: str) -> dict[str, str]:
    """Return what Grafana would put in place of each variable where all values are chosen, but for `only`."""
    values = {"__range": RANGE}
    for name, one in variables(DASHBOARDS[dashboard]).items():
        if one["type"] == "query":
            values[name] = one.get("allValue") or f"({'|'.join(offered(watched, one))})"
        elif one["type"] == "textbox":
            values[name] = one["query"]
    return values | only


def as_called(legend: str, names: dict[str, str]) -> str:
    """Return what Grafana calls a series of these labels."""
    return re.sub(r"{{(\w+)}}", lambda label: names[label[1]], legend)


def labels(text: str) -> set[str]:
    return set(re.findall(r"{{(\w+)}}", text))


def test_the_variables_offer_what_there_is(watched: Watched) -> None:
    processing, science = (variables(DASHBOARDS[name]) for name in ("processing", "science"))
    assert offered(watched, processing["service"]) == sorted(BINDINGS)
    assert len(offered(watched, science["detector"])) == 10
    assert offered(watched, science["subarray"])


@pytest.mark.parametrize("asked", QUERIES)
def test_a_query_has_an_answer_with_every_label_that_the_panel_names(watched: Watched, asked: Asked) -> None:
    once_each: dict[str, tuple[str, ...]] = {
        "": (".+",),
        "service": tuple(BINDINGS),
        "detector": (DETECTOR,),
    }
    for value in once_each[asked.repeated]:
        only = {asked.repeated: value} if asked.repeated else {}
        # When it is asked as Grafana would
        expression = substituted(asked.target["expr"], chosen(watched, asked.dashboard, **only))
        # (What was recorded last may be a moment behind what the services show.)
        result = watched.prometheus.until(partial(watched.prometheus.query, expression), expression, 15)
        # Then there is an answer, of numbers, and every series can be called what its legend says
        assert np.isfinite([float(entry["value"][1]) for entry in result]).all(), result
        names = [each["metric"] for each in result]
        for name in names:
            assert labels(asked.target["legendFormat"]) <= name.keys()
        if asked.panel["type"] == "table":
            # Rows are put together by their labels: each is a column, and there are no more
            heads = asked.panel["transformations"][1]["options"]["renameByName"]
            assert {tuple(sorted(name)) for name in names} == {
                tuple(sorted(head for head in heads if not head.startswith("Value")))
            }
        else:
            # No two series of a panel are called the same
            called = [as_called(asked.target["legendFormat"], name) for name in names]
            assert len(set(called)) == len(called), called


def test_the_alerts_marked_in_the_panels_can_be_asked_for(watched: Watched) -> None:
    for board in DASHBOARDS.values():
        for mark in board["annotations"]["list"]:
            # None may be told: that it is answered at all is enough
            assert isinstance(watched.prometheus.query(mark["expr"]), list)


def test_the_science_is_that_of_the_products(watched: Watched) -> None:
    # Given how far from what is expected the dashboard puts a dark current
    [distance] = [
        all_query
        for all_query in all_queries()
        if all_query.panel["title"] == "Dark current, from what is expected"
    ]
    value = watched.prometheus.value
    shown = value(substituted(distance.target["expr"], chosen(watched, "science", detector=DETECTOR)))
    # Then it is that of the figure, its error and the band that the services show, in sigma of both
    figure = value(f'darks_dark_current_electrons_per_kilosecond{{detector="{DETECTOR}"}}')
    error = value(f'darks_dark_current_error_electrons_per_kilosecond{{detector="{DETECTOR}"}}')
    band = f'darks_expected_dark_current_electrons_per_kilosecond{{detector="{DETECTOR}",edge='
    low, high = value(band + '"low"}'), value(band + '"high"}')
    assert shown is not None
    assert figure is not None
    assert error is not None
    assert error > 0
    assert low is not None
    assert high is not None
    sigma = np.hypot(error, (high - low) / 4)
    assert shown == pytest.approx((figure - (low + high) / 2) / sigma)
    # And a detector that nobody measured is said to be so
    [seen] = [
        each
        for each in all_queries()
        if (each.panel["title"], each.target["legendFormat"]) == ("Last measured", "dark current")
    ]
    result = watched.prometheus.query(substituted(seen.target["expr"], chosen(watched, "science")))
    ages = {entry["metric"]["detector"]: float(entry["value"][1]) for entry in result}
    assert ages.pop(DETECTOR) >= 0
    assert set(ages.values()) == {-1.0}
    assert len(ages) == 9


@pytest.fixture
def look(tmp_path: Path) -> Callable[..., str]:
    """Return what headless Chromium prints of a page whose requests were answered, given more words."""
    chromium = shutil.which("chromium")
    if chromium is None:
        output = "chromium is not installed: sh deploy/install-servers.sh chromium"
        if os.environ.get("CI") == "true":
            pytest.fail(output)
        pytest.skip(output)
    flags = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --hide-scrollbars "
        "--disable-background-networking --disable-component-update --disable-sync "
        "--virtual-time-budget=15000"
    )

    def printed(address: str, *words: str) -> str:
        done = subprocess.run(
            [chromium, *flags.split(), f"--user-data-dir={tmp_path / 'profile'}", *words, address],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    return printed


def test_prometheus_own_pages_show_the_panels_queries_and_every_alert(
    watched: Watched, look: Callable[..., str], tmp_path: Path
) -> None:
    # Given two queries of the dashboards
    wanted = {"Bytes read and written": "ingest", "Dark current, from what is expected": DETECTOR}
    asked = [all_query for all_query in all_queries() if all_query.panel["title"] in wanted]
    assert len(asked) == 2
    parameters: dict[str, str] = {}
    for number, one in enumerate(asked):
        expression = substituted(one.target["expr"], chosen(watched, one.dashboard))
        parameters |= {f"g{number}.expr": expression, f"g{number}.tab": "0", f"g{number}.range_input": "5m"}
    # When Prometheus's own page draws them
    address = f"{watched.prometheus.url}/graph?{urllib.parse.urlencode(parameters)}"
    graphs = look(address, "--dump-dom")
    pictures = {"graphs.png": address}
    # Then each is there, with a series by name
    assert all(f">{word}<" in graphs or f'"{word}"' in graphs for word in wanted.values())
    # When the page that its menu calls Alerts is opened: Debian's is elsewhere than Prometheus's own
    menu = re.search(r'href="([^"]+)"[^>]*>\s*Alerts', graphs)
    assert menu is not None
    pictures["alerts.png"] = urllib.parse.urljoin(address, menu[1])
    alerts = look(pictures["alerts.png"], "--dump-dom")
    # Then every alert is there
    report = {rule["name"] for rule in watched.prometheus.rules() if rule["type"] == "alerting"}
    assert {alert for alert in report if alert not in alerts} == set()
    # And both are drawn
    for name, address in pictures.items():
        look(address, "--window-size=1400,1700", f"--screenshot={tmp_path / name}")
        with Image.open(tmp_path / name) as drawn:
            assert len(drawn.convert("RGB").getcolors(1 << 20) or ()) > 50
