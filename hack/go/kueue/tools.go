//go:build tools

// Package tools names the program that the cluster tests run beside Dragoman, so that go.sum covers it.
package tools

import (
	_ "sigs.k8s.io/kueue/cmd/kueue"
)
