"""Tells administrators about AcceleratorPolicies that cannot be read.

Flow: kopf brings the key of a policy that came or changed; the policy is decoded as the agents will; if that
fails, an Event on the policy says which field and why. (The agents leave such a policy out.)

Limits: nothing is written to the policy itself.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from controller.events import Events, Subject, cut
from driver.api.base import decode
from driver.api.policy import AcceleratorPolicySpec
from driver.errors import ConfigError
from driver.kube.client import KubeClient, NotFoundError
from driver.kube.resources import ACCELERATOR_POLICIES

_log = structlog.get_logger("policies")


class PolicyCheck:
    """Checks policies by name."""

    def __init__(self, client: KubeClient, events: Events, *, held: Callable[[], bool]) -> None:
        """Prepares a check; only the leader writes Events."""
        self._client = client
        self._events = events
        self._held = held

    async def check(self, name: str) -> None:
        """Looks at one policy and says what is wrong with it, if anything is."""
        try:
            policy = await self._client.get(ACCELERATOR_POLICIES, name)
        except NotFoundError:
            return
        try:
            decode(AcceleratorPolicySpec, policy.get("spec") or {}, field="spec")
        except ConfigError as invalid:
            _log.warning("policy cannot be read", policy=name, error=str(invalid))
            subject = Subject(
                resource=ACCELERATOR_POLICIES, name=name, uid=str(policy["metadata"].get("uid") or "")
            )
            if self._held():
                await self._events.tell(subject, reason=invalid.reason, note=cut(str(invalid)))
