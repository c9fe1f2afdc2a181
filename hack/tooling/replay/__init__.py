"""`hack/replay`: device selectors and allocations, answered by ours and held against Kubernetes' own answers.

`lines` reads cases; `selectors` and `allocations` answer them; `judge` compares with recorded answers;
`reference` builds and asks the Go program over Kubernetes' own code; `generate_*` make new cases and `fresh`
has both sides answer them; `__main__` is the command line.
"""
