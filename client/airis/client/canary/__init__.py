"""The canary: writes and reads back all four signals all the time, and says what a user of the platform sees.

`probes` and `alert_probe` write one item and look for it, `rounds` does so at each interval and looks once more later,
`record` keeps what happened in bounded memory, `objectives` compares it with what the contract promises, `measures`
gives it to OpenTelemetry. `airis canary` puts them together (`cli/canary.py`).
"""
