package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	v1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/dynamic-resource-allocation/cel"
	"k8s.io/dynamic-resource-allocation/structured"
)

const (
	scaleDriver  = "dragoman.dev"
	scaleClass   = "accelerator.dragoman.dev"
	cardsOfNode  = 8
	nodesOfModel = 20
)

var models = []struct{ vendor, model, architecture, version, memory string }{
	{"nvidia", "A100-SXM4-80GB", "Ampere", "550.54.15", "80Gi"},
	{"ascend", "910B4", "DaVinci", "24.1.0", "32Gi"},
	{"nvidia", "H100-SXM5-80GB", "Hopper", "570.86.10", "80Gi"},
	{"amd", "MI300X", "CDNA3", "6.10.5", "192Gi"},
}

type scaleAnswer struct {
	Held   string `json:"held"`
	Mode   string `json:"mode"`
	Claims int    `json:"claims"`
	Nodes  int    `json:"nodes"`
	Placed int    `json:"placed"`
	// Tried is how many nodes were asked about, over all claims.
	Tried int `json:"tried"`
	// Milliseconds for each claim: by the clock, by the processor, and of the clock's the parts.
	Wall         []float64 `json:"wall_ms"`
	Processor    []float64 `json:"cpu_ms"`
	Copying      float64   `json:"copy_ms"`
	NewAllocator float64   `json:"new_allocator_ms"`
	Allocating   float64   `json:"allocate_ms"`
	RSS          float64   `json:"rss_mib"`
}

// timeScale places claims one after the other on a cluster that is made from parameters, as the
// scheduler does: for each claim a copy of what is held, a new allocator, and a question for each node.
func timeScale(arguments []string, out *bufio.Writer) error {
	flags := flag.NewFlagSet("scale", flag.ContinueOnError)
	nodes := flags.Int("nodes", 5000, "nodes of 8 cards")
	state := flags.String("held", "empty", "empty, full95 or full100")
	mode := flags.String("mode", "first", "first, 500 or all: so many nodes that fit are asked for")
	claims := flags.Int("claims", 1, "claims, one after the other")
	if err := parse(flags, arguments); err != nil {
		return err
	}
	most, known := map[string]int{"first": 1, "500": 500, "all": *nodes}[*mode]
	if !known {
		return fmt.Errorf("unknown mode %q", *mode)
	}
	cluster, err := newScaleCluster(*nodes, *state)
	if err != nil {
		return err
	}
	answer := scaleAnswer{Held: *state, Mode: *mode, Claims: *claims, Nodes: *nodes}
	for n := range *claims {
		if err := cluster.place(n, most, &answer); err != nil {
			return err
		}
	}
	answer.RSS = rss()
	return writeLine(out, answer)
}

type scaleCluster struct {
	nodes    []*v1.Node
	slices   []*resourceapi.ResourceSlice
	classes  classes
	held     structured.AllocatedState
	features structured.Features
	cache    *cel.Cache
}

func newScaleCluster(nodes int, state string) (*scaleCluster, error) {
	features := featuresOf(map[string]bool{
		"adminAccess": true, "consumableCapacity": true, "deviceBindingAndStatus": true,
		"deviceTaints": true, "partitionableDevices": true, "prioritizedList": true,
	})
	cluster := &scaleCluster{
		held:     held{}.state(true),
		features: features,
		cache:    cel.NewCache(10, cel.Features{EnableConsumableCapacity: true}),
		classes: classes{{
			ObjectMeta: metav1.ObjectMeta{Name: scaleClass},
			Spec:       resourceapi.DeviceClassSpec{Selectors: selector(`device.driver == "dragoman.dev"`)},
		}},
	}
	for i := range nodes {
		slice := scaleSlice(i)
		cluster.slices = append(cluster.slices, slice)
		cluster.nodes = append(cluster.nodes, &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: slice.Spec.Pool.Name}})
		full := state == "full100" || state == "full95" && i%nodesOfModel != nodesOfModel-1
		for k := 0; full && k < cardsOfNode; k++ {
			device := slice.Spec.Devices[k]
			cluster.hold(slice.Spec.Pool.Name, device.Name, fmt.Sprintf("held-%05d-%d", i, k),
				map[resourceapi.QualifiedName]resource.Quantity{
					"memory": device.Capacity["memory"].Value,
					"cores":  device.Capacity["cores"].Value,
				})
		}
	}
	if state != "empty" && state != "full95" && state != "full100" {
		return nil, fmt.Errorf("unknown state %q", state)
	}
	return cluster, nil
}

func scaleSlice(i int) *resourceapi.ResourceSlice {
	name := fmt.Sprintf("node-%05d", i)
	model := models[i/nodesOfModel%len(models)]
	memory := resource.MustParse(model.memory)
	slice := &resourceapi.ResourceSlice{
		ObjectMeta: metav1.ObjectMeta{Name: name + "-" + scaleDriver},
		Spec: resourceapi.ResourceSliceSpec{
			Driver:   scaleDriver,
			NodeName: &name,
			Pool:     resourceapi.ResourcePool{Name: name, Generation: 1, ResourceSliceCount: 1},
		},
	}
	for k := range cardsOfNode {
		slice.Spec.Devices = append(slice.Spec.Devices, resourceapi.Device{
			Name:                     fmt.Sprintf("card-%d", k),
			AllowMultipleAllocations: to(true),
			Attributes: map[resourceapi.QualifiedName]resourceapi.DeviceAttribute{
				"vendor":                          {StringValue: to(model.vendor)},
				"model":                           {StringValue: to(model.model)},
				"architecture":                    {StringValue: to(model.architecture)},
				"driverVersion":                   {VersionValue: to(model.version)},
				"uuid":                            {StringValue: to(fmt.Sprintf("%s-%05d-%d", model.vendor, i, k))},
				"isolation":                       {StringValue: to("preload")},
				"resource.kubernetes.io/numaNode": {IntValue: to(int64(k / 4))},
				"resource.kubernetes.io/pcieRoot": {StringValue: to(fmt.Sprintf("pci0000:%02x", k/2*16))},
				"resource.kubernetes.io/pciBusID": {StringValue: to(fmt.Sprintf("0000:%02x:00.0", 8*k+1))},
			},
			Capacity: map[resourceapi.QualifiedName]resourceapi.DeviceCapacity{
				"memory": {Value: memory, RequestPolicy: &resourceapi.CapacityRequestPolicy{
					Default:    &memory,
					ValidRange: &resourceapi.CapacityRequestPolicyRange{Min: quantity("1Mi"), Step: quantity("1Mi")},
				}},
				"cores": {Value: *quantity("100"), RequestPolicy: &resourceapi.CapacityRequestPolicy{
					Default: quantity("0"),
					ValidRange: &resourceapi.CapacityRequestPolicyRange{
						Min: quantity("0"), Max: quantity("100"), Step: quantity("1"),
					},
				}},
			},
		})
	}
	return slice
}

func scaleClaim(n int) *resourceapi.ResourceClaim {
	name := fmt.Sprintf("claim-%d", n)
	return &resourceapi.ResourceClaim{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", UID: types.UID("uid-" + name)},
		Spec: resourceapi.ResourceClaimSpec{Devices: resourceapi.DeviceClaim{Requests: []resourceapi.DeviceRequest{{
			Name: "card",
			Exactly: &resourceapi.ExactDeviceRequest{
				DeviceClassName: scaleClass,
				AllocationMode:  resourceapi.DeviceAllocationModeExactCount,
				Count:           1,
				Selectors: selector(`device.attributes["dragoman.dev"].vendor == "nvidia" && ` +
					`device.capacity["dragoman.dev"].memory.compareTo(quantity("40Gi")) >= 0`),
				Capacity: &resourceapi.CapacityRequirements{Requests: map[resourceapi.QualifiedName]resource.Quantity{
					"memory": *quantity("10Gi"), "cores": *quantity("30"),
				}},
			},
		}}}},
	}
}

func (c *scaleCluster) place(n, most int, answer *scaleAnswer) error {
	ctx := context.Background()
	claims := []*resourceapi.ResourceClaim{scaleClaim(n)}
	began, processor := time.Now(), processorTime()
	state := structured.AllocatedState{
		AllocatedDevices:         c.held.AllocatedDevices.Clone(),
		AllocatedSharedDeviceIDs: c.held.AllocatedSharedDeviceIDs.Clone(),
		AggregatedCapacity:       c.held.AggregatedCapacity.Clone(),
	}
	copied := time.Now()
	allocator, err := structured.NewAllocator(ctx, c.features, state, c.classes, c.slices, c.cache)
	if err != nil {
		return err
	}
	made := time.Now()
	var first []resourceapi.AllocationResult
	fitting := 0
	for _, node := range c.nodes {
		answer.Tried++
		results, err := allocator.Allocate(ctx, node, claims)
		if err != nil {
			return err
		}
		if results == nil {
			continue
		}
		if first == nil {
			first = results
		}
		if fitting++; fitting == most {
			break
		}
	}
	done := time.Now()
	answer.Copying += milliseconds(copied.Sub(began))
	answer.NewAllocator += milliseconds(made.Sub(copied))
	answer.Allocating += milliseconds(done.Sub(made))
	answer.Wall = append(answer.Wall, milliseconds(done.Sub(began)))
	answer.Processor = append(answer.Processor, milliseconds(processorTime()-processor))
	if first != nil {
		answer.Placed++
		for _, result := range first[0].Devices.Results {
			c.hold(result.Pool, result.Device, string(*result.ShareID), result.ConsumedCapacity)
		}
	}
	return nil
}

func (c *scaleCluster) hold(pool, device, share string, amounts map[resourceapi.QualifiedName]resource.Quantity) {
	id := structured.MakeDeviceID(scaleDriver, pool, device)
	c.held.AllocatedSharedDeviceIDs.Insert(structured.MakeSharedDeviceID(id, to(types.UID(share))))
	c.held.AggregatedCapacity.Insert(structured.NewDeviceConsumedCapacity(id, amounts))
}

func selector(expression string) []resourceapi.DeviceSelector {
	return []resourceapi.DeviceSelector{{CEL: &resourceapi.CELDeviceSelector{Expression: expression}}}
}

func quantity(text string) *resource.Quantity { return to(resource.MustParse(text)) }

func to[T any](value T) *T { return &value }

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func processorTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func rss() float64 {
	content, _ := os.ReadFile("/proc/self/status")
	for _, line := range strings.Split(string(content), "\n") {
		var kib float64
		if n, _ := fmt.Sscanf(line, "VmRSS: %f kB", &kib); n == 1 {
			return kib / 1024
		}
	}
	return 0
}
