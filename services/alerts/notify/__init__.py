"""How people are told. `delivery.py` lists the stages; each kind of channel has a file of its own."""
