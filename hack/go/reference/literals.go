package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"

	apiservercel "k8s.io/apiserver/pkg/cel"
	"k8s.io/dynamic-resource-allocation/cel"
)

var errNoLiteral = errors.New("no literal")

// writeLiterals evaluates expressions that need no device and writes their values as CEL, so that a
// generated selector can ask whether the value is that one; null where there is no value.
func writeLiterals(arguments []string, in io.Reader, out *bufio.Writer) error {
	flags := flag.NewFlagSet("literals", flag.ContinueOnError)
	if err := parse(flags, arguments); err != nil {
		return err
	}
	features := cel.Features{EnableConsumableCapacity: true, EnableListTypeAttributes: true}
	cache := cel.NewCache(1, features)
	return eachLine(in, func(_ int, raw []byte) error {
		var expression string
		if err := json.Unmarshal(raw, &expression); err != nil {
			return err
		}
		value, err := evaluateFreely(cache, expression)
		if err != nil {
			return writeLine(out, nil)
		}
		return writeLine(out, value)
	})
}

func evaluateFreely(cache *cel.Cache, expression string) (text string, err error) {
	defer func() {
		if reason := recover(); reason != nil {
			err = fmt.Errorf("panic: %v", reason)
		}
	}()
	env := cache.GetOrCompile("true").Environment
	checked, issues := env.Compile(expression)
	if issues != nil {
		return "", issues.Err()
	}
	program, err := env.Program(checked)
	if err != nil {
		return "", err
	}
	value, _, err := program.Eval(map[string]any{})
	if err != nil {
		return "", err
	}
	return literal(value)
}

func literal(value ref.Val) (string, error) {
	switch v := value.(type) {
	case types.Bool, types.Null:
		return fmt.Sprint(v.Value()), nil
	case types.Int:
		if v == math.MinInt64 {
			return "(-9223372036854775807 - 1)", nil
		}
		return strconv.FormatInt(int64(v), 10), nil
	case types.Uint:
		return strconv.FormatUint(uint64(v), 10) + "u", nil
	case types.Double:
		return fmt.Sprintf("double(%q)", strconv.FormatFloat(float64(v), 'g', -1, 64)), nil
	case types.String:
		return quoted(string(v)), nil
	case types.Bytes:
		return bytesLiteral(v), nil
	case types.Duration:
		return fmt.Sprintf("duration(\"%dns\")", v.Nanoseconds()), nil
	case types.Timestamp:
		return fmt.Sprintf("timestamp(%q)", v.Time.UTC().Format(time.RFC3339Nano)), nil
	case apiservercel.Quantity:
		return fmt.Sprintf("quantity(%q)", v.Quantity.String()), nil
	case *apiservercel.Quantity: // what add and sub give
		return fmt.Sprintf("quantity(%q)", v.Quantity.String()), nil
	case *types.Type:
		return v.TypeName(), nil
	case apiservercel.Semver:
		return fmt.Sprintf("semver(%q)", v.Version.String()), nil
	case apiservercel.IP:
		return fmt.Sprintf("ip(%q)", v.Addr.String()), nil
	case apiservercel.CIDR:
		return fmt.Sprintf("cidr(%q)", v.Prefix.String()), nil
	case apiservercel.URL:
		return fmt.Sprintf("url(%s)", quoted(v.URL.String())), nil
	case *types.Optional:
		if !v.HasValue() {
			return "optional.none()", nil
		}
		inner, err := literal(v.GetValue())
		return "optional.of(" + inner + ")", err
	case traits.Mapper:
		return mapLiteral(v)
	case traits.Lister:
		return listLiteral(v)
	}
	return "", errNoLiteral
}

func quoted(text string) string {
	var out strings.Builder
	out.WriteByte('"')
	for _, r := range text {
		switch {
		case r == '"' || r == '\\':
			out.WriteByte('\\')
			out.WriteRune(r)
		case r >= ' ' && r < 0x7f:
			out.WriteRune(r)
		default:
			fmt.Fprintf(&out, "\\U%08x", r)
		}
	}
	out.WriteByte('"')
	return out.String()
}

func bytesLiteral(content []byte) string {
	var out strings.Builder
	out.WriteString(`b"`)
	for _, b := range content {
		fmt.Fprintf(&out, "\\x%02x", b)
	}
	out.WriteByte('"')
	return out.String()
}

func listLiteral(list traits.Lister) (string, error) {
	var parts []string
	for it := list.Iterator(); it.HasNext() == types.True; {
		part, err := literal(it.Next())
		if err != nil {
			return "", err
		}
		parts = append(parts, part)
	}
	return "[" + strings.Join(parts, ", ") + "]", nil
}

func mapLiteral(mapping traits.Mapper) (string, error) {
	var parts []string
	for it := mapping.Iterator(); it.HasNext() == types.True; {
		key := it.Next()
		name, err := literal(key)
		if err != nil {
			return "", err
		}
		value, err := literal(mapping.Get(key))
		if err != nil {
			return "", err
		}
		parts = append(parts, name+": "+value)
	}
	sort.Strings(parts)
	return "{" + strings.Join(parts, ", ") + "}", nil
}
