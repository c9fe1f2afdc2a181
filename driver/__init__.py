"""The domain of Dragoman: cards, shares, selectors, allocation, isolation, vendors, CDI.

Nothing in here talks to the kubelet, and nothing but `driver.kube` talks to the API server.
"""
