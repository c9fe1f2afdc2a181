package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand"
	"reflect"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/dynamic-resource-allocation/cel"
	"k8s.io/dynamic-resource-allocation/structured"
)

type allocationCase struct {
	ID        string                       `json:"id"`
	Features  map[string]bool              `json:"features"`
	Nodes     []node                       `json:"nodes"`
	Slices    []*resourceapi.ResourceSlice `json:"slices"`
	Classes   []*resourceapi.DeviceClass   `json:"classes"`
	Allocated held                         `json:"allocated"`
	Claims    []*resourceapi.ResourceClaim `json:"claims"`
	TryNodes  []string                     `json:"tryNodes"`
}

type node struct {
	Name   string            `json:"name"`
	Labels map[string]string `json:"labels"`
}

type held struct {
	Devices []heldDevice `json:"devices"`
	Shares  []heldShare  `json:"shares"`
}

type heldDevice struct {
	Driver string `json:"driver"`
	Pool   string `json:"pool"`
	Device string `json:"device"`
}

type heldShare struct {
	heldDevice
	ShareID          types.UID                                       `json:"shareID"`
	ConsumedCapacity map[resourceapi.QualifiedName]resource.Quantity `json:"consumedCapacity"`
}

type allocationAnswer struct {
	ID        string       `json:"id"`
	Allocator string       `json:"allocator,omitempty"`
	Nodes     []nodeAnswer `json:"nodes"`
	// Random says that the answer depends on chance, or was not found in time: not to be compared.
	Random bool `json:"random,omitempty"`
}

type nodeAnswer struct {
	Node        string                         `json:"node"`
	Allocations []resourceapi.AllocationResult `json:"allocations"`
	ErrorKind   string                         `json:"errorKind,omitempty"`
	Error       string                         `json:"error,omitempty"`
	NodeOnly    bool                           `json:"nodeOnly,omitempty"`
	Steps       int64                          `json:"steps,omitempty"`
}

// errorKinds maps a part of the reference's message to the kind; the first match counts.
var errorKinds = []struct{ part, kind string }{
	{"CEL runtime error", "cel-runtime"},
	{"CEL compile error", "cel-compile"},
	{"could not retrieve device class", "class-not-found"},
	{"exceeds the claim limit", "too-many-devices"},
	{"is currently being updated", "all-incomplete-pool"},
	{"is currently invalid", "all-invalid-pool"},
	{"invalid resource pools were encountered", "invalid-pool"},
	{"a claim constraint would not be satisfied", "all-constraint"},
	{"DRAConsumableCapacity feature is disabled", "capacity-disabled"},
	{"DRAPrioritizedList feature is disabled", "prioritized-list-disabled"},
	{"admin access is requested", "admin-access-disabled"},
	{"empty constraint", "unknown-constraint"},
	{"capacity request cannot be represented", "capacity-not-representable"},
	{"capacity value is negative", "capacity-negative"},
	{"filter operation aborted", "timeout"},
}

func answerAllocations(arguments []string, in io.Reader, out *bufio.Writer) error {
	flags := flag.NewFlagSet("allocator", flag.ContinueOnError)
	limit := flags.Duration("timeout", 3*time.Second, "for one node of a case")
	orders := flags.Int("orders", 3, "how often each node is asked, with the slices in another order each time (stable: twenty times as often)")
	if err := parse(flags, arguments); err != nil {
		return err
	}
	return eachLine(in, func(_ int, raw []byte) error {
		var problem allocationCase
		if err := json.Unmarshal(raw, &problem); err != nil {
			return err
		}
		return writeLine(out, answerCase(&problem, *limit, *orders))
	})
}

func answerCase(problem *allocationCase, limit time.Duration, orders int) allocationAnswer {
	answer := allocationAnswer{ID: problem.ID}
	shuffle := rand.New(rand.NewSource(1))
	for _, name := range problem.TryNodes {
		first, channel := answerNode(problem, name, problem.Slices, limit)
		answer.Allocator = channel
		answer.Nodes = append(answer.Nodes, first)
		answer.Random = answer.Random || first.ErrorKind == "timeout"
		times := orders
		if channel == "stable" { // tries pools in the order of a map, which of two comes first in seven of eight runs
			times *= 20
		}
		for again := 1; again < times && !answer.Random; again++ {
			slices := append([]*resourceapi.ResourceSlice{}, problem.Slices...)
			if channel != "stable" { // there the order of a pool's slices counts by design
				shuffle.Shuffle(len(slices), func(i, j int) { slices[i], slices[j] = slices[j], slices[i] })
			}
			other, _ := answerNode(problem, name, slices, limit)
			answer.Random = !sameAnswer(first, other)
		}
	}
	return answer
}

func sameAnswer(a, b nodeAnswer) bool {
	if a.ErrorKind != b.ErrorKind {
		return false
	}
	left, _ := json.Marshal(a.Allocations)
	right, _ := json.Marshal(b.Allocations)
	return string(left) == string(right)
}

// answerNode asks a fresh allocator about one node. The claims are copies: the reference changes
// some quantities in place.
func answerNode(problem *allocationCase, name string, slices []*resourceapi.ResourceSlice, limit time.Duration) (answer nodeAnswer, channel string) {
	answer.Node = name
	defer func() {
		if reason := recover(); reason != nil {
			answer.ErrorKind, answer.Error = "panic", fmt.Sprint(reason)
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	features := featuresOf(problem.Features)
	cache := cel.NewCache(256, cel.Features{
		EnableConsumableCapacity: features.ConsumableCapacity,
		EnableListTypeAttributes: features.ListTypeAttributes,
	})
	allocator, err := structured.NewAllocator(ctx, features, problem.Allocated.state(features.ConsumableCapacity), classes(problem.Classes), slices, cache)
	if err != nil {
		answer.ErrorKind, answer.Error = "new-allocator", err.Error()
		return answer, ""
	}
	channel = call(allocator, "Channel").String()
	target := &v1.Node{}
	for _, known := range problem.Nodes {
		if known.Name == name {
			target.ObjectMeta = metav1.ObjectMeta{Name: known.Name, Labels: known.Labels}
		}
	}
	claims := make([]*resourceapi.ResourceClaim, len(problem.Claims))
	for i, claim := range problem.Claims {
		claims[i] = claim.DeepCopy()
	}
	results, err := allocator.Allocate(ctx, target, claims)
	if stats := call(allocator, "GetStats"); stats.IsValid() {
		answer.Steps = stats.FieldByName("NumAllocateOneInvocations").Int()
	}
	if err != nil {
		answer.ErrorKind, answer.Error = kindOf(err.Error()), err.Error()
		answer.NodeOnly = errors.Is(err, structured.ErrFailedAllocationOnNode)
		return answer, channel
	}
	answer.Allocations = renameShares(results)
	return answer, channel
}

// call reaches the methods whose types are internal to the module.
func call(allocator structured.Allocator, method string) reflect.Value {
	if m := reflect.ValueOf(allocator).MethodByName(method); m.IsValid() {
		return m.Call(nil)[0]
	}
	return reflect.Value{}
}

func kindOf(message string) string {
	for _, candidate := range errorKinds {
		if strings.Contains(message, candidate.part) {
			return candidate.kind
		}
	}
	return "other"
}

func renameShares(results []resourceapi.AllocationResult) []resourceapi.AllocationResult {
	next := 0
	for i := range results {
		for j := range results[i].Devices.Results {
			if result := &results[i].Devices.Results[j]; result.ShareID != nil {
				name := types.UID(fmt.Sprintf("share-%d", next))
				result.ShareID = &name
				next++
			}
		}
	}
	return results
}

func (h held) state(shares bool) structured.AllocatedState {
	state := structured.AllocatedState{
		AllocatedDevices:         sets.New[structured.DeviceID](),
		AllocatedSharedDeviceIDs: sets.New[structured.SharedDeviceID](),
		AggregatedCapacity:       structured.NewConsumedCapacityCollection(),
	}
	for _, d := range h.Devices {
		state.AllocatedDevices.Insert(structured.MakeDeviceID(d.Driver, d.Pool, d.Device))
	}
	for _, s := range h.Shares {
		id := structured.MakeDeviceID(s.Driver, s.Pool, s.Device)
		if !shares {
			state.AllocatedDevices.Insert(id)
			continue
		}
		state.AllocatedSharedDeviceIDs.Insert(structured.MakeSharedDeviceID(id, &s.ShareID))
		if s.ConsumedCapacity != nil {
			state.AggregatedCapacity.Insert(structured.NewDeviceConsumedCapacity(id, s.ConsumedCapacity))
		}
	}
	return state
}

type classes []*resourceapi.DeviceClass

func (c classes) List() ([]*resourceapi.DeviceClass, error) { return c, nil }

func (c classes) Get(name string) (*resourceapi.DeviceClass, error) {
	for _, class := range c {
		if class.Name == name {
			return class, nil
		}
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Group: "resource.k8s.io", Resource: "deviceclasses"}, name)
}
