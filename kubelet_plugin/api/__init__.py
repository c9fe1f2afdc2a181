"""The kubelet's contracts as Python code, generated from `proto/kubelet_plugin/api/` by `hack/generate`."""
