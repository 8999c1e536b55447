-- A third driver. The table holds one row per shape of work, so the check is soon made.
ALTER TABLE shapes
    DROP CONSTRAINT shapes_driver_check,
    ADD CONSTRAINT shapes_driver_check CHECK (driver IN ('docker', 'process', 'kubernetes', 'mock'));
