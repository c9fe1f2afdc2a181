"""Container Device Interface: what a container gets, as data, and the spec files that say so.

Purpose: `ContainerEdits` is the language in which vendors and isolation methods say what a container needs;
`driver.cdi.spec` turns edits into a CDI spec document of the lowest version that has its features.

Limits: nothing here writes files; the agent does.
"""

from driver.cdi.edits import ContainerEdits, DeviceNode, Hook, Mount

__all__ = ["ContainerEdits", "DeviceNode", "Hook", "Mount"]
