"""Tells administrators about AcceleratorPolicies that cannot be read, or not as a whole.

Flow: kopf brings the key of a policy that came or changed; the policy is read as the agents will; an Event on
it says which field cannot be used and why. (The agents leave that field out, or such a policy.)

Limits: nothing is written to the policy itself.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from controller.events import Events, Subject, cut
from driver.api.policy_reading import read_policy
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
            _, misfits = read_policy(policy.get("spec") or {})
        except ConfigError as unreadable:
            misfits = (unreadable,)
        if misfits:
            invalid = misfits[0]
            _log.warning("policy cannot be read as a whole", policy=name, error=str(invalid))
            subject = Subject(
                resource=ACCELERATOR_POLICIES, name=name, uid=str(policy["metadata"].get("uid") or "")
            )
            if self._held():
                await self._events.tell(subject, reason=invalid.reason, note=cut(str(invalid)))
