-- Tasks of arrays are jobs of their own that know their array.
ALTER TABLE job ADD COLUMN array INTEGER NOT NULL DEFAULT 0;
ALTER TABLE job ADD COLUMN idx INTEGER NOT NULL DEFAULT 0;
CREATE INDEX job_of_array ON job (array, idx) WHERE array > 0;
CREATE INDEX job_named ON job (uid, json_extract(spec, '$.name'), job) WHERE array = 0;
