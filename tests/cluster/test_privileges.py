"""What breaks when the agent is not given one of its privileges: each taken away on a real node.

Flow: one node with cards of every vendor -> for each privilege that `docs/security.md` explains, the
DaemonSet without it -> is the agent ready, and does a limited share start on it? -> the DaemonSet as it was.
Limits: what only restricts the agent (no capabilities, a read-only root) breaks nothing when it is taken
away; that the agent works with it is what all other tests of this folder show.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from driver.kube.resources import ACCELERATOR_POLICIES, PODS
from tests.cluster.support import waiting
from tests.cluster.support.api import DAEMON_SETS, EVENTS, JSON, Refused
from tests.cluster.support.images import Images
from tests.cluster.support.installation import ready, rolled_out
from tests.cluster.support.manifests import request, sharing
from tests.cluster.support.space import Space, open_space
from tests.cluster.support.vendor_installation import VendorInstallation, on_a_node

pytestmark = [pytest.mark.own_cluster, pytest.mark.node, pytest.mark.long]

PATIENCE_S = 45.0
"""How long to look at what is not to happen."""


@dataclass(frozen=True)
class Outcome:
    """What was seen without a privilege.

    Attributes:
        agent: The agent is ready.
        share: A pod with a limited share runs.
        said: Where either is not so: what is in the agent's log or in the pod's Events.
    """

    agent: bool
    share: bool
    said: str = ""


def _volume(name: str) -> Callable[[JSON], None]:
    """Takes the node's folder away; the container has an empty one of its own in its place."""

    def change(spec: JSON) -> None:
        (volume,) = (one for one in spec["volumes"] if one["name"] == name)
        volume.clear()
        volume.update(name=name, emptyDir={})
        for mount in spec["containers"][0]["volumeMounts"]:
            if mount["name"] == name:
                mount.pop("mountPropagation", None)

    return change


def _unmounted(name: str) -> Callable[[JSON], None]:
    def change(spec: JSON) -> None:
        container = spec["containers"][0]
        container["volumeMounts"] = [one for one in container["volumeMounts"] if one["name"] != name]
        spec["volumes"] = [one for one in spec["volumes"] if one["name"] != name]

    return change


def _without_root(spec: JSON) -> None:
    """As `host.mountRoot: false` makes it."""
    _unmounted("root")(spec)
    container = spec["containers"][0]
    mounts = container["volumeMounts"]
    container["volumeMounts"] = [one for one in mounts if not one["mountPath"].startswith("/host/")]
    container["env"] = [one for one in container["env"] if one["name"] != "DRAGOMAN_HOST_ROOT"]


def _as_nobody(spec: JSON) -> None:
    spec["securityContext"].update(runAsUser=65532)


def _as_nobodys_group(spec: JSON) -> None:
    spec["securityContext"].update(runAsGroup=65532)


def _without_ptrace(spec: JSON) -> None:
    spec["containers"][0]["securityContext"]["capabilities"].pop("add", None)


WITHOUT: dict[str, tuple[Callable[[JSON], None], Outcome]] = {
    "pod.securityContext.runAsUser: 0": (_as_nobody, Outcome(False, False)),
    "pod.securityContext.runAsGroup: 0": (_as_nobodys_group, Outcome(True, True)),
    "securityContext.capabilities.add: SYS_PTRACE": (_without_ptrace, Outcome(True, True)),
    "hostPath registration (writable)": (_volume("registration"), Outcome(False, False)),
    "hostPath plugin (writable)": (_volume("plugin"), Outcome(False, False)),
    "hostPath pod-resources (read-only)": (_volume("pod-resources"), Outcome(True, True)),
    "hostPath cdi (writable)": (_volume("cdi"), Outcome(True, False, "unresolvable CDI devices")),
    "hostPath root (read-only, HostToContainer)": (_without_root, Outcome(True, False)),
    "hostPath shares (writable)": (_volume("shares"), Outcome(True, False)),
    "hostPath preload (writable)": (_volume("preload"), Outcome(True, True)),
    "hostPath preload-source (read-only)": (
        _volume("preload-source"),
        Outcome(True, False, "preload library is missing"),
    ),
    "hostPath hook (writable)": (_volume("hook"), Outcome(True, True)),
    "hostPath proc (read-only)": (_volume("proc"), Outcome(True, True)),
    "emptyDir tmp (writable)": (_unmounted("tmp"), Outcome(True, True)),
}


@pytest.fixture(scope="module")
def own(
    images: Images, kubernetes_version: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[VendorInstallation]:
    folder = tmp_path_factory.mktemp("privileges") / "root"
    with on_a_node(images, kubernetes=kubernetes_version, folder=folder) as installed:
        # A share that nothing holds is not to start.
        installed.api.patch(ACCELERATOR_POLICIES, "all", {"spec": {"isolation": ["preload"]}})
        yield installed


@pytest.fixture(scope="module")
def as_installed(own: VendorInstallation) -> JSON:
    """The DaemonSet's template; from here on an old agent goes before a new one comes."""
    found = own.api.get(DAEMON_SETS, own.daemon_set, namespace=own.namespace)
    template: JSON = found["spec"]["template"]
    return template


@pytest.fixture(scope="module")
def place(own: VendorInstallation) -> Space:
    return open_space(own.api, "privileges")


@pytest.mark.parametrize("line", WITHOUT)
def test_without_a_privilege_just_what_the_docs_say_breaks(
    own: VendorInstallation, as_installed: JSON, place: Space, line: str
) -> None:
    change, expected = WITHOUT[line]
    template = copy.deepcopy(as_installed)
    change(template["spec"])
    assert template["spec"] != as_installed["spec"]
    name = f"without-{list(WITHOUT).index(line)}"
    try:
        _replace(own, template)
        agent, said = _agent_is_ready(own, expected=expected.agent)
        share = False
        if agent:
            share, said = _share_runs(place, name, expected=expected)
        print(f"\n{line}: agent ready {agent}, share runs {share}: {said}")  # noqa: T201 - what was seen
        assert (agent, share) == (expected.agent, expected.share)
        assert expected.said in said
    finally:
        _replace(own, as_installed)
        waiting.wait_for(
            own.api, DAEMON_SETS, own.daemon_set, rolled_out, what="is as installed", namespace=own.namespace
        )
        place.empty()
        own.wait_all_offered()


def _replace(own: VendorInstallation, template: JSON) -> None:
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}
    one = own.api.get(DAEMON_SETS, own.daemon_set, namespace=own.namespace)
    # Its status changes all the time, which is nothing to us.
    del one["metadata"]["resourceVersion"]
    one["spec"].update(template=template, updateStrategy=strategy)
    own.api.replace(DAEMON_SETS, one, namespace=own.namespace)


def _patience(*, expected: bool) -> float:
    return waiting.PATIENCE_S if expected else PATIENCE_S


def _agent_is_ready(own: VendorInstallation, *, expected: bool) -> tuple[bool, str]:
    try:
        waiting.wait_for(
            own.api,
            DAEMON_SETS,
            own.daemon_set,
            rolled_out,
            what="is rolled out",
            namespace=own.namespace,
            seconds=_patience(expected=expected),
        )
    except waiting.Waited:
        pods = own.api.list(PODS, namespace=own.namespace, labelSelector="app.kubernetes.io/component=agent")
        if [pod for pod in pods if ready(pod) and "deletionTimestamp" not in pod["metadata"]]:
            return True, ""
        said = [_last_words(own, pod) for pod in pods]
        return False, "\n".join(said)
    return True, ""


def _last_words(own: VendorInstallation, pod: JSON) -> str:
    name = pod["metadata"]["name"]
    try:
        log = own.api.logs(name, namespace=own.namespace).splitlines()[-3:]
    except Refused as no_log:
        log = [str(no_log)]
    going = "going, " if "deletionTimestamp" in pod["metadata"] else ""
    return "\n".join([f"{name} ({going}{pod['status']['phase']}):", *log])


def _share_runs(place: Space, name: str, *, expected: Outcome) -> tuple[bool, str]:
    cel = 'device.attributes["dragoman.dev"].vendor == "nvidia"'
    place.create(*sharing(name, request(memory="1Gi", cel=cel)))
    try:
        place.running(name, seconds=_patience(expected=expected.share))
    except waiting.Waited:
        what = f"{name} is told {expected.said!r}"
        (said,) = waiting.eventually(lambda: _told(place, name, expected.said), what=what)
        return False, said
    return True, ""


def _told(place: Space, name: str, expected: str) -> list[str]:
    """All that the pod was told, as one text; none as long as what is expected is not there."""
    events = place.api.list(
        EVENTS, namespace=place.name, fieldSelector=f"type=Warning,involvedObject.name={name}"
    )
    said = "\n".join(one["message"] for one in events)
    return [said] if expected in said else []
