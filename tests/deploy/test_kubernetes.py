"""deploy/kubernetes: that Kubernetes and KEDA take it, and that it keeps what it says."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jsonschema
import kubernetes_validate
import pytest
import yaml
from doing_without import do_without

from shared.service_settings import ServiceSettings, known_variables
from shared.topology import BINDINGS

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
OVERLAYS = ("small", "production", "scaledjob")
SCALED = ("production", "scaledjob")
#: The oldest and the newest Kubernetes that the objects are checked for.
VERSIONS = ("1.29", "1.34")
KEDA = json.loads((Path(__file__).parent / "keda.schema.json").read_text())
#: Read by the jwst pipeline and boto3 themselves.
OTHERS = {"CRDS_PATH", "CRDS_SERVER_URL", "STPIPE_DISABLE_CRDS_STEPPARS", "AWS_EC2_METADATA_DISABLED"}

Object = dict[str, Any]


@pytest.fixture(scope="module")
def rendered() -> dict[str, list[Object]]:
    """What `kubectl kustomize` makes of every folder that somebody applies."""
    own = ROOT / ".servers/kubectl/usr/bin/kubectl"
    kubectl = os.environ.get("DARKS_TEST_KUBECTL") or shutil.which("kubectl") or (own.is_file() and str(own))
    if not kubectl:
        do_without("no kubectl: sh deploy/install-servers.sh kubectl (as root, with apt)")
    found = {}
    for name in (*(f"overlays/{overlay}" for overlay in OVERLAYS), "topology"):
        done = subprocess.run(
            [kubectl, "kustomize", KUBERNETES / name], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        assert not done.stderr, done.stderr
        found[name.removeprefix("overlays/")] = list(yaml.safe_load_all(done.stdout))
    return found


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
    found: dict[str, str] = {}
    for source in container.get("envFrom", []):
        found |= maps[source["configMapRef"]["name"]]["data"]
    return found | {each["name"]: each["value"] for each in container.get("env", [])}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", [*OVERLAYS, "topology"])
def test_kubernetes_and_keda_take_every_object(
    rendered: dict[str, list[Object]], name: str, version: str
) -> None:
    for each in rendered[name]:
        if each["apiVersion"] == "keda.sh/v1alpha1":
            # Given an object of KEDA's; then it has the fields that KEDA knows, and no others
            schema = {"$ref": f"#/$defs/{each['kind']}", "$defs": KEDA["$defs"]}
            jsonschema.Draft202012Validator(schema).validate(each["spec"])
            if each["kind"] != "ScaledJob":
                continue
            each = as_job(each)
        kubernetes_validate.validate(each, version, strict=True)


@pytest.mark.parametrize("name", [*OVERLAYS, "topology"])
def test_everything_is_in_one_namespace_and_no_name_twice(
    rendered: dict[str, list[Object]], name: str
) -> None:
    seen = [(each["kind"], each["metadata"]["name"]) for each in rendered[name]]
    assert len(seen) == len(set(seen))
    for each in rendered[name]:
        if each["kind"] != "Namespace":
            assert each["metadata"]["namespace"] == "nircam-darks", each["metadata"]


@pytest.mark.parametrize("name", [*OVERLAYS, "topology"])
def test_nobody_has_a_right_that_he_does_not_need(rendered: dict[str, list[Object]], name: str) -> None:
    objects = rendered[name]
    accounts = named(objects, "ServiceAccount")
    kinds = {each["kind"] for each in objects}
    # Given any overlay; then it gives no account a right, and holds no secret
    assert not kinds & {"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding", "Secret"}
    for who, pod in pods(objects):
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False, who
        assert spec["enableServiceLinks"] is False, who
        assert accounts[spec["serviceAccountName"]]["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] == 65532
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not spec.keys() & {"hostNetwork", "hostPID", "hostIPC"}
        (container,) = spec["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        # And what it may write to is bounded, and all else is mounted to be read
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        for mount in container["volumeMounts"]:
            assert mount.get("readOnly") or volumes[mount["name"]]["emptyDir"]["sizeLimit"], (who, mount)
        assert container["resources"]["limits"]["memory"], who


@pytest.mark.parametrize("name", [*OVERLAYS, "topology"])
def test_settings_are_known_and_hold_no_password(rendered: dict[str, list[Object]], name: str) -> None:
    for who, pod in pods(rendered[name]):
        found = environment(rendered[name], pod)
        assert set(found) <= known_variables() | OTHERS | {"DARKS_SETTINGS_FILE"}, who
        assert urlsplit(found["DARKS_BROKER_URL"]).password is None
        assert found["DARKS_BROKER_USER"] == who
        # And the user has a secret of its own, mounted where the settings say
        (mount,) = (m for m in pod["spec"]["containers"][0]["volumeMounts"] if m["name"] == "secrets")
        (volume,) = (v for v in pod["spec"]["volumes"] if v["name"] == "secrets")
        sources = [source["secret"] for source in volume["projected"]["sources"]]
        held = {f"{mount['mountPath']}/{item['path']}" for source in sources for item in source["items"]}
        wanted = ("DARKS_BROKER_PASSWORD_FILE", "DARKS_SETTINGS_FILE")
        assert {found[key] for key in wanted if key in found} == held
        assert all(source["name"].endswith(f"-{who}") for source in sources)


@pytest.mark.parametrize("name", OVERLAYS)
def test_a_worker_that_must_go_ends_its_job_first(rendered: dict[str, list[Object]], name: str) -> None:
    # Given the broker's own limit
    lines = (ROOT / "deploy/rabbitmq/rabbitmq.conf").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("consumer_timeout"))
    broker = int(line.split("=")[1]) / 1000
    workers = dict(pods(rendered[name]))
    assert set(workers) == set(BINDINGS)
    for pod in workers.values():
        found = environment(rendered[name], pod)
        own = ServiceSettings(
            job_seconds=found["DARKS_JOB_SECONDS"], grace_seconds=found["DARKS_GRACE_SECONDS"]
        )
        # Then: job < grace < the pod's own grace < consumer timeout
        kubernetes = pod["spec"]["terminationGracePeriodSeconds"]
        assert own.job_seconds < own.grace_seconds < kubernetes < broker
        # And a job's memory fits
        memory = pod["spec"]["containers"][0]["resources"]["limits"]["memory"]
        assert int(memory.removesuffix("Gi")) * 1024**3 >= 1.5 * int(found["DARKS_MAX_MEMORY"])


@pytest.mark.parametrize("name", OVERLAYS)
def test_each_worker_runs_its_own_image_and_is_asked_how_it_is(
    rendered: dict[str, list[Object]], name: str
) -> None:
    services = named(rendered[name], "Service")
    targets = {
        line.split()[-1] for line in (ROOT / "Dockerfile").read_text().splitlines() if "FROM" in line[:4]
    }
    for who, pod in pods(rendered[name]):
        (container,) = pod["spec"]["containers"]
        assert container["image"].split(":")[0] == f"nircam-darks-{who}"
        assert who in targets
        assert container["startupProbe"]["httpGet"]["path"] == "/live"
        assert container["livenessProbe"]["httpGet"]["path"] == "/live"
        assert container["readinessProbe"]["httpGet"]["path"] == "/ready"
        # And Prometheus finds each pod by the service's name
        assert services[who]["spec"]["clusterIP"] == "None"
        assert services[who]["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
        assert services[who]["spec"]["ports"][0]["port"] == ServiceSettings().http_port
        assert container["ports"][0]["containerPort"] == ServiceSettings().http_port


@pytest.mark.parametrize("name", SCALED)
def test_each_queue_has_one_scaler_of_its_exact_name(rendered: dict[str, list[Object]], name: str) -> None:
    objects = rendered[name]
    scaled = [each for each in objects if each["kind"] in ("ScaledObject", "ScaledJob")]
    credentials = named(objects, "TriggerAuthentication")
    queues = []
    for each in scaled:
        (trigger,) = each["spec"]["triggers"]
        vhost = {urlsplit(environment(objects, pod)["DARKS_BROKER_URL"]).path[1:] for _, pod in pods(objects)}
        assert {trigger["metadata"]["vhostName"]} == vhost
        # What is at work counts: over HTTP alone
        assert trigger["metadata"]["protocol"] == "http"
        assert trigger["metadata"]["mode"] == "QueueLength"
        assert trigger["authenticationRef"]["name"] in credentials
        queues.append(trigger["metadata"]["queueName"])
        assert each["metadata"]["name"] == queues[-1]
        if each["kind"] == "ScaledObject":
            assert each["spec"]["scaleTargetRef"]["name"] in named(objects, "Deployment")
    assert sorted(queues) == sorted(BINDINGS)
    # And no Deployment names replicas, which each `apply` would set back
    assert all("replicas" not in each["spec"] for each in named(objects, "Deployment").values())


def test_a_scaled_job_takes_one_message_and_ends(rendered: dict[str, list[Object]]) -> None:
    objects = rendered["scaledjob"]
    jobs = named(objects, "ScaledJob")
    assert set(jobs) == {"darkref", "noise"}
    for who, job in jobs.items():
        found = environment(objects, job["spec"]["jobTargetRef"]["template"])
        own = ServiceSettings(messages=found["DARKS_MESSAGES"], idle_seconds=found["DARKS_IDLE_SECONDS"])
        assert own.messages == 1
        assert own.idle_seconds is not None
        # And nothing else runs them, or counts them as workers that stay
        for kind in ("Deployment", "ScaledObject", "PodDisruptionBudget"):
            assert who not in named(objects, kind)


@pytest.mark.parametrize("name", [*OVERLAYS, "topology"])
def test_the_network_leads_to_broker_store_and_names_alone(
    rendered: dict[str, list[Object]], name: str
) -> None:
    policies = named(rendered[name], "NetworkPolicy")
    for who, pod in pods(rendered[name]):
        found = environment(rendered[name], pod)
        addresses = [found[key] for key in ("DARKS_BROKER_URL", "DARKS_S3_ENDPOINT") if key in found]
        # Given the servers of the settings: their port, and the namespace in their name
        wanted = {
            (urlsplit(address).port, str(urlsplit(address).hostname).split(".")[1]) for address in addresses
        }
        wanted.add((53, "kube-system"))
        if name == "topology":
            # It speaks with the management API too
            wanted.add((15672, "rabbitmq"))
        mine = [policy["spec"] for policy in policies.values() if selects(policy, pod)]
        assert {kind for policy in mine for kind in policy["policyTypes"]} == {"Ingress", "Egress"}, who
        assert {
            (port["port"], peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"])
            for policy in mine
            for rule in policy.get("egress", [])
            for port in rule["ports"]
            for peer in rule["to"]
        } == wanted, who
        # And nobody but Prometheus comes in
        assert [port["port"] for p in mine for rule in p.get("ingress", []) for port in rule["ports"]] == (
            [] if name == "topology" else [8080]
        )


def selects(policy: Object, pod: Object) -> bool:
    labels, selector = pod["metadata"]["labels"], policy["spec"]["podSelector"]
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        labels.get(one["key"]) in one["values"] for one in selector.get("matchExpressions", [])
    )
