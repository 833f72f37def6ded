"""The services of AIRIS EPM. Start reading in `services.metrics`: the others have the same files."""
