"""Log stores by technology. Only `app.py` names one."""
