"""What all services need, and no business: errors, RPC, filter, bus, ClickHouse, telemetry."""
