"""deploy/kubernetes: that Kubernetes takes it, and that it keeps what it says."""

import tomllib
from urllib.parse import urlsplit

import kubernetes_validate
import pytest

from shared.contracts.routing import BINDINGS
from shared.settings.broker import BrokerSettings
from shared.settings.service import ServiceSettings, known_variables
from support.kubernetes_objects import (
    FOLDERS,
    OVERLAYS,
    ROOT,
    SCALED,
    TOPOLOGY,
    Object,
    as_job,
    environment,
    named,
    pods,
    selects,
)

#: The oldest and the newest Kubernetes that the objects are checked for.
VERSIONS = ("1.29", "1.34")
#: Read by the jwst pipeline and boto3 themselves.
OTHERS = {"CRDS_PATH", "CRDS_SERVER_URL", "AWS_EC2_METADATA_DISABLED"}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", FOLDERS)
def test_kubernetes_takes_every_object(rendered: dict[str, list[Object]], name: str, version: str) -> None:
    for each in rendered[name]:
        # Given what is not KEDA's (test_keda.py), and the jobs that KEDA makes
        made = as_job(each) if each["kind"] == "ScaledJob" else each
        if made["apiVersion"] != "keda.sh/v1alpha1":
            # Then it has the fields that Kubernetes knows, and no others
            kubernetes_validate.validate(made, version, strict=True)


@pytest.mark.parametrize("name", FOLDERS)
def test_everything_is_in_one_namespace_and_no_name_twice(
    rendered: dict[str, list[Object]], name: str
) -> None:
    seen = [(each["kind"], each["metadata"]["name"]) for each in rendered[name]]
    assert len(seen) == len(set(seen))
    for each in rendered[name]:
        if each["kind"] != "Namespace":
            assert each["metadata"]["namespace"] == "nircam-darks", each["metadata"]


@pytest.mark.parametrize("name", FOLDERS)
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
        # And what it may write to is bounded, and all else is mounted to be read; one pod fills the claim
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        for mount in container["volumeMounts"]:
            if (who, mount["name"]) == ("crds-filler", "crds"):
                continue
            assert mount.get("readOnly") or volumes[mount["name"]]["emptyDir"]["sizeLimit"], (who, mount)
        assert container["resources"]["limits"]["memory"], who


@pytest.mark.parametrize("name", [*OVERLAYS, *TOPOLOGY])
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
        result = environment(rendered[name], pod)
        own = ServiceSettings(
            job_seconds=result["DARKS_JOB_SECONDS"], grace_seconds=result["DARKS_GRACE_SECONDS"]
        )
        # Then: job < grace < the pod's own grace < consumer timeout
        kubernetes = pod["spec"]["terminationGracePeriodSeconds"]
        assert own.job_seconds < own.grace_seconds < kubernetes < broker
        # And a job's memory fits
        memory = pod["spec"]["containers"][0]["resources"]["limits"]["memory"]
        assert int(memory.removesuffix("Gi")) * 1024**3 >= 1.5 * int(result["DARKS_MAX_MEMORY"])
        assert int(memory.removesuffix("Gi")) <= 3


@pytest.mark.parametrize("name", OVERLAYS)
def test_each_worker_runs_its_own_image_and_is_asked_how_it_is(
    rendered: dict[str, list[Object]], name: str
) -> None:
    services = named(rendered[name], "Service")
    for who, pod in pods(rendered[name]):
        (container,) = pod["spec"]["containers"]
        assert container["image"].startswith(f"nircam-darks-{who}:")
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
        result = environment(objects, job["spec"]["jobTargetRef"]["template"])
        own = ServiceSettings(messages=result["DARKS_MESSAGES"], idle_seconds=result["DARKS_IDLE_SECONDS"])
        assert own.messages == 1
        assert own.idle_seconds is not None
        # And nothing else runs them, or counts them as workers that stay
        for kind in ("Deployment", "ScaledObject", "PodDisruptionBudget"):
            assert who not in named(objects, kind)


@pytest.mark.parametrize("name", [*OVERLAYS, *TOPOLOGY])
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
        if name in TOPOLOGY:
            # It speaks with the management API too
            management = BrokerSettings(url=found["DARKS_BROKER_URL"]).management
            wanted.add((urlsplit(management).port, "rabbitmq"))
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
            [] if name in TOPOLOGY else [8080]
        )


def test_the_pod_that_fills_the_claim_reaches_no_server(rendered: dict[str, list[Object]]) -> None:
    # Given it beside the workers, whose policies may select it too
    ((_, pod),) = pods(rendered["crds-filler"])
    policies = named(rendered["crds-filler"] + rendered["production"], "NetworkPolicy").values()
    mine = [policy["spec"] for policy in policies if selects(policy, pod)]
    # Then it is shut in, but for names
    assert {kind for policy in mine for kind in policy["policyTypes"]} == {"Ingress", "Egress"}
    assert not [rule for policy in mine for rule in policy.get("ingress", [])]
    assert {
        port["port"] for policy in mine for rule in policy.get("egress", []) for port in rule["ports"]
    } == {53}
    # And it writes where the workers read
    (volume,) = pod["spec"]["volumes"]
    claim = volume["persistentVolumeClaim"]["claimName"]
    assert claim in named(rendered["production"], "PersistentVolumeClaim")
    for _, worker in pods(rendered["production"]):
        (mounted,) = (v for v in worker["spec"]["volumes"] if v["name"] == "crds")
        assert mounted["persistentVolumeClaim"] == {"claimName": claim, "readOnly": True}


@pytest.mark.parametrize(("name", "overlay"), TOPOLOGY.items())
def test_the_topology_job_speaks_with_the_workers_broker(
    rendered: dict[str, list[Object]], name: str, overlay: str
) -> None:
    # Given the job and a worker; then the broker, and whom they trust about it, is the same
    ((_, job),) = pods(rendered[name])
    worker = dict(pods(rendered[overlay]))["ingest"]
    output, wanted = environment(rendered[name], job), environment(rendered[overlay], worker)
    for key in ("DARKS_BROKER_URL", "DARKS_BROKER_CA_FILE"):
        assert output.get(key) == wanted.get(key), key
    assert trust(job) == trust(worker)
    assert bool(trust(job)) == wanted["DARKS_BROKER_URL"].startswith("amqps:")


def trust(pod: Object) -> list[Object]:
    """Return how a pod has the authority that signs certificates: its volume and its mount."""
    (container,) = pod["spec"]["containers"]
    return [each for each in pod["spec"]["volumes"] + container["volumeMounts"] if each["name"] == "trust"]


@pytest.mark.parametrize("name", FOLDERS)
def test_each_image_is_a_target_with_this_version(rendered: dict[str, list[Object]], name: str) -> None:
    # Given the Dockerfile's targets and the project's version
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    targets = {line.split()[-1] for line in lines if line.startswith("FROM ")}
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for who, pod in pods(rendered[name]):
        # Then each image is one of them: without a tag a node would ask the registry at each start
        image, tag = pod["spec"]["containers"][0]["image"].split(":")
        assert image.removeprefix("nircam-darks-") in targets, who
        assert tag == version, who
