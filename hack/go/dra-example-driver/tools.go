//go:build tools

// Package tools names the programs that hack/cluster builds, so that go.sum covers them.
package tools

import (
	_ "sigs.k8s.io/dra-example-driver/cmd/dra-example-kubeletplugin"
)
