"""The platform's own logs, metrics and traces, sent to itself over OTLP without feeding on themselves."""
