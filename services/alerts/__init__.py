"""The alert service: rules over the other signals, and who is told. Start reading here.

What comes in      `rpc` -> `convert` -> `query` -> `store`: rules, silences, channels and policies are kept.
When a rule is due `worker.Evaluator` takes it from the store, one replica per interval,
                   asks `signals` for a number per condition and group, over the window before that moment,
                   lets `evaluate` compare and `state` step each group: inactive, pending, firing, resolved,
                   and writes groups, events, alerts and notifications in one transaction.
Who is told        `worker.Sender` takes notifications from the outbox, lets `notify.delivery` send them, one file
                   per kind of channel, retries, and records what became of them.
What goes out      `rpc` <- `convert` <- `query` <- `store`: alerts are the projection of their events.

Time and chance come in by `Clock`, `NewId` and `random`; only `app` names an adapter.
"""
