from __future__ import annotations

import dataclasses
import difflib
from pathlib import Path
from typing import Any

import pytest
import yaml

from controller import shell
from controller.admission import listener
from controller.converting.settings import conversion_settings
from controller.settings import Settings as ControllerSettings
from controller.settings import parse_settings as parse_controller
from driver.vendors.simulated import parse_simulated_node
from kubelet_plugin.options import OPTIONS
from kubelet_plugin.settings import parse_settings as parse_agent
from tests.manifests.support.helm import (
    CHART,
    IMAGE,
    container,
    environment,
    golden_text,
    only,
    refusal,
    render,
    render_text,
    run,
)
from tooling.generate.chart_values import leaves

pytestmark = pytest.mark.cluster

GOLDEN = Path(__file__).parent / "golden"
CARD = {"vendor": "nvidia", "model": "NVIDIA A10", "memory": "24Gi", "uuid": "GPU-1"}
SETS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "nvidia": {
        "agent": {"runtimeClassName": "nvidia", "nodeSelector": {"nvidia.com/gpu.present": "true"}},
        "host": {"driverRoot": "/run/nvidia/driver", "stateDir": "/var/lib/dragoman/state"},
        "preload": {"library": "image"},
        "image": {**IMAGE["image"], "tag": "1.2.3", "pullSecrets": [{"name": "registry"}]},
        "controller": {"replicas": 1, "explain": False},
    },
    "simulated": {
        "simulated": {"nodes": {"node-1": [CARD], "node-2": [CARD, {**CARD, "uuid": "GPU-2"}]}},
        "host": {"mountRoot": False, "kubeletRoot": "/var/lib/k0s/kubelet"},
        "preload": {"library": "/var/lib/vgpu/libvgpu.so"},
        "metrics": {"service": False},
        "crds": {"install": False},
        "deviceClasses": {"install": False},
        "admissionPolicies": {"install": False},
        "uninstallCheck": {"install": False},
        "controller": {"webhook": {"install": False}},
    },
}
# Where claims and policies come from files, there is no cluster and no chart.
AGENT_WITHOUT_CLUSTER = {"claims_from", "policies_from", "inventory_to"}
# The pod's own service account is what the chart gives.
AGENT_BY_THE_POD = {"api_server", "api_token_file", "api_ca_file"}
# Given only where MPS is installed: tests/manifests/test_mps_chart.py.
AGENT_WITH_MPS = {"mps_dir", "mps_memory"}
# Times that were chosen together; whoever has to change them can set the variable.
CONTROLLER_FIXED = {
    "allocate_workers",
    "explain_after",
    "explain_again",
    "handover_bind",
    "kubeconfig",
    "lease_duration",
    "lease_renew_deadline",
    "lease_retry",
    "listen",
    "log_format",
    "orphaned_after",
    "probe_interval",
    "publish_workers",
    "recreate_after",
    "recreate_cap",
    "stale_after",
    "stuck_after",
    "webhook_drain",
}


@pytest.mark.parametrize("name", sorted(SETS))
def test_the_chart_renders_as_it_did(name: str) -> None:
    """On purpose? Then: python -m tests.manifests.update_golden"""
    expected = (GOLDEN / f"{name}.yaml").read_text()
    found = golden_text(SETS[name])
    diff = difflib.unified_diff(expected.splitlines(), found.splitlines(), "golden", "rendered", lineterm="")
    assert found == expected, "\n".join(diff)


def test_helms_linter_has_nothing_against_the_chart() -> None:
    done = run("lint", str(CHART), "--strict", values=IMAGE)
    assert done.returncode == 0, done.stdout
    assert "[ERROR]" not in done.stdout
    assert "[WARNING]" not in done.stdout


def test_without_an_image_the_sentence_that_tells_how_to_make_one() -> None:
    said = refusal({})
    assert "image.repository is not set" in said
    assert "hack/image --push REGISTRY/dragoman:TAG" in said


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"host": {"kubletRoot": "/x"}}, "kubletRoot"),
        ({"host": {"cdiDir": "var/run/cdi"}}, "cdiDir"),
        ({"controller": {"replicas": "two"}}, "replicas"),
        ({"preload": {"library": "libvgpu.so"}}, "library"),
    ],
)
def test_a_value_that_is_wrong_is_refused_by_its_name(values: dict[str, Any], named: str) -> None:
    assert named in refusal({**IMAGE, **values})


def test_cards_for_all_nodes_and_for_single_nodes_cannot_both_be_simulated() -> None:
    said = refusal({**IMAGE, "simulated": {"cards": [CARD], "nodes": {"n": [CARD]}}})
    assert "simulated.cards and simulated.nodes are both set" in said


# One value, one field.


WORDS = {
    "image.pullPolicy": "Always",
    "host.rootPropagation": "None",
    "controller.mode": "controller",
    "controller.placement.nodes": "spread",
    "controller.placement.cards": "spread",
    "controller.placement.topology": "preferred",
    "controller.webhook.certificates": "provided",
    "controller.webhook.failurePolicy": "Fail",
    "controller.webhook.validationFailurePolicy": "Fail",
    "controller.webhook.quotaFailurePolicy": "Ignore",
    "controller.webhook.classes": ["our-cards"],
    "controller.conversion.failurePolicy": "Ignore",
    "controller.conversion.excludedNamespaces": ["legacy"],
    "controller.conversion.corePolicy": "disable",
    "controller.conversion.memoryFactors": {"volcano.sh/vgpu-memory": 10},
    "controller.conversion.renamed": {"nvidia.com/gpu": "example.com/gpu"},
    "controller.conversion.leftAlone": ["nvidia.com/gpu"],
    "mps.memory": "per-process",
    "agent.logLevel": "debug",
    "controller.logLevel": "debug",
}


def _sentinel(path: str, default: Any) -> Any:
    if path in WORDS:
        return WORDS[path]
    if path == "simulated.nodes":
        return {"node-7": [CARD]}
    if isinstance(default, bool):
        return not default
    if isinstance(default, int):
        return default + 1
    if isinstance(default, str):
        return "/sentinel/library" if path == "preload.library" else "/sentinel"
    if path.endswith("resources"):
        return {"limits": {"memory": "77Mi"}}
    if isinstance(default, dict):
        return {"sentinel": "value"}
    return [CARD] if path == "simulated.cards" else [{"name": "sentinel", "key": "sentinel"}]


@pytest.mark.parametrize(("path", "default"), [(path, default) for path, default, _ in leaves()])
def test_each_value_changes_what_is_installed(path: str, default: Any) -> None:
    values: dict[str, Any] = {**IMAGE}
    *parts, name = path.split(".")
    inner = values
    for part in parts:
        inner[part] = dict(inner.get(part, {}))
        inner = inner[part]
    base = {**IMAGE, "controller": {"mode": "controller"}} if "webhook" in path else IMAGE
    if path.startswith("mps.") and name != "install":
        base = {**IMAGE, "mps": {"install": True}}
        inner["install"] = True
    inner[name] = _sentinel(path, default)
    if "webhook" in path:
        values["controller"]["mode"] = "controller"
    assert render_text(values) != render_text(base)


def test_the_agents_variables_are_its_settings_each_once() -> None:
    libraries = {"library": "image", "ascend": "/a/libvnpu.so", "amd": "/a/libamvgpu.so"}
    given = {**SETS["nvidia"], "simulated": {"cards": [CARD]}, "preload": libraries}
    names = environment(only(render(given), "DaemonSet"))
    variables = {name for name in names if name.startswith("DRAGOMAN_")}
    fields = {option.variable: option.field for option in OPTIONS}
    assert sorted(variables - set(fields)) == []
    missing = {field for variable, field in fields.items() if variable not in variables}
    assert missing <= AGENT_WITHOUT_CLUSTER | AGENT_BY_THE_POD | AGENT_WITH_MPS


def test_the_controllers_variables_are_its_settings_each_once() -> None:
    variables = set(environment(only(render({"controller": {"mode": "controller"}}), "Deployment")))
    names = [field.name for field in dataclasses.fields(ControllerSettings)]
    fields = {f"DRAGOMAN_{name.upper()}": name for name in names}
    assert sorted(variables - set(fields)) == []
    assert {field for variable, field in fields.items() if variable not in variables} == CONTROLLER_FIXED


def test_the_controller_has_the_time_that_its_end_takes() -> None:
    spec = only(render({}), "Deployment")["spec"]["template"]["spec"]
    # The server waits for what is under way, and then as long for what it has cancelled.
    takes_s = ControllerSettings().webhook_drain + 2 * listener._END_S + shell._STOP_S
    assert takes_s + 5 <= spec["terminationGracePeriodSeconds"]


def _as_given(workload: dict[str, Any]) -> dict[str, str]:
    """The environment as a process sees it; what Kubernetes fills in is just some name."""
    return {key: value if isinstance(value, str) else "x" for key, value in environment(workload).items()}


@pytest.mark.parametrize("name", sorted(SETS))
def test_the_agent_understands_what_the_chart_gives_it(name: str) -> None:
    found = parse_agent([], environment=_as_given(only(render(SETS[name]), "DaemonSet")))
    host = SETS[name].get("host", {})
    assert str(found.kubelet_root) == host.get("kubeletRoot", "/var/lib/kubelet")
    assert str(found.driver_root) == host.get("driverRoot", "/")
    assert str(found.host_root) == ("/host" if host.get("mountRoot", True) else "/")


@pytest.mark.parametrize("name", sorted(SETS))
def test_the_controller_understands_what_the_chart_gives_it(name: str) -> None:
    documents = render(SETS[name])
    found = parse_controller([], _as_given(only(documents, "Deployment")))
    labels = only(documents, "DaemonSet")["spec"]["template"]["metadata"]["labels"]
    wanted = dict(one.split("=") for one in found.agent_selector.split(","))
    assert wanted.items() <= labels.items()
    assert found.explain is SETS[name].get("controller", {}).get("explain", True)


def test_simulated_cards_reach_the_agent_as_files_that_it_can_read() -> None:
    documents = render(SETS["simulated"])
    files = only(documents, "ConfigMap")["data"]
    assert sorted(files) == ["node-1.yaml", "node-2.yaml"]
    assert len(parse_simulated_node(yaml.safe_load(files["node-2.yaml"])).cards) == 2
    given = environment(only(documents, "DaemonSet"))
    assert given["DRAGOMAN_SIMULATED_NODE"] == "/etc/dragoman/simulated/$(DRAGOMAN_NODE_NAME).yaml"


# The node.


@pytest.mark.parametrize("name", sorted(SETS))
def test_what_is_written_on_a_node_is_below_var_lib_or_on_tmpfs(name: str) -> None:
    """Hosts with a read-only root have both."""
    pod = only(render(SETS[name]), "DaemonSet")["spec"]["template"]["spec"]
    mounts = {one["name"]: one for one in pod["containers"][0]["volumeMounts"]}
    for volume in pod["volumes"]:
        if "hostPath" in volume and not mounts[volume["name"]].get("readOnly"):
            assert volume["hostPath"]["path"].startswith(("/var/lib/", "/run/", "/var/run/")), volume


def test_the_kubelet_finds_the_agents_sockets_where_the_agent_made_them() -> None:
    """It opens the path that the agent tells, in its own mount namespace."""
    pod = only(render(SETS["simulated"]), "DaemonSet")["spec"]["template"]["spec"]
    paths = {one["name"]: one["hostPath"]["path"] for one in pod["volumes"] if "hostPath" in one}
    mounts = {one["name"]: one["mountPath"] for one in pod["containers"][0]["volumeMounts"]}
    assert paths["plugin"] == mounts["plugin"] == "/var/lib/k0s/kubelet/plugins/dragoman.dev"
    assert paths["registration"] == mounts["registration"] == "/var/lib/k0s/kubelet/plugins_registry"
    for name in ("cdi", "shares", "preload"):
        assert paths[name] == mounts[name]


def test_folders_that_the_agent_writes_to_are_writable_in_its_view_of_the_nodes_root_too() -> None:
    pod = only(render(), "DaemonSet")["spec"]["template"]["spec"]
    mounts = pod["containers"][0]["volumeMounts"]
    at = {(one["name"], one["mountPath"]) for one in mounts if not one.get("readOnly")}
    assert {("shares", "/host/run/dragoman"), ("preload", "/host/var/lib/dragoman/preload")} <= at


def test_a_library_of_the_node_is_found_where_the_agent_looks_for_it() -> None:
    agent = only(render(SETS["simulated"]), "DaemonSet")
    (mount,) = [one for one in container(agent)["volumeMounts"] if one["name"] == "preload-source"]
    volumes = agent["spec"]["template"]["spec"]["volumes"]
    (volume,) = [one for one in volumes if one["name"] == "preload-source"]
    library = environment(agent)["DRAGOMAN_PRELOAD_LIBRARY"]
    assert (volume["hostPath"]["path"], mount["readOnly"]) == ("/var/lib/vgpu", True)
    assert library == f"{mount['mountPath']}/libvgpu.so"


def test_a_rolling_update_leaves_no_moment_without_an_agent() -> None:
    assert only(render(), "DaemonSet")["spec"]["updateStrategy"]["rollingUpdate"] == {
        "maxSurge": 1,
        "maxUnavailable": 0,
    }


def test_agents_of_an_update_do_not_share_a_port_of_the_node() -> None:
    pod = only(render(), "DaemonSet")["spec"]["template"]["spec"]
    assert "hostNetwork" not in pod
    assert [port for port in pod["containers"][0]["ports"] if "hostPort" in port] == []


# Rights.


def _workloads(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one for one in documents if one["kind"] in ("DaemonSet", "Deployment", "Job")]


def test_every_container_is_confined() -> None:
    for one in _workloads(render({"inForce": {"enabled": False}})):
        context = container(one)["securityContext"]
        assert context == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        pod = one["spec"]["template"]["spec"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}


def test_only_the_agent_may_look_at_processes_and_only_where_that_is_wanted() -> None:
    workloads = _workloads(render())
    with_it = [one for one in workloads if "add" in container(one)["securityContext"]["capabilities"]]
    assert [one["kind"] for one in with_it] == ["DaemonSet"]
    agent = container(with_it[0])
    assert agent["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["SYS_PTRACE"]}
    assert {"name": "proc", "mountPath": "/node/proc", "readOnly": True} in agent["volumeMounts"]
    without = only(render({"inForce": {"enabled": False}}), "DaemonSet")["spec"]["template"]["spec"]
    assert not [one for one in without["volumes"] if one["name"] == "proc"]


def test_only_the_agent_is_root_and_only_on_request_privileged() -> None:
    for one in _workloads(render()):
        user = one["spec"]["template"]["spec"]["securityContext"]["runAsUser"]
        assert user == (0 if one["kind"] == "DaemonSet" else 65532)
    asked = only(render({"agent": {"privileged": True}}), "DaemonSet")
    assert container(asked)["securityContext"]["privileged"] is True


def _rights(documents: list[dict[str, Any]], name: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for one in documents:
        if one["kind"] in ("ClusterRole", "Role") and one["metadata"]["name"] == name:
            for rule in one["rules"]:
                for resource in rule["resources"]:
                    found.setdefault(resource, set()).update(rule["verbs"])
    return found


def test_the_agent_may_only_tell_about_devices_of_this_driver() -> None:
    (rule,) = [
        rule
        for rule in only(render(), "ClusterRole", "dragoman-agent")["rules"]
        if rule["resources"] == ["resourceclaims/driver"]
    ]
    assert rule["resourceNames"] == ["dragoman.dev"]


def test_the_controller_cannot_allocate_while_kube_scheduler_does() -> None:
    rights = _rights(render(), "dragoman-controller")
    assert "resourceclaims/status" not in rights
    assert "resourceclaims/binding" not in rights
    assert rights["resourceslices"] >= {"create", "update", "delete"}


def test_the_controller_that_allocates_may_write_allocations_and_nothing_else_besides() -> None:
    native, allocating = (
        _rights(render({"controller": {"mode": mode, "webhook": {"install": False}}}), "dragoman-controller")
        for mode in ("native", "controller")
    )
    assert allocating.pop("resourceclaims/status") == {"update"}
    assert allocating.pop("resourceclaims/binding") == {"update"}
    assert allocating.pop("resourceclaims") == native.pop("resourceclaims") | {"update"}
    # Of a pod with long wishes, not all is kept.
    assert allocating.pop("pods") == native.pop("pods") | {"get"}
    assert allocating == native


def test_readers_for_the_command_line_may_only_read_and_no_pods() -> None:
    documents = render()
    reader = {
        resource: set(rule["verbs"])
        for rule in only(documents, "ClusterRole", "dragoman-reader")["rules"]
        for resource in rule["resources"]
    }
    assert set(reader) == {
        "acceleratornodes",
        "acceleratorpolicies",
        "deviceclasses",
        "nodes",
        "resourceclaims",
        "resourceslices",
    }
    assert all(verbs == {"get", "list", "watch"} for verbs in reader.values())
    viewer = only(documents, "ClusterRole", "dragoman-view-cards")
    assert viewer["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-view"] == "true"
    shown = {resource for rule in viewer["rules"] for resource in rule["resources"]}
    assert shown == set(reader) - {"nodes", "resourceclaims"}
    bindings = [one for one in documents if one["kind"].endswith("RoleBinding")]
    assert not any(one["roleRef"]["name"] == "dragoman-reader" for one in bindings)


def _rules(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [rule for one in documents for rule in one.get("rules", []) if "apiGroups" in rule]


def test_nobody_has_a_wildcard_or_may_read_secrets_but_the_webhooks_own() -> None:
    for values in ({}, {"controller": {"mode": "controller"}}):
        for rule in _rules(render(values)):
            assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule.get("verbs", [])]
            if "secrets" in rule["resources"]:
                assert rule["verbs"] == ["create"] or rule["resourceNames"] == ["dragoman-webhook"]
    without = _rules(render({"controller": {"webhook": {"install": False}}}))
    assert not any("secrets" in rule["resources"] for rule in without)


def test_the_controller_may_change_its_own_webhook_only_and_none_that_others_keep() -> None:
    def named(**webhook: str) -> list[Any]:
        given = render({"controller": {"mode": "controller", "webhook": webhook}})
        hooks = [one for one in given if one["kind"].endswith("WebhookConfiguration")]
        assert len(hooks) == 2
        rules = [rule for rule in _rules(given) if "mutatingwebhookconfigurations" in rule["resources"]]
        rules = [rule for rule in rules if "verbs" in rule]
        for hook in hooks:
            assert all(rule["resourceNames"] == [hook["metadata"]["name"]] for rule in rules)
        return [rule["verbs"] for rule in rules]

    assert named() == [["get", "patch"]]
    assert named(certificates="provided") == []


def test_without_a_webhook_nothing_of_it_is_installed() -> None:
    for mode in ("native", "controller"):
        without = {"controller": {"mode": mode, "webhook": {"install": False}}, "crds": {"install": False}}
        text = render_text({**IMAGE, **without})
        assert "webhook" not in text.lower()
        assert "resourceclaimtemplates, create" not in text


def _webhooks(values: dict[str, Any]) -> dict[str, Any]:
    return {
        one["name"]: one
        for document in render(values)
        if document["kind"].endswith("WebhookConfiguration")
        for one in document["webhooks"]
    }


def test_pods_that_ask_for_none_of_the_names_are_never_sent() -> None:
    (condition,) = _webhooks({})["pods.dragoman.dev"]["matchConditions"]
    assert '"nvidia.com/gpumem"' in condition["expression"]
    renamed = _webhooks({"controller": {"conversion": {"renamed": {"nvidia.com/gpumem": "example.com/m"}}}})
    (condition,) = renamed["pods.dragoman.dev"]["matchConditions"]
    assert '"nvidia.com/gpumem"' not in condition["expression"]
    assert '"example.com/m"' in condition["expression"]


def test_neither_the_system_nor_this_release_waits_for_a_webhook() -> None:
    selector = _webhooks({})["pods.dragoman.dev"]["namespaceSelector"]["matchExpressions"][0]
    assert selector["operator"] == "NotIn"
    assert set(selector["values"]) == {"kube-system", "dragoman-system"}


def test_a_claim_is_asked_about_by_one_webhook_and_one_of_the_system_by_that_which_keeps_nobody_out() -> None:
    hooks = _webhooks({})
    ours, others = hooks["quotas.dragoman.dev"], hooks["claims.dragoman.dev"]
    assert (ours["failurePolicy"], others["failurePolicy"]) == ("Fail", "Ignore")
    named, system = (one["expression"] for one in ours["matchConditions"])
    assert system == "!(request.namespace == 'kube-system')"
    (condition,) = others["matchConditions"]
    # Each claim meets one of the two conditions, and none meets both.
    assert condition["expression"] == f"request.namespace == 'kube-system' || !({named})"
    assert ours["namespaceSelector"] == others["namespaceSelector"]
    assert ours["rules"] == others["rules"]


def test_nothing_of_this_release_is_kept_out_by_what_checks() -> None:
    checking = ("quotas.dragoman.dev", "claims.dragoman.dev", "settings.dragoman.dev")
    hooks = _webhooks({})
    for name in checking:
        (requirement,) = hooks[name]["namespaceSelector"]["matchExpressions"]
        assert (requirement["operator"], requirement["values"]) == ("NotIn", ["dragoman-system"])


def test_only_mode_controller_stamps_claims() -> None:
    native = [one for one in render({}) if one["kind"] == "MutatingWebhookConfiguration"]
    assert [hook["name"] for one in native for hook in one["webhooks"]] == [
        "classes.dragoman.dev",
        "pods.dragoman.dev",
    ]
    ours = render({"controller": {"mode": "controller"}})
    (found,) = [one for one in ours if one["kind"] == "MutatingWebhookConfiguration"]
    assert [hook["name"] for hook in found["webhooks"]] == [
        "claims.dragoman.dev",
        "classes.dragoman.dev",
        "pods.dragoman.dev",
        "others.pods.dragoman.dev",
    ]


def test_in_mode_native_only_classes_that_carry_a_name_are_sent() -> None:
    (native,) = _webhooks({})["classes.dragoman.dev"]["matchConditions"]
    assert "dragoman.dev/extended-resource" in native["expression"]
    assert "extendedResourceName" not in native["expression"]
    ours = _webhooks({"controller": {"mode": "controller"}})["classes.dragoman.dev"]
    assert ours["matchConditions"][0]["expression"].endswith(f" || {native['expression']}")


def test_in_mode_controller_names_of_classes_of_ours_are_sent_and_refused_while_nobody_answers() -> None:
    found = _webhooks({"controller": {"mode": "controller", "webhook": {"classes": ["gold"]}}})
    (known,) = found["pods.dragoman.dev"]["matchConditions"]
    assert '"deviceclass.resource.kubernetes.io/gold"' in known["expression"]
    assert "name.endsWith('.dragoman.dev')" in known["expression"]
    (native,) = _webhooks({})["pods.dragoman.dev"]["matchConditions"]
    assert "deviceclass.resource.kubernetes.io" not in native["expression"]


def test_extended_resources_that_may_be_of_anybody_are_stored_while_nobody_answers() -> None:
    found = _webhooks({"controller": {"mode": "controller"}})
    others = found["others.pods.dragoman.dev"]
    assert others["failurePolicy"] == "Ignore"
    (known,) = found["pods.dragoman.dev"]["matchConditions"]
    # Each pod is sent to one of the two.
    assert [one["expression"] for one in others["matchConditions"]][1] == "!" + known["expression"]
    assert others["namespaceSelector"] == found["pods.dragoman.dev"]["namespaceSelector"]


def test_what_may_write_is_no_dry_run() -> None:
    effects = {name: one["sideEffects"] for name, one in _webhooks({}).items()}
    assert effects["quotas.dragoman.dev"] == "NoneOnDryRun"
    assert effects["pods.dragoman.dev"] == "None"


@pytest.mark.parametrize("name", sorted(SETS))
def test_conversion_understands_what_the_chart_gives_it(name: str) -> None:
    given = environment(only(render(SETS[name]), "Deployment")).get("DRAGOMAN_CONVERSION", "")
    assert (conversion_settings(given) is None) == (name == "simulated")


def test_the_admission_policy_speaks_of_the_agents_real_account() -> None:
    documents = render()
    account = only(documents, "DaemonSet")["spec"]["template"]["spec"]["serviceAccountName"]
    policy = only(documents, "ValidatingAdmissionPolicy", "agents.dragoman.dev")
    (condition,) = policy["spec"]["matchConditions"]
    assert f'"system:serviceaccount:dragoman-system:{account}"' in condition["expression"]


# The controller and the way out.


@pytest.mark.parametrize(("replicas", "budget"), [(2, {"minAvailable": 1}), (1, {"maxUnavailable": 1})])
def test_a_budget_keeps_one_controller_and_never_blocks_a_drain(
    replicas: int, budget: dict[str, int]
) -> None:
    spec = only(render({"controller": {"replicas": replicas}}), "PodDisruptionBudget")["spec"]
    del spec["selector"]
    assert spec == budget


def test_the_question_before_an_uninstall_is_a_hook_whose_answer_is_shown() -> None:
    annotations = only(render(), "Job")["metadata"]["annotations"]
    assert annotations["helm.sh/hook"] == "pre-delete"
    assert annotations["helm.sh/hook-output-log-policy"] == "hook-failed"
    # A failed one stays, so that an older Helm's user can read its log.
    assert "hook-failed" not in annotations["helm.sh/hook-delete-policy"]


def test_labels_that_select_do_not_change_with_the_version() -> None:
    for one in _workloads(render()):
        selector = one["spec"].get("selector", {}).get("matchLabels", {})
        assert set(selector) <= {
            "app.kubernetes.io/name",
            "app.kubernetes.io/instance",
            "app.kubernetes.io/component",
        }


def test_all_that_can_be_left_out_is_left_out() -> None:
    kinds = {one["kind"] for one in render(SETS["simulated"])}
    assert kinds.isdisjoint(
        {"CustomResourceDefinition", "DeviceClass", "ValidatingAdmissionPolicy", "Service", "Job"}
    )
