"""Write the dashboards of deploy/grafana/dashboards: ``python deploy/grafana/build.py [folder]``.

The JSON is checked in, so that Grafana needs only the files; a test compares it with the output of this
script.
"""

import argparse
from pathlib import Path

import processing
import science
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard, RowPanel

DASHBOARDS = {"processing.json": processing.dashboard, "science.json": science.dashboard}


def numbered(dashboard: Dashboard) -> Dashboard:
    """Number the panels, so that links can point to them."""
    number = 0
    for outer in dashboard.panels or []:
        for panel in (outer, *(outer.panels if isinstance(outer, RowPanel) else ())):
            number += 1
            panel.id_val = number
    return dashboard


def main() -> None:
    """Write every dashboard into the folder named on the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).with_name("dashboards"))
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in DASHBOARDS.items():
        encoder = JSONEncoder(sort_keys=True, indent=2, ensure_ascii=False)
        (folder / name).write_text(encoder.encode(numbered(make().build())) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
