-- Finished notifications are forgotten for all tenants at once. What is due is found tenant by tenant, in turn, by
-- the indexes `alert_rules_due` and `outbox_due`, which begin with the tenant.

DROP INDEX outbox_finished;
CREATE INDEX outbox_finished_by_time ON outbox (finish_time) WHERE finish_time IS NOT NULL;
