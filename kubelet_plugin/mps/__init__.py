"""NVIDIA's MPS on this node: who wants what of its control daemon, and the process that looks after it.

    files       what shares want, one small file each: written by agents, read by the supervisor
    client      the agent's side: `driver.isolation.service.MpsNode`
    watch       the agent compares what it prepared with what the daemon says, repairs, and tells claims
    supervisor  the loop that starts the daemon, makes it do what the files say, and answers agents
    daemon      the daemon as a child process
    control     the daemon's command line
    wire        what supervisor and agent say to each other

The supervisor is a process of its own (`python -m kubelet_plugin.mps`, a DaemonSet of its own in the chart),
because programs under MPS die with the daemon: the agent must be replaceable without that.
"""
