"""The agent's flags, as one table: flag, environment variable, default, and what it means.

Purpose: the one place that knows them; each value of the chart maps to one entry. `kubelet_plugin.settings`
makes settings of what is given.
"""

from __future__ import annotations

from dataclasses import dataclass

from driver.cards import DRIVER_NAME

LOG_LEVELS = ("debug", "info", "warning", "error")
MPS_MEMORY = ("none", "per-process")


@dataclass(frozen=True, kw_only=True)
class Option:
    """One flag, its environment variable (`DRAGOMAN_` + the flag in capitals), and what it means."""

    flag: str
    help: str
    default: str = ""
    metavar: str = "PATH"

    @property
    def variable(self) -> str:
        """Name of the environment variable."""
        return "DRAGOMAN_" + self.flag.removeprefix("--").upper().replace("-", "_")

    @property
    def field(self) -> str:
        """Name of the field of `Settings`."""
        name = self.flag.removeprefix("--").replace("-", "_")
        return f"{name}_s" if name in ("discovery_interval", "in_force_deadline") else name


OPTIONS: tuple[Option, ...] = (
    Option(
        flag="--node-name",
        metavar="NAME",
        help="Name of the Node object that this agent speaks for. Required with an API server; "
        "otherwise that of the simulated node.",
    ),
    Option(flag="--kubelet-root", default="/var/lib/kubelet", help="The kubelet's --root-dir."),
    Option(
        flag="--registration-dir", help="Where the kubelet looks for plugins. Default: ROOT/plugins_registry."
    ),
    Option(flag="--plugin-dir", help=f"Folder of the service socket. Default: ROOT/plugins/{DRIVER_NAME}."),
    Option(
        flag="--pod-resources-socket",
        help="The kubelet's PodResources API. Default: ROOT/pod-resources/kubelet.sock.",
    ),
    Option(
        flag="--cdi-dir", default="/var/run/cdi", help="Folder of CDI specs that the container runtime reads."
    ),
    Option(flag="--state-dir", help="The claims' state files. Default: PLUGIN_DIR/state."),
    Option(flag="--share-dir", default="/run/dragoman", help="Shared regions of preloaded limits, on tmpfs."),
    Option(flag="--host-root", default="/", help="Where the node's root file system is seen by the agent."),
    Option(
        flag="--driver-root",
        default="/",
        help="Root of the vendor's driver installation, as a path of the node.",
    ),
    Option(
        flag="--preload-library",
        help="The preload library to install on the node. Without one, limited shares are refused.",
    ),
    Option(
        flag="--preload-dir",
        default="/var/lib/dragoman/preload",
        help="Folder of the node that holds the installed versions of the preload library.",
    ),
    Option(
        flag="--kernel-hook",
        help="The program that puts limits on cgroups, to install on the node. Without one, the kernel "
        "limits no memory.",
    ),
    Option(
        flag="--hook-dir",
        default="/var/lib/dragoman/hook",
        help="Folder of the node that holds the installed versions of that program; the node must be "
        "allowed to run programs in it.",
    ),
    Option(
        flag="--cgroup-root",
        default="/sys/fs/cgroup",
        help="Where the node's tree of cgroup v2 is mounted, as a path of the node.",
    ),
    Option(
        flag="--preload-ascend",
        metavar="FILE",
        help="HAMi-vnpu-core's library for Ascend cards, as a path of the node. Default: none.",
    ),
    Option(
        flag="--preload-amd",
        metavar="FILE",
        help="HAMi's library for HIP (libamvgpu.so), as a path of the node. Default: none.",
    ),
    Option(
        flag="--mps-dir",
        help="Folder of the node's supervisor of MPS (python -m kubelet_plugin.mps). Default: no share is "
        "held by MPS.",
    ),
    Option(
        flag="--mps-memory",
        metavar="HOW",
        default="none",
        help="per-process: MPS may hold the memory of shares, though it limits each process by itself. "
        "Default: none.",
    ),
    Option(flag="--pod-name", metavar="NAME", help="The agent's own pod."),
    Option(flag="--pod-namespace", metavar="NAME", help="Namespace of the agent's own pod."),
    Option(flag="--pod-uid", metavar="UID", help="UID of the agent's own pod; part of its sockets' names."),
    Option(flag="--simulated-node", metavar="FILE", help="Offer the simulated cards of this YAML file."),
    Option(
        flag="--claims-from",
        metavar="DIR",
        help="Read ResourceClaims from the YAML files of this folder; no API server is spoken to.",
    ),
    Option(
        flag="--policies-from",
        metavar="FILE",
        help="Read AcceleratorPolicies from this YAML file or folder (only with --claims-from).",
    ),
    Option(
        flag="--inventory-to",
        metavar="FILE",
        help="Write the AcceleratorNode to this file (only with --claims-from).",
    ),
    Option(
        flag="--api-server",
        metavar="URL",
        help="URL of the API server. Default: the one of the pod's environment.",
    ),
    Option(
        flag="--api-token-file", metavar="FILE", help="Bearer token. Default: that of the service account."
    ),
    Option(
        flag="--api-ca-file",
        metavar="FILE",
        help="CA of the API server. Default: that of the service account.",
    ),
    Option(
        flag="--http-address",
        metavar="HOST:PORT",
        help="Where /healthz, /readyz and /metrics are served. Default: nowhere.",
    ),
    Option(
        flag="--discovery-interval",
        metavar="SECONDS",
        default="60",
        help="Seconds between two looks for cards that came or went. Default: 60.",
    ),
    Option(
        flag="--in-force-deadline",
        metavar="SECONDS",
        default="30",
        help="For how long limits have to be found not in force in a running container before its pod is "
        "told; 0: nobody looks. Default: 30.",
    ),
    Option(
        flag="--proc-dir",
        help="Where the agent sees the node's processes. Default: /proc below --host-root.",
    ),
    Option(
        flag="--log-level",
        metavar="LEVEL",
        default="info",
        help=f"One of {', '.join(LOG_LEVELS)}. Default: info.",
    ),
)
