-- Runs what somebody does with psql, and compares each answer.
--
--     psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --dbname URL --file psql_script.sql
--
-- The role may create tables in the first schema of its search_path; the names end in random letters, so that many of
-- these can run at once. It needs psql 12 or newer and a POSIX shell. The last line of the output is "ok N checks" and
-- the exit status 0, or the first difference stands on stderr as the number that it is not ("types: got 1, want 2")
-- and the status is 3.

\set ON_ERROR_STOP 1
\pset tuples_only on
\pset format unaligned
\set n 0
-- :expect ('what', got, want) :counted
\set expect 'SELECT CASE WHEN got IS NOT DISTINCT FROM want THEN :n + 1 ELSE (what || \': got \' || coalesce(got, \'NULL\') || \', want \' || want)::int END AS n FROM (SELECT what, got::text, want::text FROM (VALUES '
\set counted ') AS given (what, got, want)) AS checked \\gset'

SHOW statement_timeout \gset
\set timeout_before :statement_timeout
SELECT 'psql_items_' || md5(random()::text || clock_timestamp()::text) AS items,
       'psql_copied_' || md5(random()::text || clock_timestamp()::text) AS copied \gset

-- Create, insert, select.
CREATE TABLE :items (
  id int PRIMARY KEY, words text, at timestamptz, doc jsonb, raw bytea, numbers int[], price numeric, nothing text);
CREATE TABLE :copied (id int, words text);
\set words 'it''s ☃, "quoted"'
INSERT INTO :items VALUES
  (1, :'words', '2024-02-29 12:30:15.123456+00', '{"a": [1, null]}', '\x00ff', '{1,NULL,3}', 12345678901234567890.5, NULL);
:expect ('rows inserted', :ROW_COUNT, 1) :counted
SELECT id, words, at AT TIME ZONE 'UTC' AS at, doc, raw, numbers, price, nothing IS NULL AS nothing FROM :items WHERE id = 1 \gset
:expect ('int', :'id', '1') :counted
:expect ('text', :'words', 'it''s ☃, "quoted"') :counted
:expect ('timestamptz', :'at', '2024-02-29 12:30:15.123456') :counted
:expect ('jsonb', :'doc', '{"a": [1, null]}') :counted
:expect ('bytea', :'raw', '\x00ff') :counted
:expect ('array', :'numbers', '{1,NULL,3}') :counted
:expect ('numeric', :'price', '12345678901234567890.5') :counted
:expect ('null', :'nothing', 't') :counted

-- Transactions.
BEGIN;
INSERT INTO :items (id, words) VALUES (2, 'committed');
COMMIT;
BEGIN;
UPDATE :items SET words = 'never' WHERE id = 2;
SAVEPOINT here;
DELETE FROM :items;
ROLLBACK TO SAVEPOINT here;
SELECT count(*) AS got FROM :items \gset
:expect ('after rollback to a savepoint', :got, 2) :counted
ROLLBACK;
SELECT words AS got FROM :items WHERE id = 2 \gset
:expect ('after commit and rollback', :'got', 'committed') :counted
SELECT 1 AS one \; SELECT 2 AS two \gset
:expect ('several statements at once', :two, 2) :counted

-- Prepared statements, two by turns, in and out of transactions.
PREPARE plus (int) AS SELECT $1 + 1 AS got;
PREPARE twice (text) AS SELECT $1 || $1 AS got;
EXECUTE plus(1) \gset
:expect ('first statement', :got, 2) :counted
EXECUTE twice('ab') \gset
:expect ('second statement', :'got', 'abab') :counted
BEGIN;
EXECUTE plus(41) \gset
COMMIT;
:expect ('first statement again', :got, 42) :counted
DEALLOCATE plus;
EXECUTE twice('c') \gset
:expect ('second statement again', :'got', 'cc') :counted
DEALLOCATE twice;
-- \gdesc parses and describes without executing.
\set file `mktemp`
\o :file
SELECT 1 AS a, 'x'::text AS b \gdesc
\o
\set got `tr '\n' ' ' < :'file'`
:expect ('described', :'got', 'a|integer b|text ') :counted
SELECT format('INSERT INTO %I (id, words) VALUES (%s, %L)', :'items', n, 'made') FROM generate_series(10, 12) n \gexec
SELECT count(*) AS got FROM :items WHERE words = 'made' \gset
:expect ('statements made by a statement', :got, 3) :counted

-- Errors, and going on after them.
\set ON_ERROR_STOP 0
\set VERBOSITY terse
\o /dev/null
INSERT INTO :items (id) VALUES (1);
\set state :SQLSTATE
\set ON_ERROR_STOP 1
:expect ('unique violation', :'state', '23505') :counted
BEGIN;
\set ON_ERROR_STOP 0
SELECT 1 / (5000 - n) FROM generate_series(1, 10000) n;
\set state :SQLSTATE
SELECT 1;
\set after :SQLSTATE
ROLLBACK;
SELEC 1;
\set syntax :SQLSTATE
BEGIN;
SET LOCAL statement_timeout = '50ms';
SELECT pg_sleep(60);
\set timeout :SQLSTATE
ROLLBACK;
\set ON_ERROR_STOP 1
\o
:expect ('error while rows stream', :'state', '22012') :counted
:expect ('in a failed transaction', :'after', '25P02') :counted
:expect ('syntax error', :'syntax', '42601') :counted
:expect ('statement timeout', :'timeout', '57014') :counted
DO $$ BEGIN RAISE NOTICE 'a notice'; END $$;
SHOW statement_timeout \gset
:expect ('after the errors', :'statement_timeout', :'timeout_before') :counted

-- COPY, from this script, to a file, and many rows from a program.
COPY :copied FROM STDIN;
1	one
2	two\twith a tab
\.
COPY (SELECT * FROM :copied ORDER BY id) TO STDOUT \g :file
\set got `tr '\n\t' ';,' < :'file'`
:expect ('copied out', :'got', E'1,one;2,two\\twith a tab;') :counted
SELECT format('\copy %I FROM PROGRAM ''%s''', :'copied', 'i=0; while [ $i -lt 20000 ]; do i=$((i+1)); printf "%d\tmany\n" $i; done') \g :file
\i :file
SELECT count(*) AS got FROM :copied WHERE words = 'many' \gset
:expect ('copied from a program', :got, 20000) :counted
COPY (SELECT * FROM :copied WHERE words = 'many') TO STDOUT \g :file
\set got `wc -l < :'file' | tr -d ' '`
:expect ('many rows copied out', :got, 20000) :counted
\set ON_ERROR_STOP 0
COPY :copied FROM STDIN;
not a number	x
\.
\set ON_ERROR_STOP 1
SELECT count(*) AS got FROM :copied \gset
:expect ('after a copy with an error in it', :got, 20002) :counted

-- Clean up.
DROP TABLE :items, :copied;
SELECT count(*) AS got FROM pg_class WHERE relname IN (:'items', :'copied') \gset
:expect ('dropped', :got, 0) :counted
\set got `rm -f :'file'`
\echo ok :n checks
