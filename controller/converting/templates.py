"""Makes the ResourceClaimTemplates of converted pods, each owned by its pod.

Purpose: admission must not make anything, because the pod may be refused by another webhook, or be a dry run.
So it only writes the name of a template into the pod, and the template is made here, once the pod is stored.
Kubernetes makes the claim within 0.2 s after that (tried on 1.37.1), and takes both away with the pod.

Flow: an informer of converted, pending pods -> `reconcile` reads the pod, works out its templates again from
what was asked for, and creates what is not there.

What a leader that was stopped (SIGSTOP) can do when it goes on after it lost the Lease: make a template late.
It is the one that any other replica would have made, or finds its name taken by that; where its pod is gone,
its owner is, and Kubernetes collects it. So nothing is asked before a write.

Limits: a template is worked out from the amounts that are recorded in the pod, never taken from it: whoever
may create pods gets no other templates by it than conversion makes. A template of the same name that belongs
to somebody else is neither used nor touched; the pod's Events say so (`refusals`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol

import structlog

from controller.converting.refusals import Refusals
from controller.converting.views import ConvertedPod
from controller.events import Events, Subject
from driver.api.asked import STAMP, carry_over, other_constraints
from driver.errors import InvalidInputError
from driver.kube.client import JSON, ConflictError, KubeClient, NotFoundError
from driver.kube.resources import PODS, RESOURCE_CLAIM_TEMPLATES

CONVERTED = "dragoman.dev/converted"
"""Label of pods that were converted."""

_log = structlog.get_logger("converting")


class TemplateNameTakenError(InvalidInputError):
    """A template that a converted pod names is there, and was not made for the pod."""

    reason: ClassVar[str] = "TemplateNameTaken"


class Pods(Protocol):
    """What is needed of the informer of converted pods."""

    def get(self, key: str) -> ConvertedPod | None:
        """What is known of a pod."""

    def keys(self) -> list[str]:
        """`namespace/name` of all."""


class Templates:
    """The maker of templates."""

    def __init__(
        self,
        client: KubeClient,
        pods: Pods,
        events: Events,
        *,
        made_of: Callable[[Mapping[str, Any]], Sequence[JSON]],
        amounts_kept: Callable[[], bool | None],
        is_ours: Callable[[str], bool],
    ) -> None:
        """Prepares a maker.

        Args:
            client: The API server.
            pods: Converted pods that wait.
            events: Where people are told what went wrong.
            made_of: The templates of a converted pod, worked out; raises DragomanError.
            amounts_kept: Whether the API server keeps amounts; None if not known.
            is_ours: Whether a DeviceClass of this name is ours.
        """
        self._client = client
        self._pods = pods
        self._refusals = Refusals(events)
        self._made_of = made_of
        self._amounts_kept = amounts_kept
        self._is_ours = is_ours

    def begin(self) -> list[str]:
        """All keys there are."""
        keys = self._pods.keys()
        self._refusals.keep(set(keys))
        return keys

    async def reconcile(self, key: str) -> float | None:
        """Makes the templates of a pod that are not there.

        Returns:
            Seconds after which to look again; None if there is nothing more to do.

        Raises:
            ApiError: The API server refused, or gave no answer; to be tried again.
        """
        view = self._pods.get(key)
        if view is None or view.going:
            self._refusals.forget(key)
            return None
        namespace, _, name = key.partition("/")
        pod = await self._read(name, namespace=namespace, uid=view.uid)
        if pod is None:
            return None
        try:
            for template in self._made_of(pod):
                await self._make(template, pod=pod)
        except InvalidInputError as refused:
            _log.warning("templates of a pod cannot be made", pod=name, error=str(refused))
            subject = Subject(resource=PODS, name=name, namespace=namespace, uid=view.uid)
            # What cards there are may change; the pod cannot.
            return await self._refusals.tell(key, subject, refused)
        self._refusals.forget(key)
        return None

    async def _read(self, name: str, *, namespace: str, uid: str) -> JSON | None:
        """The pod of this UID; None if it is gone."""
        # The informer may hear of a pod from one API server before the one that answers has it in memory, and
        # no event would ever bring it back: then what is stored is asked for.
        for cached in (True, False):
            try:
                found = await self._client.get(PODS, name, namespace=namespace, cached=cached)
            except NotFoundError:
                continue
            if found["metadata"].get("uid") == uid:
                return found
        return None

    async def _make(self, template: JSON, *, pod: JSON) -> None:
        namespace, uid = pod["metadata"]["namespace"], pod["metadata"]["uid"]
        body = self._with_amounts(template)
        # Controller it is not: that place is for whoever scales, and nothing here is waited for.
        owner = {"apiVersion": "v1", "kind": "Pod", "name": pod["metadata"]["name"], "uid": uid}
        body["metadata"] = {**body["metadata"], "namespace": namespace, "ownerReferences": [owner]}
        name = body["metadata"]["name"]
        try:
            await self._client.create(RESOURCE_CLAIM_TEMPLATES, body, namespace=namespace)
        except ConflictError:
            found = await self._client.get(RESOURCE_CLAIM_TEMPLATES, name, namespace=namespace)
            owners = found["metadata"].get("ownerReferences") or []
            if uid not in [one.get("uid") for one in owners]:
                raise TemplateNameTakenError(
                    f"ResourceClaimTemplate {name} is there, and was not made for this pod.",
                    field="spec.resourceClaims",
                    remedy="Delete it, or make the pod anew: it gets another name then.",
                ) from None
            return
        _log.info("template made", template=name, namespace=namespace, pod=pod["metadata"]["name"])

    def _with_amounts(self, template: JSON) -> JSON:
        # The webhook would do it too, but may be away just now, and then the amounts could be lost for good.
        kept = self._amounts_kept() is True
        inner = template["spec"]
        devices = inner["spec"]["devices"]
        entries, stamp = carry_over(devices, is_ours=self._is_ours, kept=kept)
        metadata = inner.get("metadata") or {}
        stamped = {**metadata, "annotations": {**(metadata.get("annotations") or {}), STAMP: stamp}}
        config = [*(devices.get("config") or []), *entries]
        changed = {**devices, **({"config": config} if config else {})}
        if devices.get("constraints") and not kept:
            changed["constraints"] = other_constraints(devices)
        return {
            **template,
            "spec": {**inner, "metadata": stamped, "spec": {**inner["spec"], "devices": changed}},
        }
