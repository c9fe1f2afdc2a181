"""What the parts of the controller keep of a DeviceClass, for one informer.

Limits: there are few classes, so all parts are made whether somebody follows them or not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from controller.admission.cluster import class_document
from controller.allocating.views import ClassView as Allocatable
from controller.allocating.views import class_view as allocatable
from controller.explaining.views import ClassView as Explained
from controller.explaining.views import class_view as explained
from driver.kube.client import JSON


@dataclass(frozen=True, slots=True)
class ClassParts:
    """A DeviceClass.

    Attributes:
        explained: What explaining needs of it.
        allocatable: What allocating needs.
        document: What admission and quotas need: all that it says, and nothing about who wrote it.
    """

    explained: Explained
    allocatable: Allocatable
    document: JSON

    @classmethod
    def of(cls, *, ours: Callable[[JSON], bool]) -> Callable[[JSON], ClassParts]:
        """A projection.

        Args:
            ours: Whether a DeviceClass picks only devices of our driver.
        """

        def project(document: JSON) -> ClassParts:
            return cls(
                explained(document), allocatable(document, ours=ours(document)), class_document(document)
            )

        return project
