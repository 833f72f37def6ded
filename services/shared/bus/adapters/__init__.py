"""One technology per adapter; `journal*.py` together are the embedded one. Only an `app.py` names them."""
