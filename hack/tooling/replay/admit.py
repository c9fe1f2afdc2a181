"""AdmissionReviews, answered by the code of the webhooks: `hack/replay admit`.

Purpose: what would happen to an object in a cluster, without one. A pod, a claim or a policy in an
AdmissionReview goes in, the answer of the webhooks comes out.

Flow: a line -> `controller.admission.review.decide` as the mutating webhook is asked, then, of the object as
it is after the patch, as the validating one is; both make one answer. For a pod the claim templates follow
that the controller makes once the pod is stored.

Limits: one request after the other. Objects other than claims are not remembered: a policy that is admitted
does not hold for the next line. What the API server itself checks (schemas, names, who may do what) is not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import jsonpatch

from controller.admission.cluster import Cluster, class_document
from controller.admission.knowledge import Converted, Findings, Knowledge
from controller.admission.request import Reply, Request, encoded, read, written
from controller.admission.review import Webhook, decide
from controller.admission.stamping import TEMPLATE, additions
from controller.explaining.classes import is_ours, is_standard_name
from driver.api.node import AgentStatus, status_of
from driver.api.policy import NamedPolicy, effective_policy
from driver.cards import Card
from driver.conversion import CONVERTED_LABEL, convert, opted_out, templates_of
from driver.errors import DragomanError
from driver.slices import canonical
from driver.validation.validate import validate
from tooling.replay.admit_kept import Kept
from tooling.replay.admit_quotas import ReplayQuotas
from tooling.replay.admit_scene import Scene, read_scene
from tooling.replay.admit_settings import RELEASES, ReplaySettings
from tooling.replay.admit_versions import as_v1

JSON = dict[str, Any]

MOST_BYTES = 16 << 20
"""A longer line is no request: API servers take objects of at most 3 MiB, and a review holds two of them."""
_MALFORMED = 400
_SECONDS = 10.0
"""For the selectors of one object: what is answered shall not depend on how busy a machine is."""
_NAMESPACED = ("Pod", "ResourceClaim", "ResourceClaimTemplate", "AcceleratorQuota")

EPILOG = """\
AdmissionReviews (admission.k8s.io/v1) come on standard input, one JSON document
a line; one answer a line goes out, in order. After the answer about a Pod,
{"templates": [...]} follows in the same line: the ResourceClaimTemplates that
the controller makes once the pod is stored, but for their owner.

FILE holds manifests of the cluster: AcceleratorNodes (or ResourceSlices),
DeviceClasses, AcceleratorPolicies, AcceleratorQuotas, ResourceQuotas,
Namespaces, ResourceClaims that exist; as YAML or JSON, in lists or one after
the other. Where FILE has cards, DeviceClasses of the chart that it leaves out
are there as well. Policies hold for cards of ResourceSlices too, by the labels
of Nodes in FILE, but for the memory that they reserve, which slices already
leave out. Objects of other kinds are passed over, and named on standard
error. A quota whose status
says what is used is taken at its word; for any other the claims of the file are
counted. Claims that are admitted count for the lines after them, dry runs do
not. The controller's settings can be in FILE too:

  apiVersion: dragoman.dev/v1alpha1
  kind: ReplaySettings
  spec:
    release: "1.34"                  # or --release
    mode: controller                 # or --mode; what the release suggests if left out
    amountsKept: false               # whether the API server keeps capacity requests; by release
    cardsMayCome: false              # larger cards may come: what no card can give is a warning
    excludedNamespaces: [kube-system]
    conversion: {defaultMemoryMib: 0}  # as the chart's controller.conversion; null: pods stay as they are

  hack/replay admit --cluster cluster.yaml --release 1.34 < reviews.jsonl

exit status: 0; 2 where a line was no AdmissionReview (its answer says so and
the replay went on), or FILE could not be read; 1 where a line met an error of
ours.
"""


@dataclass(frozen=True, kw_only=True)
class _Inventory:
    """An AcceleratorNode, as `controller.admission.cluster` reads it."""

    status: bytes


class Replay:
    """Answers requests, one after the other.

    Attributes:
        knowledge: What the webhooks know of the cluster.
    """

    def __init__(self, scene: Scene, settings: ReplaySettings) -> None:
        """Prepares the webhooks of a cluster."""
        self._scene = scene
        self._settings = settings
        inventories, classes, policies = Kept[_Inventory](), Kept[JSON](), Kept[NamedPolicy]()
        native = settings.mode == "native"
        self._cluster = Cluster(
            inventories=inventories,
            classes=classes,
            policies=policies,
            class_is_ours=_is_ours,
            standard=is_standard_name,
            release=lambda: settings.release,
            amounts_kept=lambda: settings.amounts_kept,
            native=native,
            cards_may_come=settings.cards_may_come,
        )
        for node, cards in scene.cards.items():
            inventories.put(node, _Inventory(status=_status(cards)))
        for name, document in scene.classes.items():
            classes.put(name, class_document(document))
        for name, policy in scene.policies.items():
            policies.put(name, policy)
        self._quotas = ReplayQuotas(
            scene, class_is_ours=_is_ours, carried=not native, conversion=settings.conversion
        )
        self.knowledge = Knowledge(
            is_ours=self._cluster.is_ours,
            amounts_kept=lambda: settings.amounts_kept,
            stamps=not native,
            class_is_ours=_is_ours,
            convert=None if settings.conversion is None else self._convert,
            opted_out=self._opted_out,
            validate=self._validate,
            quotas=self._quotas,
            advise=self._quotas.advise,
        )

    async def answer(self, review: Mapping[str, Any]) -> tuple[JSON, JSON | None]:
        """Answers a review.

        Returns:
            The AdmissionReview of the answer, and for a pod `templates` that the controller would make, with
            `problem` where it could not.

        Raises:
            ValueError: It is none.
        """
        request = _converted(_placed(read(review)))
        reply = Reply()
        await decide(request, self.knowledge, webhook=Webhook.MUTATING, reply=reply)
        stored = request
        if reply.allowed and request.object is not None:
            stored = replace(request, object=jsonpatch.apply_patch(dict(request.object), reply.patch))
            await decide(stored, self.knowledge, webhook=Webhook.VALIDATING, reply=reply)
        if request.kind == "ResourceClaim" and request.operation == "DELETE" and not request.dry_run:
            await self._quotas.released(namespace=request.namespace, name=request.name)
        made = None
        if request.kind == "Pod":
            made = self._made(stored) if reply.allowed else {"templates": []}
        return encoded(written(request, reply)), made

    def _made(self, stored: Request) -> JSON:
        try:
            return {"templates": self._templates(stored)}
        except DragomanError as refused:
            # What somebody wrote into the pod in place of conversion; the controller tells the pod's Events.
            return {"templates": [], "problem": f"{refused.reason}: {refused}"}
        except (AttributeError, TypeError):
            # No pod that an API server would store.
            return {"templates": []}

    def _templates(self, request: Request) -> list[JSON]:
        settings = self._settings.conversion
        pod = request.object
        if settings is None or pod is None or request.operation != "CREATE":
            return []
        metadata = pod.get("metadata") or {}
        if CONVERTED_LABEL not in (metadata.get("labels") or {}):
            return []
        found = []
        stock, class_of = self._cluster.stock, self._cluster.class_of
        for one in templates_of(pod, settings=settings, stock=stock, class_of=class_of):
            # The controller adds what the webhook would add.
            made = jsonpatch.apply_patch(one, additions(TEMPLATE, one, replace(self.knowledge, stamps=True)))
            found.append({**made, "metadata": {**made["metadata"], "namespace": request.namespace}})
        return found

    def _convert(self, pod: Mapping[str, Any], *, identity: str) -> Converted | None:
        settings = self._settings.conversion
        if settings is None:
            return None
        return convert(
            pod,
            identity=identity,
            settings=settings,
            stock=self._cluster.stock,
            classes=self._cluster.extended,
            class_of=self._cluster.served,
        )

    def _opted_out(self, namespace: str) -> bool:
        """What the API server knows of a namespace when it decides whether to ask the webhook."""
        excluded = namespace in self._settings.excluded_namespaces
        return excluded or opted_out(self._scene.namespaces.get(namespace))

    def _validate(
        self, kind: str, found: Mapping[str, Any], *, old: Mapping[str, Any] | None = None
    ) -> Findings:
        facts = replace(self._cluster.facts(), seconds=_SECONDS)
        return validate(kind, found, old=old, facts=facts)


async def replay(source: IO[bytes], replayed: Replay, *, one_document: bool) -> int:
    """Answers the lines of a stream on standard output.

    Args:
        source: The lines.
        replayed: Who answers.
        one_document: Whether templates stand in the answer itself.

    Returns:
        The exit status.
    """
    malformed = failures = 0
    for number, line in _lines(source):
        made: JSON | None = None
        try:
            review = _parsed(line)
            found, made = await replayed.answer(review)
        except (ValueError, RecursionError) as odd:
            malformed += 1
            told = f"Line {number} is no AdmissionReview that an API server sends: {_sentence(odd)}"
            found = _refused(line, told)
        except Exception as failed:  # noqa: BLE001 - an error of ours is an answer to be seen, not an end
            failures += 1
            print(f"line {number}: internal error: {failed!r}", file=sys.stderr)
            found = _refused(line, f"Line {number} cannot be answered: {failed!r}", code=500)
        documents = [found] if made is None else [{**found, **made}] if one_document else [found, made]
        print(*map(_text, documents), flush=True)
    return 1 if failures else 2 if malformed else 0


def main(argv: Sequence[str]) -> int:
    """The command `admit`; returns the exit status.

    Raises:
        ReplayError: The cluster cannot be read.
    """
    options = _parser().parse_args(argv)
    scene = read_scene(options.cluster)
    for one in scene.passed_over:
        print(f"hack/replay: {one}", file=sys.stderr)
    settings = (scene.settings or ReplaySettings()).complete(release=options.release, mode=options.mode)
    replayed = Replay(scene, settings)
    return asyncio.run(replay(sys.stdin.buffer, replayed, one_document=options.one_document))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hack/replay admit",
        description="Answers AdmissionReviews by the code of the webhooks, for a cluster of manifests.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--cluster",
        metavar="FILE",
        type=Path,
        action="append",
        default=[],
        help="manifests of the cluster; may be given several times; without it there is nothing in it",
    )
    parser.add_argument(
        "--release", choices=RELEASES, default="", help="Kubernetes release of the API server (default: 1.36)"
    )
    parser.add_argument(
        "--mode",
        choices=("native", "controller"),
        default="",
        help="who allocates (default: kube-scheduler from 1.36 on, our controller before)",
    )
    parser.add_argument(
        "--one-document",
        action="store_true",
        help='templates of pods stand in the answer itself, under the key "templates"',
    )
    return parser


def _placed(request: Request) -> Request:
    """The request with its namespace, which API servers always send and people leave out."""
    if request.namespace or request.kind not in _NAMESPACED:
        return request
    metadata = (request.object or request.old or {}).get("metadata")
    found = metadata.get("namespace") if isinstance(metadata, Mapping) else None
    return replace(request, namespace=str(found or "default"))


def _converted(request: Request) -> Request:
    """The request with its objects in the version that API servers send them in."""
    found, old = (None if one is None else as_v1(dict(one)) for one in (request.object, request.old))
    return replace(request, object=found, old=old)


def _lines(source: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Lines with their numbers; of one that is too long only the beginning, the rest is passed over."""
    number = 0
    while line := source.readline(MOST_BYTES + 1):
        number += 1
        rest = line
        while len(rest) > MOST_BYTES and not rest.endswith(b"\n"):
            rest = source.readline(MOST_BYTES + 1)
        if line.strip():
            yield number, line


def _parsed(line: bytes) -> Mapping[str, Any]:
    if len(line) > MOST_BYTES:
        raise ValueError(f"it is longer than {MOST_BYTES >> 20} MiB")
    found = json.loads(line)
    if not isinstance(found, dict):
        raise ValueError("it is no JSON object")  # noqa: TRY004 - a line that cannot be read, like the others
    return found


def _sentence(odd: Exception) -> str:
    said = str(odd).rstrip(".")
    return f"{said[:1].lower()}{said[1:]}."


def _refused(line: bytes, message: str, *, code: int = _MALFORMED) -> JSON:
    """An answer to what cannot be answered, with the request's UID if that much can be read."""
    try:
        uid = str(json.loads(line)["request"]["uid"])
    except (ValueError, KeyError, TypeError, RecursionError):
        uid = ""
    reply = {"uid": uid, "allowed": False, "status": {"code": code, "message": message[:2048]}}
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": reply}


def _is_ours(device_class: Mapping[str, Any]) -> bool:
    return is_ours(dict(device_class))


def _status(cards: Sequence[Card]) -> bytes:
    effective = effective_policy((), node_labels={})
    status = status_of(cards, agent=AgentStatus(version="none"), policy=effective)
    return canonical(status.model_dump(mode="json", by_alias=True))


def _text(document: JSON) -> str:
    return json.dumps(document, ensure_ascii=False)
