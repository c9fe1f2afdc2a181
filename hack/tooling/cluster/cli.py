"""The command ``hack/cluster``: reads its arguments, does what they say, puts errors into sentences."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tooling.cluster import api, batch, build, cgroups, control_plane, lifecycle, machine
from tooling.cluster.errors import ClusterError
from tooling.cluster.paths import check_name
from tooling.cluster.progress import to_terminal

if TYPE_CHECKING:
    from collections.abc import Sequence

_ABOUT = f"""\
A real Kubernetes node on this machine: etcd, API server, scheduler, controller
manager, kube-proxy, containerd (with CDI) and kubelet, as plain processes in a
network namespace of their own. No container registry, no virtual machine. They
are built from Go modules that are locked in hack/go, once, into the cache
(DRAGOMAN_CACHE, else ~/.cache/dragoman): about 13 minutes on 2 cores for the
first version, 8 for each further one. A start takes about 10 seconds, several
clusters can be up side by side (--name).

Needs: Linux, root, Go 1.26 and a few Debian packages, which it installs when
they are missing.
Kubernetes versions: {", ".join(build.KUBERNETES_VERSIONS)}
"""
_EXAMPLES = """\
examples:
  hack/cluster up
  hack/cluster kubectl get nodes
  hack/cluster load build/dragoman.tar
  hack/cluster up --name old --kubernetes 1.34.4 \\
    --feature-gates DRAConsumableCapacity=true
  hack/cluster --name old kubectl get resourceslices
  hack/cluster exchange --name old --kubernetes 1.36.3 apiserver
  hack/cluster shell
  hack/cluster down --all
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    given = parser().parse_args(arguments)
    # A start that is asked to end cleans up after itself.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return int(given.do(given))
    except ClusterError as error:
        print(f"hack/cluster: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # Whoever read the output has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("hack/cluster: interrupted", file=sys.stderr)
        return 130


def parser() -> argparse.ArgumentParser:
    """The arguments that the command understands."""
    top = argparse.ArgumentParser(
        prog="hack/cluster",
        description=_ABOUT,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    named = argparse.ArgumentParser(add_help=False)
    for one in (top, named):
        one.add_argument(
            "--name",
            type=_name,
            default=api.DEFAULT_NAME if one is top else argparse.SUPPRESS,
            help=f"the cluster's name (default: {api.DEFAULT_NAME})",
        )
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)

    up = commands.add_parser("up", parents=[named], help="build what is missing and start a cluster")
    _version(up)
    up.add_argument(
        "--feature-gates",
        type=_gates,
        default={},
        metavar="A=true,B=false",
        help="feature gates for all components",
    )
    up.add_argument(
        "--api-args",
        type=shlex.split,
        default=[],
        metavar="'--flag=value …'",
        help="more arguments for the API server, as one word: --api-args='--runtime-config=api/all=true'",
    )
    up.set_defaults(do=_up)

    change = commands.add_parser(
        "exchange", parents=[named], help="upgrade components in place, to another Kubernetes version"
    )
    _version(change)
    change.add_argument(
        "components",
        nargs="*",
        metavar="COMPONENT",
        help=f"in this order (default: {' '.join((*lifecycle.CONTROL_PLANE, *lifecycle.NODE))})",
    )
    change.set_defaults(do=_exchange)

    down = commands.add_parser("down", parents=[named], help="end a cluster and remove all of it")
    down.add_argument("--all", action="store_true", help="every cluster of this cache")
    down.set_defaults(do=_down)

    status = commands.add_parser("status", parents=[named], help="what runs, and where its files are")
    status.add_argument("--json", action="store_true", help="for programs")
    status.set_defaults(do=_status)

    commands.add_parser("list", help="all clusters of this cache").set_defaults(do=_list)

    built = commands.add_parser("build", help="build the programs only")
    _version(built)
    built.add_argument(
        "--also",
        choices=sorted(batch.SYSTEMS),
        action="append",
        default=[],
        help="a batch system that cluster tests run beside Dragoman; about 10 minutes each",
    )
    built.set_defaults(do=_build)

    load = commands.add_parser("load", parents=[named], help="make an image tar known to the node")
    load.add_argument("image", type=Path, nargs="+", metavar="IMAGE.tar")
    load.set_defaults(do=_load)

    shell = commands.add_parser(
        "shell", parents=[named], help="a shell with kubectl, helm and ctr for the cluster"
    )
    shell.add_argument("--node", action="store_true", help="inside the node's network namespace")
    shell.set_defaults(do=_shell)

    for program in ("kubectl", "helm", "ctr"):
        run = commands.add_parser(program, add_help=False, help=f"run {program} for the cluster")
        run.add_argument("arguments", nargs=argparse.REMAINDER)
        run.set_defaults(do=_run, program=program)
    return top


def _version(to: argparse.ArgumentParser) -> None:
    to.add_argument(
        "--kubernetes",
        choices=build.KUBERNETES_VERSIONS,
        default=build.DEFAULT_KUBERNETES,
        help=f"the Kubernetes version (default: {build.DEFAULT_KUBERNETES})",
    )


def _name(text: str) -> str:
    try:
        return check_name(text)
    except ClusterError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _gates(text: str) -> dict[str, bool]:
    gates: dict[str, bool] = {}
    for pair in filter(None, text.split(",")):
        name, _, value = pair.partition("=")
        if not name.isalnum() or value.lower() not in ("true", "false"):
            raise argparse.ArgumentTypeError(f"{pair!r} is not a feature gate: write NAME=true or NAME=false")
        gates[name] = value.lower() == "true"
    return gates


def _up(given: argparse.Namespace) -> int:
    cluster = api.start(
        name=given.name,
        kubernetes=given.kubernetes,
        feature_gates=given.feature_gates,
        api_arguments=given.api_args,
        report=to_terminal,
    )
    print(f"export KUBECONFIG={shlex.quote(str(cluster.kubeconfig))}")
    return 0


def _exchange(given: argparse.Namespace) -> int:
    components = given.components or (*lifecycle.CONTROL_PLANE, *lifecycle.NODE)
    unknown = sorted({*components} - {*lifecycle.CONTROL_PLANE, *lifecycle.NODE})
    if unknown:
        raise ClusterError(
            f"{unknown[0]!r} is no component of a Kubernetes release",
            remedy=f"Choose of {', '.join((*lifecycle.CONTROL_PLANE, *lifecycle.NODE))}.",
        )
    cluster = _attached(given.name)
    api.exchange(cluster, kubernetes=given.kubernetes, components=components, report=to_terminal)
    return 0


def _down(given: argparse.Namespace) -> int:
    for name in lifecycle.names() if given.all else [given.name]:
        print(f"The cluster {name} {'is down' if api.stop(name) else 'was not up'}", file=sys.stderr)
    return 0


def _status(given: argparse.Namespace) -> int:
    cluster = api.attach(given.name)
    if cluster is None:
        if given.json:
            print(json.dumps({"name": given.name, "up": False, "missing": _missing()}))
        else:
            print(f"The cluster {given.name} is not up (start it: hack/cluster --name {given.name} up)")
            for one in _missing():
                print(f"  before that: {one}")
        return 3
    layout = cluster.layout
    services = lifecycle.services_of(layout)
    running = {component: services.identity(component) for component in services.names()}
    answers, ready = control_plane.Api(layout).ready(), cluster.ready()
    if given.json:
        print(
            json.dumps(
                {
                    "name": cluster.name,
                    "up": ready,
                    "kubernetes": cluster.kubernetes,
                    "server": cluster.server,
                    "kubeconfig": str(cluster.kubeconfig),
                    "kubeletRoot": str(layout.kubelet_root),
                    "cdiFolder": str(layout.cdi),
                    "nodeRoot": str(layout.node_root),
                    "logs": str(layout.logs),
                    "processes": {name: one and one.pid for name, one in running.items()},
                },
                indent=1,
            )
        )
    else:
        print(f"{cluster.name}: Kubernetes {cluster.kubernetes}, {'Ready' if ready else 'NOT Ready'}")
        print(f"  API server   {cluster.server} ({'answers' if answers else 'does not answer'})")
        for title, value in (
            ("kubeconfig", cluster.kubeconfig),
            ("kubelet root", layout.kubelet_root),
            ("CDI folder", layout.cdi),
            ("logs", layout.logs),
            ("pods", f"{layout.pod_subnet}, {_count_pods(cluster)}"),
            ("processes", f"{len(cgroups.members(layout.cgroup))} in the control group {layout.cgroup}"),
        ):
            print(f"  {title:<12} {value}")
        for component, process in running.items():
            print(f"    {component:<19} {f'pid {process.pid}' if process else 'NOT running'}")
        gates = cluster.record.settings.feature_gates
        if gates:
            print("  gates        " + ", ".join(f"{gate}={on}" for gate, on in sorted(gates.items())))
    return 0 if ready and all(running.values()) else 1


def _missing() -> list[str]:
    return [f"{one.what} ({one.remedy})" for one in machine.missing()]


def _count_pods(cluster: api.Cluster) -> str:
    pods = (control_plane.Api(cluster.layout).get("/api/v1/pods") or {}).get("items", [])
    return f"{sum(pod['status'].get('phase') == 'Running' for pod in pods)} of {len(pods)} running"


def _list(given: argparse.Namespace) -> int:  # noqa: ARG001
    for name in lifecycle.names():
        cluster = api.attach(name)
        if cluster is not None:
            state = "Ready" if cluster.ready() else "not Ready"
            print(f"{name:<24} {cluster.kubernetes:<8} {state:<10} {cluster.server}  {cluster.kubeconfig}")
    return 0


def _build(given: argparse.Namespace) -> int:
    build.ensure_all(given.kubernetes, report=to_terminal)
    for tool in build.tools_of(given.kubernetes):
        print(build.folder_of(tool))
    for name in given.also:
        print(build.ensure(batch.SYSTEMS[name].tool, report=to_terminal))
    return 0


def _load(given: argparse.Namespace) -> int:
    cluster = _attached(given.name)
    for image in given.image:
        to_terminal(f"Loading {image}")
        for name in cluster.load_image(image):
            print(name)
    return 0


def _shell(given: argparse.Namespace) -> int:
    cluster = _attached(given.name)
    environment = {**os.environ, **cluster.environment, "PS1": f"({cluster.name}) \\w\\$ "}
    enter = ["nsenter", f"--net=/run/netns/{cluster.layout.namespace}", "--"] if given.node else []
    command = [*enter, "bash", "--norc"]
    to_terminal("kubectl, helm and ctr are on the PATH and know the cluster; leave with exit")
    os.execvpe(command[0], command, environment)  # noqa: S606


def _run(given: argparse.Namespace) -> int:
    cluster = _attached(given.name)
    program = str(cluster.program(given.program))
    os.execve(program, [program, *given.arguments], {**os.environ, **cluster.environment})  # noqa: S606


def _attached(name: str) -> api.Cluster:
    cluster = api.attach(name)
    if cluster is None:
        raise ClusterError(f"the cluster {name} is not up", remedy=f"Start it: hack/cluster --name {name} up")
    return cluster
