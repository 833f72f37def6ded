"""The way from an acknowledged batch to the store: publish durably, consume in order, commit after the insert.

`port.py` says what a bus promises; `adapters/` holds one file per technology. Decoding of payloads is handed
in, so that a bus knows nothing of the signals it carries.
"""
