"""Takes unary ingest calls for the owners of the embedded stores, in as many processes as `airis up --frontends` says.

    Envoy -> rpc -> services.shared.handover == a Unix socket ==> metrics, logs, traces

A frontend knows who calls, and what they may; it bounds, counts and traces calls, and makes protobuf of OTLP/JSON. It
looks into no request, and keeps nothing: the service that owns the store answers. Streams and questions go to the
services themselves. Start reading at `app`.
"""
