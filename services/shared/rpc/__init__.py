"""What the four services share on the wire: serving, errors, validation, paging, ingest dialects, attributes."""
