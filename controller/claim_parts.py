"""What the parts of the controller in mode native keep of a ResourceClaim, for one informer.

Limits: one watch and one store for both readers; each sees its part alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from controller.explaining.views import ClaimView, claim_view
from controller.publishing.unnumbered import Held, unnumbered_view
from driver.kube.client import JSON


@dataclass(frozen=True, slots=True)
class ClaimParts:
    """A ResourceClaim.

    Attributes:
        explained: What explaining needs of it.
        unnumbered: What publishing needs: cards that it holds without a shareID.
    """

    explained: ClaimView | None
    unnumbered: Held | None

    @classmethod
    def of(cls, *, explain: bool) -> Callable[[JSON], ClaimParts | None]:
        """A projection; with or without the part that explaining needs."""

        def project(document: JSON) -> ClaimParts | None:
            explained = claim_view(document) if explain else None
            unnumbered = unnumbered_view(document)
            return cls(explained, unnumbered) if explained or unnumbered else None

        return project
