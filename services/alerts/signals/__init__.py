"""How the other signals are asked: over gRPC only, behind `port.py`."""
