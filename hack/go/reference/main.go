// Reference asks Kubernetes' own code what hack/replay answers by ours: device selectors and allocations.
//
// Each subcommand is a filter: JSON lines in, one answer a line out, in order.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
)

const usage = `usage: reference cel|environment|literals|allocator|scale [flags] < cases > answers

  cel        first line {"devices": [...]}, then {"device": index, "expression": "..."};
             answers true, false, compile-error, evaluation-error or timeout
  environment
             the functions and macros that selectors may use; reads nothing
  literals   expressions without device, as JSON strings; answers their values as CEL, or null
  allocator  cases of the allocation corpus; answers as under "expected"
  scale      times the cluster of 5,000 nodes; reads nothing
`

func main() {
	if len(os.Args) < 2 {
		fail(usage)
	}
	var err error
	out := bufio.NewWriterSize(os.Stdout, 1<<16)
	arguments := os.Args[2:]
	switch os.Args[1] {
	case "cel":
		err = answerSelectors(arguments, os.Stdin, out)
	case "environment":
		err = describe(arguments, out)
	case "literals":
		err = writeLiterals(arguments, os.Stdin, out)
	case "allocator":
		err = answerAllocations(arguments, os.Stdin, out)
	case "scale":
		err = timeScale(arguments, out)
	default:
		fail(usage)
	}
	if flushed := out.Flush(); err == nil {
		err = flushed
	}
	if err != nil {
		fail(fmt.Sprintf("reference %s: %v\n", os.Args[1], err))
	}
}

func fail(message string) {
	fmt.Fprint(os.Stderr, message)
	os.Exit(2)
}

func parse(flags *flag.FlagSet, arguments []string) error {
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	return nil
}

// eachLine calls f with the number and the content of each line; lines may be of any length.
func eachLine(in io.Reader, f func(number int, line []byte) error) error {
	reader := bufio.NewReaderSize(in, 1<<20)
	for number := 1; ; number++ {
		line, err := reader.ReadBytes('\n')
		if len(line) > 0 && string(line) != "\n" {
			if err := f(number, line); err != nil {
				return fmt.Errorf("line %d: %w", number, err)
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func writeLine(out *bufio.Writer, answer any) error {
	line, err := json.Marshal(answer)
	if err != nil {
		return err
	}
	if _, err := out.Write(line); err != nil {
		return err
	}
	return out.WriteByte('\n')
}
