//go:build tools

// Package tools names the programs that the cluster tests run beside Dragoman, so that go.sum covers them.
package tools

import (
	_ "volcano.sh/volcano/cmd/controller-manager"
	_ "volcano.sh/volcano/cmd/scheduler"
)
