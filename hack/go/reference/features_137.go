//go:build kubernetes137

package main

import "k8s.io/dynamic-resource-allocation/structured"

// FractionalCapacityRange is on by default in 1.37 wherever ConsumableCapacity is.
func featuresOf(present map[string]bool) structured.Features {
	return structured.Features{
		AdminAccess:             present["adminAccess"],
		ConsumableCapacity:      present["consumableCapacity"],
		DeviceBindingAndStatus:  present["deviceBindingAndStatus"],
		DeviceTaints:            present["deviceTaints"],
		FractionalCapacityRange: present["consumableCapacity"],
		ListTypeAttributes:      present["listTypeAttributes"],
		PartitionableDevices:    present["partitionableDevices"],
		PrioritizedList:         present["prioritizedList"],
	}
}
