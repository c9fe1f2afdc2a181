"""The API server, as a Protocol with several transports.

`client` holds the Protocol and the errors; `resources` the paths of the kinds that we use; `config` finds the
server and the credentials; `http_transport` is the agent's small blocking transport, `aiohttp_transport` the
controller's; `informer` keeps a store equal to the server's list; `backoff` says how long to wait.
"""
