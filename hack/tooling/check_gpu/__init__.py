"""`hack/check-gpu`: does a share's memory limit hold on this machine's card?

`child` is the CUDA program that takes memory until it is refused; `measure` runs it, once as it is and once
with a share's edits applied; `__main__` finds the card and prints the table.
"""
