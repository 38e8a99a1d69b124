"""The Helm chart: what it makes is valid Kubernetes, agrees with itself, and refuses what lacks."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.documentation import ROOT
from tests.unit.test_containers import is_known

pytestmark = pytest.mark.slow
CHART = ROOT / "deploy" / "chart"
_KUBERNETES = "1.34"
#: What is no part of Kubernetes itself.
_OTHERS = {"ScaledObject": "keda.sh/v1alpha1", "PodMonitor": "monitoring.coreos.com/v1"}
_SPREAD = "topologySpreadConstraints"
_LEAST = {"settings": {"TEMPORAL_ADDRESS": "temporal:7233", "WPE_DB_HOST": "warehouse"}}
_ALL = {
    "settings": _LEAST["settings"]
    | {"TEMPORAL_NAMESPACE": "etl", "WPE_DB_STATEMENT_TIMEOUT_SECONDS": 2_000_000},
    "secret": {"name": "etl", "keys": ["WPE_DB_PASSWORD", "JIRA_API_TOKEN"]},
    "files": {"configMap": "files"},
    "serviceAccount": {"annotations": {"a": "b"}},
    "podAnnotations": {"a": "b"},
    "podLabels": {"team": "data"},
    "nodeSelector": {"disk": "fast"},
    "tolerations": [{"key": "etl", "operator": "Exists"}],
    "affinity": {"podAntiAffinity": {}},
    "priorityClassName": "high",
    "image": {
        "repository": "registry.example.com/etl",
        "tag": "1.2.3",
        "pullSecrets": [{"name": "x"}],
    },
    "worker": {
        "settings": {"ETL_WORKER_PROCESSES": "auto"},
        "autoscaling": {
            "enabled": True,
            "sources": ["jira"],
            "prometheus": {"address": "http://prometheus:9090"},
            "trigger": {"tlsServerName": "temporal"},
            "authentication": "temporal",
        },
    },
    "api": {
        "ingress": {"enabled": True, "className": "x", "host": "etl.example.com", "tlsSecret": "t"}
    },
    "migration": {
        "settings": {"WPE_DB_USER": "etl_migrator"},
        "secret": {"name": "migrator", "keys": ["WPE_DB_PASSWORD"]},
    },
    "networkPolicy": {
        "api": [{"namespaceSelector": {}}],
        "metrics": [{"namespaceSelector": {}}],
        "egress": [{"ports": [{"port": 5432}]}],
    },
    "podMonitor": {"enabled": True, "labels": {"release": "x"}},
}

type Render = Callable[[dict[str, Any]], list[dict[str, Any]]]


def helm(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    command = shutil.which("helm")
    if command is None:
        pytest.skip("no Helm: no `helm` command on PATH")
    return subprocess.run(
        [command, *arguments, "--kube-version", _KUBERNETES],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def render(tmp_path: Path) -> Render:
    def rendered(values: dict[str, Any]) -> list[dict[str, Any]]:
        file = tmp_path / "values.yaml"
        file.write_text(json.dumps(values))
        done = helm("template", "acme", CHART, "--values", file)
        assert done.returncode == 0, done.stderr
        return [one for one in yaml.safe_load_all(done.stdout) if one]

    return rendered


def pods(documents: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    for one in documents:
        if one["kind"] in ("Deployment", "Job"):
            yield one["metadata"]["name"], one["spec"]["template"]


def environment(pod: dict[str, Any]) -> dict[str, str]:
    [container] = pod["spec"]["containers"]
    return {one["name"]: one["value"] for one in container["env"]}


@pytest.mark.parametrize("values", [_LEAST, _ALL], ids=["least", "all"])
def test_what_the_chart_makes_is_valid(render: Render, values: dict[str, Any]) -> None:
    documents = render(values)
    for one in documents:
        if one["kind"] in _OTHERS:
            assert one["apiVersion"] == _OTHERS[one["kind"]]
        else:
            kubernetes_validate.validate(one, _KUBERNETES, strict=True)
    names = [(one["kind"], one["metadata"]["name"]) for one in documents]
    assert len(names) == len(set(names))
    assert {kind for kind, _ in names} & _OTHERS.keys() == (
        _OTHERS.keys() if values is _ALL else set()
    )


def test_a_lint_finds_nothing(tmp_path: Path) -> None:
    (tmp_path / "values.yaml").write_text(json.dumps(_ALL))
    done = helm("lint", "--strict", CHART, "--values", tmp_path / "values.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("values", [_LEAST, _ALL], ids=["least", "all"])
def test_pods_have_settings_that_exist_and_no_right_that_they_need_not(
    render: Render, values: dict[str, Any]
) -> None:
    found = dict(pods(render(values)))
    assert {name.removeprefix("acme-temporaletl-") for name in found} == {
        *("queuer", "worker", "api", "migration")
    }
    for name, pod in found.items():
        given = environment(pod)
        assert [one for one in given if not is_known(one) and "JIRA" not in one] == [], name
        assert given["TEMPORAL_ADDRESS"] == "temporal:7233"
        spec, [container] = pod["spec"], pod["spec"]["containers"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        mounted = {one["name"] for one in container["volumeMounts"]}
        assert mounted == {one["name"] for one in spec["volumes"]}
        apart = [one["topologyKey"] for one in spec.get(_SPREAD, ())]
        if name.endswith("migration"):
            assert apart == []
            assert [*container["command"], *container["args"]] == ["etl", "migrate"]
            continue
        assert apart == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
        ports = {one["name"]: one["containerPort"] for one in container["ports"]}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert container[probe]["httpGet"]["port"] in ports
        assert ports["metrics"] == int(given["ETL_METRICS_PORT"])
        assert spec["terminationGracePeriodSeconds"] > 60
        assert container["args"] == [name.rpartition("-")[2]]


@pytest.mark.parametrize("values", [_LEAST, _ALL], ids=["least", "all"])
def test_the_migration_has_ended_before_anything_else_is_made_or_replaced(
    render: Render, values: dict[str, Any]
) -> None:
    """Helm waits for a hook's job, and makes all that is no hook afterwards."""
    documents = render(values)
    hooks = [one for one in documents if "helm.sh/hook" in one["metadata"].get("annotations", {})]
    [job] = hooks
    assert job["kind"] == "Job"
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    # One of the release before would be in its way.
    assert "before-hook-creation" in job["metadata"]["annotations"]["helm.sh/hook-delete-policy"]
    spec = job["spec"]["template"]["spec"]
    made = {one["metadata"]["name"] for one in documents if one is not job}
    needed = {spec.get("serviceAccountName", "default")}
    for volume in spec["volumes"]:
        needed.add(volume.get("secret", {}).get("secretName", ""))
        needed.add(volume.get("configMap", {}).get("name", ""))
    assert needed & made == set(), "what the chart itself makes is not there before"


def test_secrets_are_files_and_a_migrator_has_its_own(render: Render) -> None:
    found = dict(pods(render(_ALL)))
    for service, secret, keys in (
        ("worker", "etl", {"WPE_DB_PASSWORD", "JIRA_API_TOKEN"}),
        ("migration", "migrator", {"WPE_DB_PASSWORD"}),
    ):
        pod = found[f"acme-temporaletl-{service}"]
        files = {name: path for name, path in environment(pod).items() if name.endswith("_FILE")}
        assert files == {f"{key}_FILE": f"/run/secrets/temporaletl/{key}" for key in keys}
        [volume] = [one["secret"] for one in pod["spec"]["volumes"] if one["name"] == "secrets"]
        assert (volume["secretName"], {one["key"] for one in volume["items"]}) == (secret, keys)
    assert environment(found["acme-temporaletl-migration"])["WPE_DB_USER"] == "etl_migrator"
    worker = environment(found["acme-temporaletl-worker"])
    assert worker["ETL_WORKER_PROCESSES"] == "auto"
    assert worker["WPE_DB_STATEMENT_TIMEOUT_SECONDS"] == "2000000"


def test_selectors_find_the_pods_of_one_service_each(render: Render) -> None:
    documents = render(_ALL)
    labels = {name: pod["metadata"]["labels"] for name, pod in pods(documents)}

    def selected(selector: dict[str, str]) -> set[str]:
        return {name for name, has in labels.items() if selector.items() <= has.items()}

    for one in documents:
        name, spec = one["metadata"]["name"], one.get("spec", {})
        match one["kind"]:
            case "Deployment" | "PodDisruptionBudget":
                assert selected(spec["selector"]["matchLabels"]) == {name}
                for apart in spec.get("template", {"spec": {}})["spec"].get(_SPREAD, ()):
                    assert selected(apart["labelSelector"]["matchLabels"]) == {name}
            case "Service":
                assert selected(spec["selector"]) == {name}
            case "NetworkPolicy" if name.endswith("api"):
                assert selected(spec["podSelector"]["matchLabels"]) == {name}
            case "NetworkPolicy":
                assert selected(spec["podSelector"]["matchLabels"]) == labels.keys()
            case "ScaledObject":
                assert spec["scaleTargetRef"]["name"] in labels


def test_autoscaling_looks_at_every_queue_of_a_worker_and_leaves_the_number_to_keda(
    render: Render,
) -> None:
    documents = render(_ALL)
    [worker] = [
        one
        for one in documents
        if one["metadata"]["name"].endswith("worker") and one["kind"] == "Deployment"
    ]
    assert "replicas" not in worker["spec"]
    [scaled] = [one for one in documents if one["kind"] == "ScaledObject"]
    queues = {
        one["metadata"]["taskQueue"]: one["metadata"]
        for one in scaled["spec"]["triggers"]
        if one["type"] == "temporal"
    }
    assert {*queues} == {"etl-worker-queue", "etl-worker-queue-jira"}
    for metadata in queues.values():
        assert all(isinstance(value, str) for value in metadata.values())
        assert metadata["endpoint"] == "temporal:7233"
        assert (metadata["namespace"], metadata["tlsServerName"]) == ("etl", "temporal")
    [prometheus] = [one for one in scaled["spec"]["triggers"] if one["type"] == "prometheus"]
    assert 'task_queue=~"etl-worker-queue.*"' in prometheus["metadata"]["query"]


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({}, "set settings.TEMPORAL_ADDRESS"),
        ({"settings": {"TEMPORAL_ADDRESS": "temporal:7233"}}, "set settings.WPE_DB_HOST"),
        (_LEAST | {"secret": {"keys": ["JIRA_API_TOKEN"]}}, "set secret.name"),
        (_LEAST | {"migration": {"secret": {"keys": ["A"]}}}, "set migration.secret.name"),
        (_LEAST | {"api": {"ingress": {"enabled": True}}}, "set api.ingress.host"),
    ],
)
def test_what_lacks_is_told(tmp_path: Path, values: dict[str, Any], told: str) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(json.dumps(values))
    done = helm("template", "acme", CHART, "--values", file)
    assert done.returncode != 0
    assert told in done.stderr


def test_the_chart_has_the_version_of_the_platform() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    assert (chart["version"], chart["appVersion"]) == (version[1], version[1])
