"""Dragoman in a cluster: installed with Helm as a person would, and asked what it does.

Flow: `install` -> `wait_ready` (agent Ready, all cards offered) -> tests. The node's folders are values of
the chart; on a node of `hack/cluster` they lie below that node's own root.
Limits: one node. What reads the node's folders needs access to it (tests marked `node`).
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from functools import cached_property
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from typing import TypeVar

import urllib3

from driver.kube.resources import (
    ACCELERATOR_NODES,
    NODES,
    PODS,
    RESOURCE_CLAIM_TEMPLATES,
    RESOURCE_SLICES,
    VALIDATING_WEBHOOKS,
)
from tests.cluster.support import cards, manifests, waiting
from tests.cluster.support.api import DAEMON_SETS, JSON, Api, Refused
from tests.cluster.support.images import Images, make_project
from tests.cluster.support.manifests import DRIVER
from tests.cluster.support.previous import Previous
from tests.cluster.support.target import ROOT, Target
from tests.cluster.support.waiting import PATIENCE_S
from tooling.cluster.node_access import LocalNode

T = TypeVar("T")

CHART = ROOT / "manifests" / "chart"
RELEASE = "dragoman"
HTTP_PORT = 8080


class Installation:
    """One release of the chart."""

    namespace = "dragoman-system"
    agent_container = "agent"
    daemon_set = f"{RELEASE}-agent"
    lease = f"{RELEASE}-controller"

    def __init__(self, target: Target, *, images: Images) -> None:
        self.target = target
        self.images = images
        self.controller: JSON = {}
        """Values of the chart's `controller` beside those of all tests."""
        self.host: JSON = {}
        """The same of `host`."""
        self.published: dict[str, JSON] = {}

    @property
    def api(self) -> Api:
        """The administrator's view."""
        return self.target.api

    @cached_property
    def node(self) -> str:
        """The node's name."""
        (one,) = self.api.list(NODES)
        return str(one["metadata"]["name"])

    @property
    def own_node(self) -> LocalNode:
        """The node of hack/cluster, whose components can be stopped."""
        assert isinstance(self.target.node, LocalNode)
        return self.target.node

    @property
    def pool(self) -> str:
        """The pool of the node's cards."""
        return f"{self.node}/dragoman"

    @property
    def devices(self) -> list[str]:
        """Names of all cards, sorted."""
        return sorted(card.device for card in cards.ALL)

    @property
    def share_dir(self) -> PurePosixPath:
        """Where the shared regions lie, on a tmpfs of the node."""
        return self._below("shares", default="/run/dragoman")

    @property
    def state_dir(self) -> PurePosixPath:
        """Where the claims' state lies on the node."""
        return self._kubelet_root / "plugins" / DRIVER / "state"

    @property
    def _kubelet_root(self) -> PurePosixPath:
        return self.target.node.kubelet_root if self.target.has_node else PurePosixPath("/var/lib/kubelet")

    def _below(self, name: str, *, default: str) -> PurePosixPath:
        node = self.target.node
        return node.state_root / name if isinstance(node, LocalNode) else PurePosixPath(default)

    # Installing.

    def values(self, *, image: str = "") -> JSON:
        """The chart's values for this node."""
        repository, _, tag = (image or self.images.project).rpartition(":")
        found: JSON = {
            "image": {"repository": repository, "tag": tag, "pullPolicy": "IfNotPresent"},
            "controller": {"replicas": 2, **self.controller},
            "simulated": {"cards": cards.entries()},
        }
        if self.target.has_node:
            found["host"] = {
                "kubeletRoot": str(self._kubelet_root),
                "cdiDir": str(self.target.node.cdi_folder),
                "shareDir": str(self.share_dir),
                "preloadDir": str(self._below("preload", default="/var/lib/dragoman/preload")),
                "hookDir": str(self._below("hook", default="/var/lib/dragoman/hook")),
                "mountRoot": self._root_is_shared(),
                **self.host,
            }
            source = self._below("from-tests", default="/var/lib/dragoman-tests")
            found["preload"] = {"library": str(self.images.install_library(self.target, source))}
            for card in found["simulated"]["cards"]:
                card["healthFile"] = str(self.health_file(card["uuid"]))
        return found

    def health_file(self, uuid: str) -> PurePosixPath:
        """The file of the node that says how a card is; without it the card is healthy."""
        return self._kubelet_root / "plugins" / DRIVER / f"{uuid}.health"

    def install(self, *, chart: Path = CHART, image: str = "") -> None:
        """``helm upgrade --install``; returns when Helm says that all is ready."""
        if isinstance(self.target.node, LocalNode):
            self._mount_tmpfs()
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(self.values(image=image), file)
            file.flush()
            self.target.must(
                "helm",
                "upgrade",
                "--install",
                RELEASE,
                str(chart),
                "--namespace",
                self.namespace,
                "--create-namespace",
                "--values",
                file.name,
                "--wait",
                "--timeout",
                "300s",
            )

    def rollback(self) -> None:
        """``helm rollback`` to the release before."""
        self.target.must("helm", "rollback", RELEASE, "--namespace", self.namespace, "--wait")

    def uninstall(self, *, force: bool = False) -> subprocess.CompletedProcess[str]:
        """``helm uninstall``; with `force` without the hook that looks for live claims."""
        more = ("--no-hooks",) if force else ()
        return self.target.run("helm", "uninstall", RELEASE, "--namespace", self.namespace, "--wait", *more)

    def load_previous(self, older: Previous) -> str:
        """Makes and loads the image of the previous commit; its name."""
        tar = older.root / "image.tar"
        name = make_project(root=older.root, tar=tar, name=f"localhost/dragoman:{older.commit[:12]}")
        assert self.target.own is not None
        self.target.own.load_image(tar)
        return name

    def _root_is_shared(self) -> bool:
        """Whether mounts below the node's root can be passed on into containers.

        systemd sees to it; in many containers and small virtual machines, root is private, and containerd
        refuses to start a container that wants to follow it.
        """
        for line in self.target.node.run("cat", "/proc/self/mountinfo").splitlines():
            fields = line.split()
            if fields[4] == "/":
                optional = fields[6 : fields.index("-")]
                return any(one.startswith(("shared:", "master:")) for one in optional)
        return False

    def _mount_tmpfs(self) -> None:
        node, folder = self.target.node, self.share_dir
        node.run("mkdir", "-p", str(folder))
        if str(folder) not in node.run("cat", "/proc/mounts"):
            node.run("mount", "-t", "tmpfs", "-o", "mode=0755,size=64m", "tmpfs", str(folder))

    # Waiting.

    def wait_ready(self, *, seconds: float = PATIENCE_S) -> None:
        """Waits until the agent of the newest generation is ready and all cards are offered."""
        waiting.wait_for(
            self.api,
            DAEMON_SETS,
            self.daemon_set,
            rolled_out,
            what="is rolled out",
            namespace=self.namespace,
            seconds=seconds,
        )
        self.wait_all_offered(seconds=seconds)
        self.published = {
            device["name"]: device for one in self.slices() for device in one["spec"].get("devices") or []
        }

    def wait_webhooks(self) -> None:
        """Waits until our webhooks are asked: a Service leads to a pod a moment after the pod is ready.

        Until then pods are stored unconverted, and claims unchecked. Returns at once where there are none.
        """
        if not self.api.list(VALIDATING_WEBHOOKS, labelSelector=f"app.kubernetes.io/instance={RELEASE}"):
            return
        wrong = manifests.template(
            "wrong",
            manifests.request(),
            config=[manifests.share_config({"apiVersion": "dragoman.dev/v1alpha1", "kind": "Nonsense"})],
        )

        def asked() -> bool:
            try:
                self.api.create(RESOURCE_CLAIM_TEMPLATES, wrong, namespace="default", dry_run=True)
            except Refused as refused:
                return "Nonsense" in refused.message
            return False

        waiting.eventually(asked, what="webhooks are asked")

    def wait_slices(self, done: Callable[[list[JSON]], T], *, what: str, seconds: float = PATIENCE_S) -> T:
        """Waits for a state of our slices of this node."""

        def look(objects: list[JSON]) -> T:
            return done([one for one in objects if one["spec"]["driver"] == DRIVER])

        return waiting.wait_all(self.api, RESOURCE_SLICES, look, what=what, seconds=seconds)

    def wait_all_offered(self, *, seconds: float = PATIENCE_S) -> None:
        """Waits until our slices offer all cards."""
        self.wait_slices(
            lambda now: self.devices_of(now) == self.devices, what="all cards are offered", seconds=seconds
        )

    def slices(self) -> list[JSON]:
        """Our slices."""
        return [one for one in self.api.list(RESOURCE_SLICES) if one["spec"]["driver"] == DRIVER]

    @staticmethod
    def devices_of(slices: Iterable[JSON]) -> list[str]:
        """Names of all devices of slices, sorted."""
        return sorted(device["name"] for one in slices for device in one["spec"].get("devices") or [])

    # The agent and the controllers.

    def _pods(self, component: str) -> list[JSON]:
        found = self.api.list(
            PODS, namespace=self.namespace, labelSelector=f"app.kubernetes.io/component={component}"
        )
        return [one for one in found if "deletionTimestamp" not in one["metadata"]]

    def agent(self) -> JSON:
        """The agent's pod."""
        (one,) = self._pods("agent")
        return one

    def agents(self) -> list[str]:
        """UIDs of the agent's pods that are ready: two for a moment of a rolling update."""
        return [one["metadata"]["uid"] for one in self._pods("agent") if ready(one)]

    def wait_agent(self, done: Callable[[JSON], object], *, seconds: float = PATIENCE_S) -> JSON:
        """Waits until the agent's pod is ready and in a state that `done` holds for."""
        return waiting.wait_for(
            self.api,
            PODS,
            self.agent()["metadata"]["name"],
            lambda one: one if done(one) and ready(one) else {},
            what="is ready again",
            namespace=self.namespace,
            seconds=seconds,
        )

    def agent_get(self, path: str) -> str:
        """A page that the agent serves."""
        name = self.agent()["metadata"]["name"]
        return self.api.pod_get(name, namespace=self.namespace, port=HTTP_PORT, path=path)

    def restart_agent_softly(self) -> None:
        """``kubectl rollout restart`` of the agent."""
        self.target.must(
            "kubectl", "rollout", "restart", f"daemonset/{self.daemon_set}", "--namespace", self.namespace
        )

    def patch_agent_selector(self, labels: dict[str, str | None] | dict[str, str] | dict[str, None]) -> None:
        """Sends the agent away from the node, or lets it come back."""
        spec = {"template": {"spec": {"nodeSelector": dict(labels)}}}
        self.api.patch(DAEMON_SETS, self.daemon_set, {"spec": spec}, namespace=self.namespace)

    def controllers(self) -> list[JSON]:
        """The controllers' pods."""
        return self._pods("controller")

    def wait_controllers(self) -> None:
        """Waits until both controllers are ready."""
        waiting.wait_all(
            self.api,
            PODS,
            lambda objects: sum(ready(one) for one in objects) == 2,
            what="both controllers are ready",
            namespace=self.namespace,
            labelSelector="app.kubernetes.io/component=controller",
        )

    def restart_controllers(self, *, seconds: float = 240.0) -> None:
        """Kills both controllers and waits for two new ones, who ask at once what the API server can do."""
        old = {one["metadata"]["uid"] for one in self.controllers()}
        for one in self.controllers():
            self.kill_pod(one["metadata"]["name"])
        waiting.wait_all(
            self.api,
            PODS,
            lambda now: sum(ready(one) for one in now if one["metadata"]["uid"] not in old) == 2,
            what="two new controllers are ready",
            namespace=self.namespace,
            labelSelector="app.kubernetes.io/component=controller",
            seconds=seconds,
        )
        self.wait_webhooks()

    def kill_pod(self, name: str) -> None:
        """Deletes a pod without grace: its process gets no time to say goodbye."""
        self.api.delete(PODS, name, namespace=self.namespace, grace_s=0)

    # The node's files.

    def cdi_files(self) -> list[str]:
        """Names of the CDI specs on the node."""
        return self.target.node.list_files(self.target.node.cdi_folder)

    def read_cdi(self, name: str) -> bytes:
        """A CDI spec."""
        return self.target.node.read_file(self.target.node.cdi_folder / name)

    def state_files(self) -> list[str]:
        """Names in the state folder."""
        return self.target.node.list_files(self.state_dir / "claims")

    def sockets_of(self, uid: str) -> list[str]:
        """Sockets of an agent's pod that are still there."""
        root = self._kubelet_root
        folders = (root / "plugins_registry", root / "plugins" / DRIVER)
        return [name for folder in folders for name in self.target.node.list_files(folder) if uid in name]

    def expect_nothing_left(self, uids: Iterable[str], *, seconds: float = 50.0) -> None:
        """No state, CDI file or shared region of these claims stays on the node.

        An agent that looks once a minute for what is left is not to be what takes it away.
        """
        gone = set(uids)
        if not gone or not self.target.has_node:
            return

        def left() -> list[str]:
            names = [*self.cdi_files(), *self.state_files(), *self.target.node.list_files(self.share_dir)]
            return [name for name in names if any(uid in name for uid in gone)]

        try:
            waiting.eventually(
                lambda: not left(), what="nothing is left of claims that are gone", seconds=seconds
            )
        except waiting.Waited as waited:
            raise AssertionError(f"{waited}: {left()}") from None

    def connected_to_kubelet(self) -> bool:
        """Whether the agent says that the kubelet is connected to it; asked without the API server."""
        url = f"http://{self.agent_address}:{HTTP_PORT}/readyz"
        try:
            return urllib3.request("GET", url, timeout=10.0, retries=False).status == HTTPStatus.OK
        except urllib3.exceptions.HTTPError:
            return False

    @cached_property
    def agent_address(self) -> str:
        """The agent's address, as it was when first asked: an API server that is away cannot tell."""
        return str(self.agent()["status"]["podIP"])

    # Leaving.

    @staticmethod
    def uninstall_words(done: subprocess.CompletedProcess[str]) -> str:
        """What Helm printed."""
        return done.stdout + done.stderr

    def wait_nothing_runs(self) -> None:
        """Waits until no agent and no controller is left."""
        waiting.wait_all(
            self.api,
            PODS,
            lambda objects: not objects,
            what="agents and controllers are gone",
            namespace=self.namespace,
            labelSelector="app.kubernetes.io/component in (agent, controller)",
        )

    def inventory(self) -> JSON | None:
        """The node's AcceleratorNode, None where the kind is not known."""
        try:
            return self.api.find(ACCELERATOR_NODES, self.node)
        except Refused:
            return None


def ready(pod: JSON) -> bool:
    """Whether a pod is ready."""
    conditions = pod.get("status", {}).get("conditions") or []
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def rolled_out(one: JSON) -> bool:
    """Whether a DaemonSet runs its newest template on each node, and nothing else."""
    status = one.get("status", {})
    wanted = status.get("desiredNumberScheduled", 0)
    return bool(
        wanted
        and status.get("observedGeneration") == one["metadata"]["generation"]
        and status.get("updatedNumberScheduled") == wanted
        and status.get("numberAvailable") == wanted
        and status.get("currentNumberScheduled") == wanted
    )
