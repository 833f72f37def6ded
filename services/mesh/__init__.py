"""Tells Envoy which instances there are: a small control plane, `airis mesh`.

    Consul -> directory -> sets -> rpc -> Envoy

`directory` follows each service in Consul by blocking queries (the client SDK's own) and hands what it finds to `sets`,
which keeps the last known instances of each service and never forgets the last one. `rpc` serves them as endpoints
(EDS) over Envoy's aggregated discovery stream: a new version at once when a set changes, a refused one not again.
`convert` has the few messages of that protocol. Envoy keeps what it was told when this process is away.

What a cluster is called here is in `model`: "metrics/grpc" and "metrics/http" are the ports of the metrics service,
"*/http" those of all services. Start reading at `app`.
"""
