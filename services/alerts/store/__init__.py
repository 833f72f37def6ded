"""Where rules, alerts and notifications are kept. `port.py` says what a store promises."""
