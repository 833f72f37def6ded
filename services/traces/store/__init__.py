"""The trace store: `port.py` says what it promises, `adapters/` holds one file per technology."""
