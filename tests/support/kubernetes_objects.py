"""What deploy/kubernetes makes, taken apart for the tests."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from support.paths import ROOT

KUBERNETES = ROOT / "deploy" / "kubernetes"
OVERLAYS = ("small", "production", "scaledjob")
#: Those whose workers KEDA scales.
SCALED = ("production", "scaledjob")
#: Each topology job, and the overlay whose workers it makes queues for.
TOPOLOGY = {"topology": "small", "production/topology": "production"}
FOLDERS = (*OVERLAYS, *TOPOLOGY, "crds-filler")

Object = dict[str, Any]


def folder(name: str) -> Path:
    """Return where `kubectl apply -k` finds one of `FOLDERS`."""
    return KUBERNETES / (name if name in ("topology", "crds-filler") else f"overlays/{name}")


def named(objects: list[Object], kind: str) -> dict[str, Object]:
    return {each["metadata"]["name"]: each for each in objects if each["kind"] == kind}


def as_job(scaled: Object) -> Object:
    """Return the Job that KEDA makes of a ScaledJob."""
    metadata = {key: scaled["metadata"][key] for key in ("name", "namespace")}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata,
        "spec": scaled["spec"]["jobTargetRef"],
    }


def pods(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    for each in objects:
        made = as_job(each) if each["kind"] == "ScaledJob" else each
        if made["kind"] in ("Deployment", "Job"):
            yield made["metadata"]["name"], made["spec"]["template"]


def environment(objects: list[Object], pod: Object) -> dict[str, str]:
    """Return what a pod's container finds in its environment; later ones win, as in Kubernetes."""
    (container,) = pod["spec"]["containers"]
    maps = named(objects, "ConfigMap")
    results: dict[str, str] = {}
    for source in container.get("envFrom", []):
        results |= maps[source["configMapRef"]["name"]]["data"]
    return results | {each["name"]: each["value"] for each in container.get("env", [])}


def selects(policy: Object, pod: Object) -> bool:
    labels, selector = pod["metadata"]["labels"], policy["spec"]["podSelector"]
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        labels.get(each["key"]) in each["values"] for each in selector.get("matchExpressions", [])
    )
