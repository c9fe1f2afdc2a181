"""What the agent keeps of the partitions that it made: the durable notes of `driver.isolation.hardware`."""

from kubelet_plugin.partitions.notes import FileNotes
from kubelet_plugin.partitions.parts import make_hardware

__all__ = ["FileNotes", "make_hardware"]
