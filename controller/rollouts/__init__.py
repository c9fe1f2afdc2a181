"""Lets a change of AcceleratorPolicies go from node to node (`maxUnavailable`); see `driver.api.rollout`."""
