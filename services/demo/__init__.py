"""Live input for `airis up --demo`, sent over OTLP by the standard OpenTelemetry SDK as any user's program would.

`python -m services.demo.shop` is a small shop of five instrumented gRPC services under load;
`python -m services.demo.host_metrics` reports the machine it runs on. Both send to the OTLP/gRPC receiver that the
environment variable AIRIS_OTLP_ENDPOINT names, and end within seconds of SIGTERM.
"""
