"""A small shop of five gRPC services in one process, each with an OpenTelemetry resource of its own.

A visit puts items into the cart and checks out. The frontend asks the catalog and the cart at once, has the payment
charged, then reserves stock and ships at once; shipping tells the customer later, through a queue. Payments are
sometimes slow or declined, shipping is sometimes away: the traces, logs and metrics show where and why.

Start reading at `frontend.py`; `app.py` puts the services together and `load.py` sends the visitors.
"""
