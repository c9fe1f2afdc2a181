package main

import (
	"bufio"
	"flag"
	"slices"
	"sort"

	"k8s.io/dynamic-resource-allocation/cel"
)

type overload struct {
	Function  string   `json:"function"`
	ID        string   `json:"id"`
	Member    bool     `json:"member"`
	Arguments []string `json:"arguments"`
	Result    string   `json:"result"`
}

type declarations struct {
	Overloads []overload `json:"overloads"`
	Macros    []string   `json:"macros"`
}

// describe writes what selectors may use, so that generated ones can use all of it.
func describe(arguments []string, out *bufio.Writer) error {
	flags := flag.NewFlagSet("environment", flag.ContinueOnError)
	lists := flags.Bool("lists", true, "list-typed attributes")
	if err := parse(flags, arguments); err != nil {
		return err
	}
	features := cel.Features{EnableConsumableCapacity: true, EnableListTypeAttributes: *lists}
	env := cel.NewCache(1, features).GetOrCompile("true").Environment
	var found declarations
	for name, function := range env.Functions() {
		if function.IsDeclarationDisabled() {
			continue
		}
		for _, o := range function.OverloadDecls() {
			one := overload{Function: name, ID: o.ID(), Member: o.IsMemberFunction(), Result: o.ResultType().String()}
			for _, argument := range o.ArgTypes() {
				one.Arguments = append(one.Arguments, argument.String())
			}
			found.Overloads = append(found.Overloads, one)
		}
	}
	sort.Slice(found.Overloads, func(i, j int) bool { return found.Overloads[i].ID < found.Overloads[j].ID })
	for _, macro := range env.Macros() {
		found.Macros = append(found.Macros, macro.MacroKey())
	}
	slices.Sort(found.Macros)
	return writeLine(out, found)
}

// used names the overloads that an expression was checked to call.
func used(compiled cel.CompilationResult) []string {
	checked, issues := compiled.Environment.Compile(compiled.Expression)
	if issues != nil {
		return nil
	}
	var ids []string
	for _, reference := range checked.NativeRep().ReferenceMap() {
		ids = append(ids, reference.OverloadIDs...)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}
