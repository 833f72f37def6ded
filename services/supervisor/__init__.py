"""What is behind `airis up`: engines, services and Envoy as children of one process.

Start reading in `app.py` (what the command calls), then `supervisor.py` (order, restarts), `process.py` (one
child) and `engines/` (how PostgreSQL, Redis and Envoy are started).
"""
