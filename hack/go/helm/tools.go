//go:build tools

// Package tools names the programs that hack/cluster builds, so that go.sum covers them.
package tools

import (
	_ "helm.sh/helm/v3/cmd/helm"
)
