"""The policies around gRPC calls, driven by the descriptors: clients and servers, `grpc.aio` and blocking."""
