"""The logs service. Its data path in ten lines:

rpc.py      gets wire bytes, in three dialects: our unary batch, our stream, OTLP's Export.
convert.py  turns them into Arrow columns (`otlp.py` for OTLP), and questions and answers into the model and back.
ingest.py   checks the columns and publishes the batch. shared.bus makes it durable: now the sender is answered.
worker.py   joins what has arrived and inserts it: store/port.py says how, store/adapters/ with what.
query.py    checks what is asked against what the store can do, and asks it.
            `patterns.py` and `anomalies.py` compute answers from what the store gives; `tail.py` follows it.
model.py    the types that all of these speak; config.py the settings.
app.py      puts it together: the only module that names a technology.
"""
