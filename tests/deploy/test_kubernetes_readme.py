"""deploy/kubernetes/README.md: who does what it says, in that order, has all that the objects ask for."""

import re
from urllib.parse import urlsplit

import pytest
import yaml

from shared.settings.broker import BrokerSettings
from support.kubernetes_objects import FOLDERS, KUBERNETES, ROOT, Object, environment, folder, named, pods

README = (KUBERNETES / "README.md").read_text()


def made_by_hand() -> dict[tuple[str, str], set[str]]:
    """Return the keys of each secret and map that the commands make, the loops over users written out."""
    made: dict[tuple[str, str], set[str]] = {}
    loop, create = (
        r"(?:for user in ([\w ]+); do\s+)?",
        r"kubectl -n \S+ create (secret generic|configmap) (\S+) (.*)",
    )
    for users, kind, name, rest in re.findall(loop + create, README):
        keys = set(re.findall(r"--from-file=([\w.-]+)", rest))
        for user in users.split() or [""]:
            made["Secret" if "secret" in kind else "ConfigMap", name.replace("$user", user)] = keys
    return made


def asked_for(objects: list[Object]) -> set[tuple[str, str, str]]:
    """Return kind, name and key of what pods and triggers take from secrets and maps."""
    result = set()
    for _, pod in pods(objects):
        for volume in pod["spec"]["volumes"]:
            for source in volume.get("projected", {}).get("sources", []):
                result |= {
                    ("Secret", source["secret"]["name"], each["key"]) for each in source["secret"]["items"]
                }
            if output := volume.get("configMap"):
                result |= {("ConfigMap", output["name"], each["key"]) for each in output["items"]}
    for each in named(objects, "TriggerAuthentication").values():
        for kind, field in (("Secret", "secretTargetRef"), ("ConfigMap", "configMapTargetRef")):
            result |= {(kind, entry["name"], entry["key"]) for entry in each["spec"].get(field, [])}
    return result


@pytest.mark.parametrize("name", FOLDERS)
def test_each_secret_and_map_is_made(rendered: dict[str, list[Object]], name: str) -> None:
    # Given what is made by hand, and what is applied with the rest
    made = {(kind, name, key) for (kind, name), keys in made_by_hand().items() for key in keys}
    for each in named(rendered[name], "ConfigMap").values():
        made |= {("ConfigMap", each["metadata"]["name"], key) for key in each["data"]}
    # Then no pod waits for what nobody made
    assert asked_for(rendered[name]) <= made


def test_each_folder_is_there_and_each_is_told_of() -> None:
    # Given the folders of the commands, here and in the runbook
    runbook = (ROOT / "docs" / "runbook.md").read_text()
    report = {KUBERNETES / each for each in re.findall(r"kubectl (?:apply|delete) -[kf] (\S+)", README)}
    report |= {ROOT / each for each in re.findall(r"kubectl apply -k (\S+)", runbook)}
    # Then each is there
    assert all(each.exists() for each in report), report
    # And the rest of what somebody may apply is named
    assert {KUBERNETES / "overlays/production", KUBERNETES / "overlays/production/topology"} <= report
    for name in FOLDERS:
        assert f"`{name}`" in README or folder(name) in report, name


def test_the_broker_gets_its_users_around_its_queues() -> None:
    # Given the third step; RabbitMQ gives no right to an exchange that is not there
    steps = [
        README.index("users.py secrets --user topology\n"),
        README.index("apply -k overlays/production/topology\n"),
        README.index("job/topology\n"),
        README.index("users.py secrets\n"),
        README.index("apply -k overlays/production\n"),
    ]
    # Then first comes who makes the queues, then they, then all users, then the workers
    assert steps == sorted(steps)


def test_keda_is_given_the_address_of_the_brokers_management(rendered: dict[str, list[Object]]) -> None:
    # Given the address that the commands write, and the workers' broker
    (address,) = re.findall(r"printf '(\S+)'", README)
    _, pod = next(pods(rendered["production"]))
    broker = BrokerSettings(url=environment(rendered["production"], pod)["DARKS_BROKER_URL"])
    # Then it is that broker's, at its virtual host, as the user who may see the length of queues
    parts = urlsplit(address)
    assert f"{parts.scheme}://{parts.hostname}:{parts.port}" == broker.management
    assert (parts.username, parts.password, parts.path) == ("monitor", "%s", f"/{broker.vhost}")


def test_the_images_that_are_built_are_the_ones_that_are_named() -> None:
    # Given the loop that builds them; then each has its place for the registry and the tag
    (targets,) = re.findall(r"for target in ([\w ]+); do", README)
    images = yaml.safe_load((KUBERNETES / "images/kustomization.yaml").read_text())["images"]
    assert {each["name"] for each in images} == {f"nircam-darks-{target}" for target in targets.split()}
    assert all(each["newName"] and each["newTag"] for each in images)
