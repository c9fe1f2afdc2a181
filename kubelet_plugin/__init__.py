"""The node agent: finds cards, registers with the kubelet, prepares shares, watches them."""
