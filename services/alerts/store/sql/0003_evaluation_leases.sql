-- The moment that somebody evaluates the rule for now; NULL when nobody does. Meanwhile next_evaluation_at is when
-- that somebody is taken for dead and another one evaluates for the same moment, or when the next moment comes.
ALTER TABLE alert_rules ADD COLUMN evaluating_for timestamptz;
