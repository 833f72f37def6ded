"""The helpers of each service: one module a signal."""
