"""What `make generate` derives from the contracts: one module for each consumer, all reading `resilience.contract`."""
