"""Everything that can be set for the controller, in one frozen dataclass.

Flow: flag, else environment variable (`DRAGOMAN_` and the flag's name in capitals), else default. Each
value of the chart maps to one field; each field's `help` is the documentation of the flag.

Limits: nothing is read but the arguments and the environment that are given.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from controller.logs import FORMATS, LEVELS
from driver.allocation.placement import Strategy, Wish
from driver.errors import ConfigError, shown

NATIVE, CONTROLLER = "native", "controller"
MODES = (NATIVE, CONTROLLER)
STRATEGIES = tuple(str(one) for one in Strategy)
WISHES = tuple(str(one) for one in Wish)


def _setting(default: Any, text: str, *, choices: tuple[str, ...] = (), least: float | None = None) -> Any:
    return field(default=default, metadata={"help": text, "choices": choices, "least": least})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the controller was told; times are in seconds."""

    kubeconfig: str = _setting("", "Path of a kubeconfig; empty: the pod's service account.")
    namespace: str = _setting(
        "", "Namespace of the controller and the agents; empty: that of its credentials."
    )
    identity: str = _setting("", "Name of this replica, such as the pod's; empty: the host's name.")
    mode: str = _setting(
        NATIVE,
        "Who allocates, in the whole cluster: native = kube-scheduler, from 1.36 on; controller = this one.",
        choices=MODES,
    )
    placement_nodes: str = _setting(
        "first-fit", "Which node, of those that fit; in mode controller.", choices=STRATEGIES
    )
    placement_cards: str = _setting(
        "first-fit", "Which cards of a node, of those that fit; in mode controller.", choices=STRATEGIES
    )
    placement_topology: str = _setting(
        "none", "Whether cards of one claim are to be close together; in mode controller.", choices=WISHES
    )
    handover_wait: float = _setting(
        30.0,
        "How long kube-scheduler must have had no slices of a node before this controller gives them out.",
        least=1,
    )
    handover_bind: float = _setting(
        900.0,
        "How long after that change it waits for pods that kube-scheduler has chosen a node for.",
        least=1,
    )
    # Not more, as long as no quiet machine shows that it helps: with 1,000 claims at once (hack/bench scale)
    # 8 gave 10.8 a second at a load of 8, and 32 gave 10.4 at a load of 20, with a larger p99.
    allocate_workers: int = _setting(8, "Pods whose allocations are written at the same time.", least=1)
    orphaned_after: float = _setting(
        60.0, "How long an allocation may have no pod before it is released; in mode controller.", least=5
    )
    unplaced_after: float = _setting(
        900.0,
        "How long a pod may have its cards without being placed before it gives them back to others that "
        "wait; in mode controller.",
        least=5,
    )
    agent_selector: str = _setting(
        "app.kubernetes.io/name=dragoman,app.kubernetes.io/component=kubelet-plugin",
        "Label selector of the agents' pods in the controller's namespace.",
    )
    lease_name: str = _setting("dragoman-controller", "Name of the Lease that makes one replica the leader.")
    lease_duration: float = _setting(15.0, "How long others wait after the last renewal.", least=1)
    lease_renew_deadline: float = _setting(
        10.0, "How long the leader goes on without a renewal; less than lease-duration.", least=0.5
    )
    lease_retry: float = _setting(2.0, "Time between two tries to take or renew the Lease.", least=0.1)
    probe_interval: float = _setting(300.0, "Time between two looks at what the API server can do.", least=1)
    recreate_after: float = _setting(5.0, "Wait before slices that vanished are made again.", least=0)
    recreate_cap: float = _setting(60.0, "Longest such wait, while they keep vanishing.", least=1)
    publish_workers: int = _setting(4, "Nodes that are published at the same time.", least=1)
    explain: bool = _setting(True, "Write Events on claims and pods that wait for a card.")
    explain_after: float = _setting(5.0, "How long a claim waits before it is explained.", least=0)
    explain_again: float = _setting(300.0, "Time before an unchanged explanation is repeated.", least=10)
    webhook_port: int = _setting(0, "Port of the admission webhooks; 0 serves none.", least=0)
    webhook_drain: float = _setting(
        5.0,
        "How long webhooks are still answered after SIGTERM: API servers ask until they heard of it.",
        least=0,
    )
    webhook_secret: str = _setting("dragoman-webhook", "Secret that holds the webhook's certificates.")
    webhook_service: str = _setting("dragoman-webhook", "Service in front of the webhooks of all replicas.")
    webhook_configuration: str = _setting(
        "dragoman", "Webhook configurations, of both kinds, whose caBundle is kept up to date."
    )
    webhook_own_certificates: bool = _setting(
        True, "Make the webhook's certificates, and tell the API server whom to trust."
    )
    cards_may_come: bool = _setting(
        False,
        "Larger cards than there are may come, as where nodes are made on demand: a claim that no card of "
        "today can serve is warned of and not refused.",
    )
    conversion: str = _setting(
        "",
        "How pods that ask for extended resources are converted: JSON, {} for HAMi's way; empty: not.",
    )
    listen: str = _setting("0.0.0.0", "Address of the probes and the metrics.")  # noqa: S104 - a pod's
    health_port: int = _setting(8080, "Port of /healthz; 0 serves none.", least=0)
    metrics_port: int = _setting(9090, "Port of /metrics and /readyz; 0 serves none.", least=0)
    stale_after: float = _setting(300.0, "Silence of the API server that makes the probe fail.", least=150)
    stuck_after: float = _setting(300.0, "Time without progress that makes the probe fail.", least=60)
    log_level: str = _setting("info", "Least severity of log lines.", choices=LEVELS)
    log_format: str = _setting("json", "json, or text for a terminal.", choices=FORMATS)

    def __post_init__(self) -> None:
        for one in fields(self):
            value, choices, least = getattr(self, one.name), one.metadata["choices"], one.metadata["least"]
            if choices and value not in choices:
                raise ConfigError(
                    f"{value!r} is not known.", field=_flag(one.name), remedy=f"One of: {', '.join(choices)}."
                )
            if least is not None and value < least:
                raise ConfigError(
                    f"{value} is too small.", field=_flag(one.name), remedy=f"At least {least}."
                )
        if self.lease_renew_deadline >= self.lease_duration:
            raise ConfigError(
                f"{self.lease_renew_deadline} s is not less than lease-duration ({self.lease_duration} s).",
                field=_flag("lease_renew_deadline"),
                remedy="Two replicas could lead at once otherwise.",
            )


def parse_settings(arguments: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """Reads the settings.

    Raises:
        ConfigError: A value cannot be read or is out of its range; it names the flag.
        SystemExit: For `--help` and unknown flags, by argparse.
    """
    given = vars(_parser().parse_args(arguments))
    values: dict[str, Any] = {}
    for one in fields(Settings):
        text = given.get(one.name)
        if text is None:
            text = environ.get(_variable(one.name))
        if text is not None:
            values[one.name] = _read(one.name, str(text), type(one.default))
    return Settings(**values)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dragoman-controller",
        description="The controller of Dragoman: publishes accelerators, serves the webhooks, says why pods "
        "wait and, in mode controller, allocates. Times are in seconds.",
    )
    for one in fields(Settings):
        if one.default is MISSING:
            continue
        parser.add_argument(
            _flag(one.name),
            dest=one.name,
            metavar="VALUE",
            help=f"{one.metadata['help']} Default: {shown(one.default)}. Environment: {_variable(one.name)}.",
        )
    return parser


def _read(name: str, text: str, kind: type) -> Any:
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        return kind(text)
    except (ValueError, KeyError):
        wanted = {bool: "true or false", int: "a whole number", float: "a number of seconds"}[kind]
        raise ConfigError(f"{text!r} cannot be read.", field=_flag(name), remedy=f"Write {wanted}.") from None


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _variable(name: str) -> str:
    return f"DRAGOMAN_{name.upper()}"
