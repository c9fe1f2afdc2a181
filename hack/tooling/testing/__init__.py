"""`hack/test`: all tests with one command.

`parts` decides what can run on this machine and why not; `runner` runs pytest for each part and reads what it
reported; `__main__` is the command line and the closing table.
"""
