"""The dashboards of deploy/grafana as they are checked in, and their queries as Grafana would send them."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from support.prometheus_server import DEPLOY

GRAFANA = DEPLOY / "grafana"
DASHBOARDS = {
    path.stem: json.loads(path.read_text(encoding="utf-8")) for path in (GRAFANA / "dashboards").iterdir()
}


@dataclass(frozen=True)
class Asked:
    """A query of a panel.

    Attributes
    ----------
    repeated : str
        The variable for each value of which the panel is there once; empty where it is there once.
    """

    dashboard: str
    panel: dict[str, Any]
    target: dict[str, Any]
    repeated: str

    def __str__(self) -> str:
        return f"{self.dashboard}-{self.panel['title']}-{self.target['refId']}"


def panels(board: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Give every panel that is no row, with the variable that it or its row is repeated for."""
    repeated = ""
    for panel in board["panels"]:
        if panel["type"] == "row":
            repeated = panel.get("repeat", "")
        else:
            yield panel, panel.get("repeat", repeated)


def all_queries() -> list[Asked]:
    return [
        Asked(name, panel, target, repeated)
        for name, board in DASHBOARDS.items()
        for panel, repeated in panels(board)
        for target in panel["targets"]
    ]


def variables(board: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in board["templating"]["list"]}


def named_in(text: str) -> set[str]:
    """Return the variables that a text names."""
    return set(re.findall(r"\$\{?(\w+)\}?", text))


def substituted(text: str, values: dict[str, str]) -> str:
    """Return a text with its variables' values in their places; one that has none is an error."""
    return re.sub(r"\$\{?(\w+)\}?", lambda found: values[found[1]], text)
