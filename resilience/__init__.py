"""How calls survive faults: what the contract asks of each RPC (`contract.py`). Knows nothing of the services."""
