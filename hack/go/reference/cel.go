package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"time"

	resourceapi "k8s.io/api/resource/v1"
	"k8s.io/dynamic-resource-allocation/cel"
)

// hungLimit is how many evaluations may be left behind before the program gives up: a goroutine
// cannot be stopped from outside, and each one goes on using the processor.
const hungLimit = 8

type device struct {
	Driver                   string                                                    `json:"driver"`
	AllowMultipleAllocations *bool                                                     `json:"allowMultipleAllocations"`
	Attributes               map[resourceapi.QualifiedName]resourceapi.DeviceAttribute `json:"attributes"`
	Capacity                 map[resourceapi.QualifiedName]resourceapi.DeviceCapacity  `json:"capacity"`
}

type selectorLine struct {
	Devices    []device `json:"devices"`
	Device     *int     `json:"device"`
	Expression *string  `json:"expression"`
}

type selectorAnswer struct {
	Outcome string `json:"outcome"`
	Message string `json:"message,omitempty"`
	// Overloads that the expression was checked to call; only with -v.
	Overloads []string `json:"overloads,omitempty"`
}

func answerSelectors(arguments []string, in io.Reader, out *bufio.Writer) error {
	flags := flag.NewFlagSet("cel", flag.ContinueOnError)
	lists := flags.Bool("lists", true, "list-typed attributes")
	verbose := flags.Bool("v", false, "answer {outcome, message, overloads}")
	limit := flags.Duration("timeout", 3*time.Second, "for one selector")
	if err := parse(flags, arguments); err != nil {
		return err
	}
	cache := cel.NewCache(256, cel.Features{EnableConsumableCapacity: true, EnableListTypeAttributes: *lists})
	var devices []device
	hung := 0
	return eachLine(in, func(_ int, raw []byte) error {
		var line selectorLine
		if err := json.Unmarshal(raw, &line); err != nil {
			return err
		}
		if line.Devices != nil {
			devices = line.Devices
			return nil
		}
		if line.Expression == nil || line.Device == nil || *line.Device < 0 || *line.Device >= len(devices) {
			return errors.New("want an expression and the index of a device")
		}
		answered := make(chan selectorAnswer, 1)
		go func() { answered <- evaluate(cache, devices[*line.Device], *line.Expression, *limit) }()
		var answer selectorAnswer
		select {
		case answer = <-answered:
		case <-time.After(*limit + time.Second):
			answer = selectorAnswer{Outcome: "timeout"}
			if hung++; hung > hungLimit {
				return errors.New("too many selectors that do not end")
			}
		}
		if *verbose {
			if answer.Outcome != "compile-error" {
				answer.Overloads = used(cache.GetOrCompile(*line.Expression))
			}
			return writeLine(out, answer)
		}
		return writeLine(out, answer.Outcome)
	})
}

// evaluate does what the allocator does with one selector and one device; a panic, which would
// end the scheduler, counts as a failed evaluation.
func evaluate(cache *cel.Cache, d device, expression string, limit time.Duration) (answer selectorAnswer) {
	phase := "compile-error"
	defer func() {
		if reason := recover(); reason != nil {
			answer = selectorAnswer{Outcome: phase, Message: fmt.Sprintf("panic: %v", reason)}
		}
	}()
	compiled := cache.GetOrCompile(expression)
	if compiled.Error != nil {
		return selectorAnswer{Outcome: phase, Message: compiled.Error.Error()}
	}
	phase = "evaluation-error"
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	matches, _, err := compiled.DeviceMatches(ctx, cel.Device{
		Driver:                   d.Driver,
		AllowMultipleAllocations: d.AllowMultipleAllocations,
		Attributes:               d.Attributes,
		Capacity:                 d.Capacity,
	})
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return selectorAnswer{Outcome: "timeout", Message: err.Error()}
	case err != nil:
		return selectorAnswer{Outcome: phase, Message: err.Error()}
	default:
		return selectorAnswer{Outcome: fmt.Sprint(matches)}
	}
}
