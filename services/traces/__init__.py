"""The traces service. Its data path in ten lines:

rpc.py      gets wire bytes, in three dialects: our unary batch, our stream, OTLP's Export.
convert.py  turns them into Arrow columns (`otlp.py` for OTLP), and answers of the model into messages.
ingest.py   checks the columns (`rules.py`) and publishes the batch. shared.bus makes it durable: now the sender is
            answered.
worker.py   joins what has arrived and inserts it: store/port.py says how, store/adapters/ with what. It also finds,
            for the minutes in which spans came (`stale_minutes.py`), which services call which.
query.py    checks what is asked against what the store can do, and analyses what it gives: `tree.py` makes a trace
            whole, `critical_path.py` finds what its duration is made of, `analysis.py` sums up and compares.
jaeger_rpc.py answers a Jaeger whose storage we are (`jaeger_query.py`: what it asks, as searches); docs/jaeger.md.
model.py    the types that all of these speak (`typed_text.py`: types kept in text; `otlp_spans.py`: spans
            as OTLP messages); config.py the settings.
app.py      puts it together: the only module that names a technology.
"""
