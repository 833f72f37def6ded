"""The peers: other makers' servers, run beside ours with the same bytes by the same load generator.

`make bench-peers` fetches what is missing from the registries (`python -m bench.peers fetch`) and runs them
(`python -m bench.peers run`). Start reading at `peer.py`, then one of the peers; `docs/peers.md` has the figures.
"""
