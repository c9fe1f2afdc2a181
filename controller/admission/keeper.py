"""Keeps the webhook's certificates in a Secret, and tells the API server whom to trust.

Flow: every replica looks at the Secret now and then; whoever finds it missing or old writes it, and who loses
that race takes what the other wrote. The leader writes the authorities into the `caBundle` of the webhook
configurations, and nothing else of them.

Limits: where `own` is off (cert-manager or an admin brings the Secret) it is read and never written, and
`caBundle` is left to whoever brings it.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog

from controller.admission.certificates import Bundle, renewed
from driver.kube.client import JSON, JSON_PATCH, ConflictError, KubeClient, NotFoundError
from driver.kube.resources import MUTATING_WEBHOOKS, SECRETS, VALIDATING_WEBHOOKS, Resource

_FIELDS = {"authorities": "ca.crt", "authority_key": "ca.key", "certificate": "tls.crt", "key": "tls.key"}

_log = structlog.get_logger("admission")


@dataclass(frozen=True, kw_only=True)
class KeeperSettings:
    """Names.

    Attributes:
        namespace: Namespace of Secret and service.
        secret: Name of the Secret.
        service: Name of the service in front of all replicas.
        configuration: Name of the webhook configurations, of both kinds; what is not there is passed over.
        own: Whether certificates are made here.
    """

    namespace: str
    secret: str
    service: str
    configuration: str
    own: bool = True

    @property
    def names(self) -> tuple[str, ...]:
        """DNS names that the API server may use."""
        return (f"{self.service}.{self.namespace}.svc", f"{self.service}.{self.namespace}.svc.cluster.local")


class Keeper:
    """Certificates, kept.

    Attributes:
        certificate: File of the servers' certificate, once there is one.
        key: File of its key, readable by this process alone.
        ready: Whether there is a certificate.
        trusted: Whether the API server was seen to be told to trust it; where that is left to somebody else,
            as soon as there is a certificate.
    """

    def __init__(
        self,
        client: KubeClient,
        settings: KeeperSettings,
        *,
        folder: Path,
        held: Callable[[], bool],
        wall_clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Prepares a keeper; `look` does the work.

        Args:
            client: The API server.
            settings: Names.
            folder: Where the files are put, because servers read certificates from files only.
            held: Whether this replica leads at this moment.
            wall_clock: The time.
        """
        self.certificate = folder / "tls.crt"
        self.key = folder / "tls.key"
        self.ready = False
        self.trusted = False
        self._client = client
        self._settings = settings
        self._held = held
        self._wall_clock = wall_clock
        self._loaded: Bundle | None = None

    async def look(self) -> None:
        """Looks at the Secret once, and does what is to be done.

        Raises:
            ApiError: The API server refused, or gave no answer.
        """
        bundle = await self._stored_or_made()
        if bundle is None:
            return
        if bundle != self._loaded:
            self._load(bundle)
        if not self._settings.own:
            self.trusted = True
            return
        # Who does not lead looks all the same: until the API server trusts us, no object gets past a webhook
        # whose failures refuse it, and whoever waits for a rollout must not be told that all is well.
        if self._held() or not self.trusted:
            wanted = base64.b64encode(bundle.authorities).decode()
            found = [await self._trust(kind, wanted) for kind in (MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS)]
            self.trusted = self.trusted or all(found)

    async def _stored_or_made(self) -> Bundle | None:
        settings = self._settings
        try:
            secret: JSON | None = await self._client.get(
                SECRETS, settings.secret, namespace=settings.namespace
            )
        except NotFoundError:
            secret = None
        stored = _bundle(secret) if secret is not None else None
        if not settings.own:
            return stored
        wanted = renewed(stored, names=settings.names, now=self._wall_clock())
        if wanted is stored:
            return stored
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": settings.secret, "namespace": settings.namespace},
            "type": "Opaque",
            "data": {
                name: base64.b64encode(getattr(wanted, field)).decode() for field, name in _FIELDS.items()
            },
        }
        try:
            if secret is None:
                await self._client.create(SECRETS, body, namespace=settings.namespace)
            else:
                made = {**secret, "data": body["data"]}
                await self._client.replace(SECRETS, made, name=settings.secret, namespace=settings.namespace)
        except ConflictError:
            # Another replica was quicker; what it wrote is read in the next round.
            return stored
        _log.info("certificates made", secret=settings.secret)
        return wanted

    def _load(self, bundle: Bundle) -> None:
        for path, content in ((self.key, bundle.key), (self.certificate, bundle.certificate)):
            made = path.with_suffix(".new")
            with os.fdopen(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(content)
            made.replace(path)
        self._loaded = bundle
        self.ready = True

    async def _trust(self, kind: Resource, wanted: str) -> bool:
        name = self._settings.configuration
        try:
            found = await self._client.get(kind, name)
        except NotFoundError:
            return True
        patch: list[JSON] = [
            {"op": "add", "path": f"/webhooks/{index}/clientConfig/caBundle", "value": wanted}
            for index, one in enumerate(found.get("webhooks") or [])
            if (one.get("clientConfig") or {}).get("caBundle") != wanted
        ]
        if not patch:
            return True
        if not self._held():
            return False
        version = found["metadata"]["resourceVersion"]
        guard = {"op": "test", "path": "/metadata/resourceVersion", "value": version}
        await self._client.patch(kind, [guard, *patch], name=name, content_type=JSON_PATCH)
        _log.info("webhooks trust our authority", kind=kind.kind, configuration=name)
        return True


def _bundle(secret: JSON) -> Bundle | None:
    data = secret.get("data") or {}
    try:
        return Bundle(
            **{
                field: base64.b64decode(data.get(name) or "", validate=True)
                for field, name in _FIELDS.items()
            }
        )
    except (binascii.Error, TypeError, ValueError):
        return None
