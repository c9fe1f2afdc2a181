"""The kinds that Dragoman reads or writes, and their paths on the API server."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Resource:
    """A kind of the API.

    Attributes:
        group: API group; "" for the core group.
        version: API version.
        plural: Name in paths.
        kind: Kind in manifests.
        namespaced: Whether objects live in namespaces.
    """

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool

    @property
    def api_version(self) -> str:
        """`group/version`, or `version` for the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, *, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The URL path of the collection, an object, or one of its subresources."""
        parts = [f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"]
        if namespace:
            parts.append(f"namespaces/{namespace}")
        parts.append(self.plural)
        parts += [part for part in (name, subresource) if part]
        return "/".join(parts)


_RESOURCE = "resource.k8s.io"
_OURS = "dragoman.dev"

RESOURCE_CLAIMS = Resource(
    group=_RESOURCE, version="v1", plural="resourceclaims", kind="ResourceClaim", namespaced=True
)
RESOURCE_CLAIM_TEMPLATES = Resource(
    group=_RESOURCE,
    version="v1",
    plural="resourceclaimtemplates",
    kind="ResourceClaimTemplate",
    namespaced=True,
)
RESOURCE_SLICES = Resource(
    group=_RESOURCE, version="v1", plural="resourceslices", kind="ResourceSlice", namespaced=False
)
DEVICE_CLASSES = Resource(
    group=_RESOURCE, version="v1", plural="deviceclasses", kind="DeviceClass", namespaced=False
)
ACCELERATOR_NODES = Resource(
    group=_OURS, version="v1alpha1", plural="acceleratornodes", kind="AcceleratorNode", namespaced=False
)
ACCELERATOR_POLICIES = Resource(
    group=_OURS, version="v1alpha1", plural="acceleratorpolicies", kind="AcceleratorPolicy", namespaced=False
)
ACCELERATOR_QUOTAS = Resource(
    group=_OURS, version="v1alpha1", plural="acceleratorquotas", kind="AcceleratorQuota", namespaced=True
)
RESOURCE_QUOTAS = Resource(
    group="", version="v1", plural="resourcequotas", kind="ResourceQuota", namespaced=True
)
PODS = Resource(group="", version="v1", plural="pods", kind="Pod", namespaced=True)
NODES = Resource(group="", version="v1", plural="nodes", kind="Node", namespaced=False)
ENDPOINT_SLICES = Resource(
    group="discovery.k8s.io", version="v1", plural="endpointslices", kind="EndpointSlice", namespaced=True
)
EVENTS = Resource(group="events.k8s.io", version="v1", plural="events", kind="Event", namespaced=True)
LEASES = Resource(group="coordination.k8s.io", version="v1", plural="leases", kind="Lease", namespaced=True)
SECRETS = Resource(group="", version="v1", plural="secrets", kind="Secret", namespaced=True)
VALIDATING_WEBHOOKS = Resource(
    group="admissionregistration.k8s.io",
    version="v1",
    plural="validatingwebhookconfigurations",
    kind="ValidatingWebhookConfiguration",
    namespaced=False,
)
MUTATING_WEBHOOKS = Resource(
    group="admissionregistration.k8s.io",
    version="v1",
    plural="mutatingwebhookconfigurations",
    kind="MutatingWebhookConfiguration",
    namespaced=False,
)
