//go:build !kubernetes137

package main

import "k8s.io/dynamic-resource-allocation/structured"

func featuresOf(present map[string]bool) structured.Features {
	return structured.Features{
		AdminAccess:            present["adminAccess"],
		ConsumableCapacity:     present["consumableCapacity"],
		DeviceBindingAndStatus: present["deviceBindingAndStatus"],
		DeviceTaints:           present["deviceTaints"],
		ListTypeAttributes:     present["listTypeAttributes"],
		PartitionableDevices:   present["partitionableDevices"],
		PrioritizedList:        present["prioritizedList"],
	}
}
