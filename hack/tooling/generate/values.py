"""The chart's values: names, types, defaults and what each of them means.

Purpose: one source for `values.yaml`, for `values.schema.json` and for the tests that hold each value to a
field of a process's settings or to a place in a manifest.
Flow: `chart_values` renders these models.
Limits: what a template alone can say (that `image.repository` is missing, and what to do) is said there,
because a schema's messages name no remedy.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

LogLevel = Literal["debug", "info", "warning", "error"]
_PATH = r"^/([^/]+/?)*$"
_PATH_OR_EMPTY = r"^(/([^/]+/?)*)?$"
_LIBRARY = r"^(|image|/.+)$"
_NODE_FILE = r"^(|/.+)$"


class Values(BaseModel):
    """Base of all parts: unknown names are refused, so that a misspelt value is noticed."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", validate_by_alias=True)


class Image(Values):
    """The project's image; agent and controller are in one."""

    repository: str = Field(
        default="",
        description="Where the image lies. There is no default: make and push it with `hack/image "
        "--push REF`.",
    )
    tag: str = Field(default="", description="Empty: the chart's appVersion.")
    pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    pull_secrets: list[dict[str, str]] = Field(
        default=[], description="Secrets for the registry, such as [{name: my-secret}]."
    )


class Switch(Values):
    """Whether a part is installed."""

    install: bool = True


class Host(Values):
    """Paths of the node.

    What has to survive a reboot is below /var/lib, which is writable on hosts whose root is read-only; the
    two others are on tmpfs. All are the same inside and outside of the agent's container.
    """

    kubelet_root: str = Field(
        default="/var/lib/kubelet", pattern=_PATH, description="The kubelet's --root-dir."
    )
    registration_dir: str = Field(
        default="",
        pattern=_PATH_OR_EMPTY,
        description="Where the kubelet looks for plugins. Empty: KUBELET_ROOT/plugins_registry.",
    )
    plugin_dir: str = Field(
        default="",
        pattern=_PATH_OR_EMPTY,
        description="Folder of the service socket. Empty: KUBELET_ROOT/plugins/dragoman.dev.",
    )
    state_dir: str = Field(
        default="",
        pattern=_PATH_OR_EMPTY,
        description="State of prepared claims, on a disk that survives a reboot. Empty: PLUGIN_DIR/state.",
    )
    pod_resources_dir: str = Field(
        default="",
        pattern=_PATH_OR_EMPTY,
        description="Folder of the kubelet's PodResources socket. Empty: KUBELET_ROOT/pod-resources.",
    )
    cdi_dir: str = Field(
        default="/var/run/cdi",
        pattern=_PATH,
        description="Folder of CDI specs. It has to be one that the container runtime reads; this one "
        "is CDI's default.",
    )
    share_dir: str = Field(
        default="/run/dragoman",
        pattern=_PATH,
        description="Shared regions of preloaded limits. Has to be on tmpfs (/run is, wherever systemd "
        "runs): the "
        "regions are counters that every allocation of a container writes, and must not survive a "
        "reboot. It cannot "
        "be an emptyDir: the regions outlive the agent's pod.",
    )
    preload_dir: str = Field(
        default="/var/lib/dragoman/preload",
        pattern=_PATH,
        description="Installed versions of the preload library, and the list that names it to the loader.",
    )
    hook_dir: str = Field(
        default="/var/lib/dragoman/hook",
        pattern=_PATH,
        description="Installed versions of the program that puts limits on cgroups. The node has to be "
        "allowed to run programs from there: on nodes that mount /var noexec, name another folder.",
    )
    cgroup_root: str = Field(
        default="/sys/fs/cgroup",
        pattern=_PATH,
        description="Where the node's tree of cgroup v2 is mounted.",
    )
    driver_root: str = Field(
        default="/",
        pattern=_PATH,
        description="Root of the vendor's driver installation; /run/nvidia/driver for NVIDIA's driver "
        "container.",
    )
    mount_root: bool = Field(
        default=True,
        description="Show the node's root file system to the agent, read-only, at /host: driver "
        "libraries, CDI specs "
        "of the vendor's toolkit and sysfs are found there. false is enough for simulated cards.",
    )
    root_propagation: Literal["HostToContainer", "None"] = Field(
        default="HostToContainer",
        description="HostToContainer: the agent sees what the node mounts later (a driver container's "
        "root) and "
        "holds nothing that the node unmounts; the node's root has to be a shared mount, as systemd "
        "makes it. None: "
        "for nodes where it is not.",
    )


class Resources(Values):
    """What a container may use, as Kubernetes' `resources`."""

    requests: dict[str, str] = Field(default={})
    limits: dict[str, str] = Field(default={})


class Agent(Values):
    """The node agent: a DaemonSet."""

    log_level: LogLevel = "info"
    discovery_interval: int = Field(
        default=60, ge=1, le=86400, description="Seconds between two looks for cards that came or went."
    )
    http_port: int = Field(
        default=8080, ge=1, le=65535, description="Port of /healthz, /readyz and /metrics."
    )
    privileged: bool = Field(
        default=False,
        description="NVML has to open /dev/nvidiactl. With the nvidia runtime class (below) that works "
        "without; with neither, NVIDIA cards cannot be found. The kernel shows the partitions of AMD's cards "
        "to a privileged agent alone; one is also needed where they are made for claims (partitions: "
        "Dynamic).",
    )
    runtime_class_name: str = Field(
        default="",
        description="Such as nvidia, where the Container Toolkit is set up: its runtime brings the devices.",
    )
    node_selector: dict[str, str] = Field(default={}, description="Which nodes get an agent. Empty: all.")
    tolerations: list[dict[str, Any]] = Field(
        default=[{"operator": "Exists"}], description="Cards are often on tainted nodes."
    )
    priority_class_name: str = "system-node-critical"
    resources: Resources = Field(
        default=Resources(requests={"cpu": "10m", "memory": "64Mi"}, limits={"memory": "128Mi"})
    )
    pod_annotations: dict[str, str] = Field(default={})


Strategy = Literal["first-fit", "binpack", "spread", "best-fit"]


class Placement(Values):
    """Which of the answers that fit is taken; in mode controller only."""

    nodes: Strategy = Field(
        default="first-fit",
        description="Among nodes: first-fit by name, binpack the fullest, spread the emptiest, best-fit the "
        "one on which the least is left over.",
    )
    cards: Strategy = Field(default="first-fit", description="The same among the cards of a node.")
    topology: Literal["none", "preferred", "required"] = Field(
        default="none", description="Whether cards of one claim have to be close together."
    )


FailurePolicy = Literal["Ignore", "Fail"]


class Webhook(Values):
    """Admission webhooks, served by every replica.

    They convert pods that ask for extended resources, check claims, classes and policies, hold quotas, and
    (in mode controller) carry over what claims ask for where the API server drops it.
    """

    install: bool = Field(default=True, description="The webhooks; without them nothing below holds.")
    port: int = Field(default=9443, ge=1, le=65535, description="Port of the webhooks in the pods.")
    failure_policy: FailurePolicy = Field(
        default="Ignore",
        description="In mode controller: what becomes of a claim while no webhook answers. Ignore: it is "
        "stored as it is; where the server drops amounts it is then never allocated and has to be made anew. "
        "Fail: it is refused, as are the claims of all other drivers.",
    )
    validation_failure_policy: FailurePolicy = Field(
        default="Ignore",
        description="The same of claims, templates, classes and policies that are checked. Ignore: what is "
        "wrong is stored, and refused later by the node.",
    )
    quota_failure_policy: FailurePolicy = Field(
        default="Fail",
        description="The same of claims that name a class of ours (`*.dragoman.dev` or one of `classes`). "
        "Ignore: quotas can be passed by while no webhook answers.",
    )
    cards_may_come: bool = Field(
        default=False,
        description="Larger cards than there are may come, as where nodes are made on demand: a claim that "
        "no card of today can serve is warned of. Otherwise it is refused.",
    )
    classes: list[str] = Field(
        default=[],
        description="Further DeviceClasses of which no claim may pass quotas by, such as an admin's own.",
    )
    certificates: Literal["own", "provided"] = Field(
        default="own",
        description="own: made, stored in a Secret and renewed by the controller. provided: a Secret of type "
        "kubernetes.io/tls with ca.crt, such as cert-manager makes; its CA injector fills in caBundle.",
    )
    secret: str = Field(
        default="", description="Name of the Secret. Empty: made from the name of the release."
    )
    annotations: dict[str, str] = Field(
        default={}, description="Of the webhook configurations, such as cert-manager.io/inject-ca-from."
    )


class Conversion(Values):
    """Pods that ask for extended resources, such as nvidia.com/gpumem: they get claims instead.

    A namespace or a pod with the label `dragoman.dev/convert: "false"` or `hami.io/webhook: ignore` is left
    alone. The defaults are HAMi's.
    """

    install: bool = Field(default=True, description="Whether pods are converted at all.")
    failure_policy: FailurePolicy = Field(
        default="Fail",
        description="What becomes of such a pod while no webhook answers. Fail: it is refused; who makes "
        "pods for others tries again. Ignore: it is stored as it is and waits for a resource that no node "
        "has. Pods that ask for none of these resources are never asked about.",
    )
    excluded_namespaces: list[str] = Field(
        default=["kube-system"],
        description="Namespaces that are left alone, besides the one of this release.",
    )
    default_memory_mib: int = Field(
        default=0,
        ge=0,
        description="Memory of an NVIDIA share that asks for none, in MiB. 0: the whole card's.",
    )
    default_cores: int = Field(
        default=0,
        ge=0,
        le=100,
        description="Compute of an NVIDIA share that asks for none, in percent. 0: no cap.",
    )
    default_count: int = Field(
        default=1,
        ge=0,
        description="Cards of an NVIDIA container that asks for memory or compute alone. 0: it is refused.",
    )
    core_policy: Literal["force", "default", "disable"] = Field(
        default="force",
        description="Whether caps on compute hold where the container does not say it. default: as "
        "corePolicy: default of a ShareConfig.",
    )
    memory_factors: dict[str, int] = Field(
        default={}, description="Name of a resource of memory: how many of its units one of it is."
    )
    renamed: dict[str, str] = Field(
        default={}, description="Name of a resource: what it is called in this cluster."
    )
    left_alone: list[str] = Field(
        default=[],
        description="Names that count cards, such as nvidia.com/gpu, which a device plugin goes on to serve.",
    )
    schedulers: dict[str, str] = Field(
        default={"hami-scheduler": "default-scheduler", "volcano": ""},
        description="Scheduler that a pod names: whom the pod is given to. Empty: it stays and is warned.",
    )


class Controller(Values):
    """The controller: a Deployment."""

    replicas: int = Field(default=2, ge=1, le=5, description="One of them, the holder of the Lease, decides.")
    log_level: LogLevel = "info"
    mode: Literal["native", "controller"] = Field(
        default="native",
        description="Who allocates, in the whole cluster. native: kube-scheduler, on Kubernetes 1.36 and "
        "later. controller: this controller, which then needs the right to write allocations.",
    )
    handover_wait: int = Field(
        default=30,
        ge=1,
        le=3600,
        description="In mode controller: seconds for which kube-scheduler must have had no slices of a node "
        "before this controller gives out the node's cards. More where kube-scheduler is slow.",
    )
    unplaced_after: int = Field(
        default=900,
        ge=5,
        le=86400,
        description="In mode controller: seconds for which a pod may have its cards without being placed "
        "before it gives them back, with its gang, if others wait for cards. Less than kube-scheduler takes "
        "to bind a pod (10 minutes where it waits for a volume) only disturbs it.",
    )
    placement: Placement = Field(default=Placement())
    webhook: Webhook = Field(default=Webhook())
    conversion: Conversion = Field(default=Conversion())
    explain: bool = Field(
        default=True, description="Write Events on claims and pods that wait for a card, saying why."
    )
    health_port: int = Field(default=8080, ge=1, le=65535, description="Port of /healthz.")
    metrics_port: int = Field(default=9090, ge=1, le=65535, description="Port of /metrics and /readyz.")
    node_selector: dict[str, str] = Field(default={})
    tolerations: list[dict[str, Any]] = Field(default=[])
    priority_class_name: str = "system-cluster-critical"
    resources: Resources = Field(
        default=Resources(requests={"cpu": "50m", "memory": "96Mi"}, limits={"memory": "256Mi"})
    )
    pod_annotations: dict[str, str] = Field(default={})


class Preload(Values):
    """Limits by a library that is loaded into the containers (HAMi-core's contract)."""

    library: str = Field(
        default="",
        pattern=_LIBRARY,
        description="`image`: the library in the project's image (hack/image --preload-library FILE). "
        "An absolute "
        "path: a file of the node. Empty: none; limited shares that nothing else can hold are then refused "
        "(PreloadLibraryMissing).",
    )
    ascend: str = Field(
        default="",
        pattern=_NODE_FILE,
        description="HAMi-vnpu-core's library (libvnpu.so) for shares of Ascend cards: a file of the node, "
        "used where it lies. Empty: none; a new version has to be a new file.",
    )
    amd: str = Field(
        default="",
        pattern=_NODE_FILE,
        description="HAMi's library for HIP (libamvgpu.so) for shares of AMD cards, in the same way. It "
        "holds memory; a cap on compute of an AMD card needs another method.",
    )


class Kernel(Values):
    """Limits on memory by the kernel (cgroup controller dmem)."""

    hook: str = Field(
        default="image",
        pattern=_LIBRARY,
        description="The program that puts the limit on a container's cgroup before its entrypoint runs. "
        "`image`: the one in the project's image. An absolute path: a file of the node. Empty: none; the "
        "kernel then holds nothing.",
    )


class InForce(Values):
    """Whether limits hold in the running containers; see docs/in-force.md."""

    enabled: bool = Field(
        default=True,
        description="The agent looks at the processes of containers that have shares. For that it sees the "
        "node's /proc, read-only, and has the capability SYS_PTRACE. false: it has neither, and claims do "
        "not tell whether their limits hold.",
    )
    deadline: int = Field(
        default=30,
        ge=5,
        le=86400,
        description="For so many seconds limits have to be found not in force before the pod is told.",
    )


class Mps(Values):
    """NVIDIA's Multi-Process Service: a DaemonSet with a daemon that holds the limits of shares.

    See docs/isolation.md. Policies have to name the method `service`.
    """

    install: bool = Field(
        default=False,
        description="A DaemonSet that looks after NVIDIA's MPS daemon, for the method `service`.",
    )
    memory: Literal["none", "per-process"] = Field(
        default="none",
        description="MPS limits the memory of each process: two processes of a container have twice as much. "
        "none: another method has to hold the memory of shares. per-process: that is good enough.",
    )
    dir: str = Field(
        default="/run/dragoman-mps",
        pattern=_PATH,
        description="Folder of the node for sockets and what shares want; on tmpfs.",
    )
    program: str = Field(
        default="nvidia-cuda-mps-control",
        description="The control daemon, of driver 615 or later: as NVIDIA's runtime brings it, or an "
        "absolute path of the node.",
    )
    runtime_class_name: str = Field(
        default="nvidia",
        description="Brings the cards, CUDA and the daemon into its container. Empty: the node's default.",
    )
    privileged: bool = Field(
        default=False, description="Where there is no such runtime class, the cards need it."
    )
    resources: Resources = Field(default=Resources(requests={"cpu": "10m", "memory": "64Mi"}))


class Simulated(Values):
    """Cards without hardware, for tests and trials."""

    cards: list[dict[str, Any]] = Field(
        default=[],
        description="Cards of every node, such as [{vendor: nvidia, model: A10, memory: 24Gi, uuid: GPU-1}]: "
        "the `cards` of the file that `hack/demo --node` reads. Empty: the real ones.",
    )
    nodes: dict[str, list[dict[str, Any]]] = Field(
        default={}, description="The same for each node by its name. The agent then runs on these nodes only."
    )


class Metrics(Values):
    """Services in front of the metrics, for Prometheus to find."""

    service: bool = Field(
        default=True, description="A Service for each of the two, for scrapers that go by Services."
    )
    annotations: dict[str, str] = Field(
        default={"prometheus.io/scrape": "true"}, description="Annotations of the Services."
    )


class ChartValues(Values):
    """All values of the chart."""

    image: Image = Image()
    preload: Preload = Preload()
    kernel: Kernel = Kernel()
    in_force: InForce = InForce()
    mps: Mps = Mps()
    host: Host = Host()
    agent: Agent = Agent()
    controller: Controller = Controller()
    simulated: Simulated = Simulated()
    metrics: Metrics = Metrics()
    device_classes: Switch = Field(
        default=Switch(),
        description="DeviceClasses: accelerator.dragoman.dev, one for each vendor, and "
        "partition.dragoman.dev.",
    )
    crds: Switch = Field(
        default=Switch(),
        description="CustomResourceDefinitions. They are upgraded with the chart and stay when it is "
        "uninstalled.",
    )
    admission_policies: Switch = Field(
        default=Switch(),
        description="ValidatingAdmissionPolicies: an agent speaks for its own node only, requests "
        "that no card can ever meet are refused with the reason, and claims go only after their pods.",
    )
    uninstall_check: Switch = Field(
        default=Switch(),
        description="Refuse `helm uninstall` while claims hold cards. `helm uninstall --no-hooks` does "
        "it anyway.",
    )
