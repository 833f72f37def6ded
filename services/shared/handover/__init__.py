"""Calls that one process takes and another answers, where only one may have the store open.

    frontend: rpc -> caller  == a Unix socket ==>  owner -> the ingest methods of the service

A call costs mostly what gRPC and its policies cost, not what becomes of its items. Frontends take that over, in as many
processes as there are cores; the owner of the store gets the bytes of the request and the name of the tenant, and
answers as if it had been called itself. Why this is no gRPC: docs/adr/0016-frontends-hand-calls-over.md.
"""
