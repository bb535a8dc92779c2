"""KEDA's objects: that KEDA takes them, each field by its published CRD, and what the CRD leaves open."""

import copy
from typing import Any

import jsonschema
import pytest
from cloudcoil.models.keda import v1alpha1
from pydantic import ValidationError

from shared.settings.broker import BrokerSettings
from support.kubernetes_objects import SCALED, Object, environment, named, pods

#: The CRD takes any words as a trigger's metadata. These are the RabbitMQ scaler's own, of its documentation.
SCALER = {
    "type": "object",
    "additionalProperties": False,
    "required": ["protocol", "mode", "queueName", "value"],
    "properties": {
        "protocol": {"enum": ["http", "amqp", "auto"]},
        "mode": {"enum": ["QueueLength", "MessageRate"]},
        "queueName": {"type": "string"},
        "vhostName": {"type": "string"},
        "value": {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?$"},
    },
}
#: What the same scaler takes from a TriggerAuthentication.
PARAMETERS = {"host", "username", "password", "tls", "ca", "cert", "key", "keyPassword"}


def check(each: Object) -> None:
    """Refuse what KEDA 2.16's CRD does not know, or the RabbitMQ scaler; both tell what and where."""
    model = getattr(v1alpha1, each["kind"])
    # The models take unknown fields, words for numbers, and Python's own names for fields: KEDA does not.
    model.model_validate(each, strict=True, extra="forbid", by_alias=True, by_name=False)
    for trigger in each["spec"].get("triggers", []):
        jsonschema.validate(trigger, {"properties": {"type": {"const": "rabbitmq"}, "metadata": SCALER}})


@pytest.mark.parametrize("name", SCALED)
def test_keda_takes_every_object(rendered: dict[str, list[Object]], name: str) -> None:
    # Given KEDA's objects of an overlay; then each has the fields that KEDA knows, and no others
    ours = [each for each in rendered[name] if each["apiVersion"] == "keda.sh/v1alpha1"]
    assert {each["kind"] for each in ours} >= {"ScaledObject", "TriggerAuthentication"}
    for each in ours:
        check(each)


@pytest.mark.parametrize(
    ("kind", "where", "value"),
    [
        ("ScaledObject", "spec.maxReplicas", 4),
        ("ScaledObject", "spec.max_replica_count", 4),
        ("ScaledObject", "spec.maxReplicaCount", "4"),
        ("ScaledObject", "spec.scaleTargetRef.name", None),
        ("ScaledObject", "spec.triggers.0.authenticationRef.names", "broker-monitor"),
        ("ScaledObject", "spec.advanced.horizontalPodAutoscalerConfig.behavior.scaleDown.policy", []),
        (
            "ScaledObject",
            "spec.advanced.horizontalPodAutoscalerConfig.behavior.scaleDown.stabilizationWindowSeconds",
            7200,
        ),
        ("ScaledObject", "spec.triggers.0.metadata.value", 1),
        ("ScaledObject", "spec.triggers.0.metadata.queue", "ingest"),
        ("ScaledObject", "spec.triggers.0.metadata.protocol", "https"),
        ("ScaledObject", "spec.triggers.0.type", "rabbit"),
        ("ScaledJob", "spec.rollout.strategies", "gradual"),
        ("ScaledJob", "spec.failedJobsHistoryLimit", "10"),
        ("ScaledJob", "spec.jobTargetRef.backofLimit", 0),
        ("ScaledJob", "spec.jobTargetRef.template.spec.containers.0.volumeMount", []),
        ("TriggerAuthentication", "spec.secretTargetRefs", []),
        ("TriggerAuthentication", "spec.secretTargetRef.0.key", 1),
    ],
)
def test_what_keda_does_not_know_is_refused(
    rendered: dict[str, list[Object]], kind: str, where: str, value: Any
) -> None:
    # Given an object that is taken, of which one field is misspelt, of a wrong type or out of bounds
    each = copy.deepcopy(next(iter(named(rendered["scaledjob"], kind).values())))
    check(each)
    *way, last = where.split(".")
    part: Any = each
    for step in way:
        part = part[int(step) if step.isdigit() else step]
    part[last] = value
    # Then it is refused
    with pytest.raises((ValidationError, jsonschema.ValidationError)):
        check(each)


@pytest.mark.parametrize("name", SCALED)
def test_each_trigger_is_told_who_may_ask_and_whom_to_trust(
    rendered: dict[str, list[Object]], name: str
) -> None:
    objects = rendered[name]
    (access,) = named(objects, "TriggerAuthentication").values()
    sources = access["spec"]["secretTargetRef"] + access["spec"]["configMapTargetRef"]
    given = {each["parameter"]: each for each in sources}
    # Given what the triggers get; then the scaler knows each of it
    assert given.keys() <= PARAMETERS
    # And where the workers speak TLS, so does KEDA, and trusts the same authority
    _, pod = next(pods(objects))
    result = environment(objects, pod)
    assert BrokerSettings(url=result["DARKS_BROKER_URL"]).management.startswith("https:")
    tls = given["tls"]
    assert named(objects, "ConfigMap")[tls["name"]]["data"][tls["key"]] == "enable"
    (volume,) = (each for each in pod["spec"]["volumes"] if each["name"] == "trust")
    assert given["ca"]["name"] == volume["configMap"]["name"]
    assert result["DARKS_BROKER_CA_FILE"].endswith(f"/{given['ca']['key']}")
