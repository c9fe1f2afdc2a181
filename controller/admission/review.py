"""Answers AdmissionReviews.

Purpose: everything of ours that happens to an object before it is stored, in one order: pods are converted,
claims and templates are stamped (the two of the mutating webhook); then all kinds are validated, and claims
are held against quotas (the two of the validating webhook).

Flow: `answer` takes a decoded review and gives the decoded answer. It is asked for one of two paths, as the
API server's two webhook configurations are.

Limits: what anybody's object can make long is done by `Knowledge.beside`, and refused where its namespace has
too much of it; objects that are stored while nobody answers are then stored unlooked at. Nothing is made or
changed on the way but reservations of quotas, and none of those for a dry run: the claim templates of
converted pods are made by the leader once the pod is stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from enum import StrEnum
from functools import partial
from typing import Any

from controller.admission.classes import carried_over
from controller.admission.knowledge import Converted, Findings, Knowledge
from controller.admission.request import FORBIDDEN, TOO_MANY, Reply, Request, read, written
from controller.admission.stamping import CLAIM, CLASS, TEMPLATE, additions
from controller.by_turns import NamespaceBusyError
from driver.errors import DragomanError
from driver.kube.client import JSON
from driver.validation.errors import AmountTooLargeError


class Webhook(StrEnum):
    """The webhooks, by the last part of their path."""

    POD = "pods"
    MUTATING = "claims"
    VALIDATING = "validate"


async def answer(review: Mapping[str, Any], known: Knowledge, *, webhook: Webhook) -> JSON:
    """Answers an AdmissionReview (admission.k8s.io/v1).

    Raises:
        ValueError: It is none.
    """
    request = read(review)
    reply = Reply()
    await decide(request, known, webhook=webhook, reply=reply)
    return written(request, reply)


async def decide(request: Request, known: Knowledge, *, webhook: Webhook, reply: Reply) -> None:
    """Fills the reply to a request.

    Raises:
        ValueError: The object has a shape that no API server would send.
    """
    if request.subresource:
        # The chart's rules name none: what is written into a status or a scale is not what was asked for.
        return
    try:
        if webhook is Webhook.VALIDATING:
            await _validate(request, known, reply)
        else:
            await _mutate(request, known, reply)
    except NamespaceBusyError as busy:
        reply.refuse(busy, code=TOO_MANY)
    except DragomanError as refused:
        reply.refuse(refused)
    except (AttributeError, TypeError) as odd:
        # The API server sends no such object, but it is not the only one that can send.
        raise ValueError("Its object is not what the API server would store.") from odd


async def _mutate(request: Request, known: Knowledge, reply: Reply) -> None:
    if request.kind == CLASS and request.operation in ("CREATE", "UPDATE") and request.object is not None:
        carries = known.stamps and known.class_is_ours(request.object)
        reply.patch += carried_over(request.object, old=request.old, carries=carries)
        return
    if request.operation != "CREATE" or request.object is None:
        return
    if request.kind in (CLAIM, TEMPLATE):
        if known.validate is not None and known.amounts_kept() is not True:
            # The validating webhook will see it without the amounts that its author wrote, and could only
            # name the place to which they were carried over.
            findings = await _looked_at(request, known, request.object)
            if findings is not None and findings.errors:
                reply.refuse(*findings.errors)
                return
        reply.patch += additions(request.kind, request.object, known)
    elif request.kind == "Pod" and known.convert is not None and not known.opted_out(request.namespace):
        converted = known.convert(request.object, identity=request.uid)
        if converted is not None:
            reply.patch += converted.patch
            reply.warnings += converted.warnings
            await _look_over(converted, known, reply, namespace=request.namespace)
            specs = [(one.get("spec") or {}).get("spec") or {} for one in converted.templates]
            reply.warnings += await known.advise(request.namespace, specs)


async def _look_over(converted: Converted, known: Knowledge, reply: Reply, *, namespace: str) -> None:
    # The template is made after the pod: what cannot work in it would be an Event on a pod that waits.
    validate = known.validate
    if validate is None:
        return
    for template in converted.templates:
        findings = await known.beside.run(namespace, partial(validate, TEMPLATE, template))
        reply.warnings += [converted.told_of_the_pod(one) for one in findings.warnings]
        for error in findings.errors:
            told = copy(error)
            told.field = converted.in_the_pod(error.field)
            if isinstance(error, AmountTooLargeError) and error.field.endswith(".memory"):
                # Who wrote `gpumem: 100000` must not write `40Gi` there.
                told.remedy = "Ask for at most that, in the unit of the resource; several cards are a count."
            reply.refuse(told)


async def _looked_at(request: Request, known: Knowledge, found: Mapping[str, Any]) -> Findings | None:
    """What is wrong with an object; None if nobody can say now and it may be stored all the same.

    Raises:
        NamespaceBusyError: Nobody can say now, and what is wrong with a claim is not found out later.
    """
    validate = known.validate
    if validate is None:
        return None
    try:
        # Of what cannot change while it is looked at.
        return await known.beside.run(
            request.namespace, partial(validate, request.kind, found, old=request.old)
        )
    except NamespaceBusyError:
        if request.kind == CLAIM:
            raise
        return None


async def _validate(request: Request, known: Knowledge, reply: Reply) -> None:
    found = request.object
    if request.operation not in ("CREATE", "UPDATE") or found is None:
        return
    if known.validate is not None:
        findings = await _looked_at(request, known, found)
        if findings is None:
            reply.warnings.append("This was not looked at: more of this namespace came at once than can be.")
        else:
            reply.warnings += findings.warnings
            if findings.errors:
                reply.refuse(*findings.errors)
                return
    if request.operation != "CREATE":
        return
    if request.kind == TEMPLATE:
        # Its claims are held against quotas when they are made; whoever writes it shall know before.
        spec = (found.get("spec") or {}).get("spec") or {}
        reply.warnings += await known.advise(request.namespace, [spec])
    if known.quotas is None or request.kind != CLAIM:
        return
    metadata = found.get("metadata") or {}
    try:
        await known.quotas.reserve(
            namespace=request.namespace or str(metadata.get("namespace") or ""),
            uid=str(metadata.get("uid") or request.uid),
            name=str(metadata.get("name") or request.name),
            claim=found,
            dry_run=request.dry_run,
            request=request.uid,
        )
    except NamespaceBusyError:
        raise
    except DragomanError as refused:
        reply.refuse(refused, code=FORBIDDEN)
