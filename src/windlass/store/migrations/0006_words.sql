-- The drivers a scheduler knows. The API takes a job with a driver only once all know it. Null: one of version 0.2 or
-- older, which does not say.
ALTER TABLE schedulers ADD COLUMN drivers text[];
