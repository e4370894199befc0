package sessionstate

import (
	"strings"
	"testing"
)

type scanCase struct {
	sql  string
	want Signals
}

// recase returns s with the ASCII letters from first to last in the other case.
func recase(s string, first, last byte) string {
	b := []byte(s)
	for i, c := range b {
		if c >= first && c <= last {
			b[i] = c ^ 0x20
		}
	}
	return string(b)
}

func runScan(t *testing.T, cases []scanCase) {
	t.Helper()
	for _, c := range cases {
		for _, sql := range []string{c.sql, recase(c.sql, 'a', 'z'), recase(c.sql, 'A', 'Z')} {
			if strings.Contains(c.sql, "$") && sql != c.sql {
				continue // tags are case-sensitive
			}
			clock := (Clock | MaybeClock) &^ c.want // has a test of its own
			if got := ScanString(sql) &^ clock; got != c.want {
				t.Errorf("ScanString(%q) = %v, want %v", sql, got.Reasons(), c.want.Reasons())
			}
			if got := Scan([]byte(sql)) &^ clock; got != c.want {
				t.Errorf("Scan(%q) = %v, want %v", sql, got.Reasons(), c.want.Reasons())
			}
		}
	}
}

func TestScanReadsTheBodyOfADo(t *testing.T) {
	t.Parallel()
	for sql, want := range map[string]Signals{
		"DO $$ BEGIN NULL; END $$":                                      Do,
		"DO $a$ BEGIN SET x = 1; END $a$":                               Do | Set,
		"DO LANGUAGE plpgsql $$ BEGIN LISTEN a; END $$":                 Do | Listen,
		`DO $$ BEGIN CREATE TEMP TABLE t (); END $$ LANGUAGE "plpgsql"`: Do | Temp | DDL,
		"DO $$ BEGIN EXECUTE 'SET ' || x; END $$":                       Do | Dynamic,
		"DO $$ x $$ LANGUAGE plpython3u":                                Do | Dynamic,
		"DO $$ x $$ LANGUAGE 'plperl'":                                  Do | Dynamic,
		"DO 'BEGIN PERFORM f(); END'":                                   Do,
		"DO 'BEGIN PERFORM f(''x''); END'":                              Do | Dynamic,
		"SELECT $$ SET x = 1 $$":                                        0,
	} {
		if got := ScanString(sql) &^ (Clock | MaybeClock); got != want {
			t.Errorf("ScanString(%q) = %v, want %v", sql, got.Reasons(), want.Reasons())
		}
	}
}

func TestScanFindsWhatReadsTheClock(t *testing.T) {
	t.Parallel()
	for sql, want := range map[string]Signals{
		"select 'now'::timestamptz":            Clock,
		"select timestamp 'Today'":             Clock,
		"select date ' tomorrow '":             Clock,
		"select E'yesterday'":                  Clock,
		"select $$now$$::time":                 Clock,
		"select 'now()'::timestamp":            Clock, // Postgres overlooks the parentheses
		"select '2now'":                        Clock,
		"select now(), 'known', 'nowhere'":     0,
		"select today from tomorrow":           0,
		"select 'no''w'":                       0,
		"select 'it''s'":                       0,
		"select 'a', 'b'":                      0,
		"select 'to'\n'day'":                   MaybeClock,
		"select E'n\\x6fw'::timestamp":         MaybeClock,
		"select U&'\\006eow'::timestamp":       MaybeClock,
		"select x from t where y = 'a' -- now": 0,
	} {
		if got := ScanString(sql); got != want {
			t.Errorf("ScanString(%q) = %v, want %v", sql, got.Reasons(), want.Reasons())
		}
	}
}

func TestScanFindsSettings(t *testing.T) {
	t.Parallel()
	runScan(t, []scanCase{
		{"SET x = 1", Set},
		{"set work_mem to '1GB'", Set},
		{"  \n\t SET x = 1;", Set},
		{"-- hello\nSET x = 1", Set},
		{"-- hello\rSET x = 1", Set},
		{"/* a /* b */ c */SET x = 1", Set},
		{"/**/SET/**/x = 1", Set},
		{"SET SESSION x = 1", Set},
		{"SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", Set},
		{"SET SESSION AUTHORIZATION bob", Set},
		{"SET ROLE bob", Set},
		{"SET TIME ZONE 'UTC'", Set},
		{"SET NAMES 'utf8'", Set},
		{`SET "local" = 1`, Set},
		{"RESET x", Set},
		{"RESET ALL", Set},
		{"RESET SESSION AUTHORIZATION", Set},
		{"SELECT 1; SET x = 1", Set},
		{"SELECT ';'; SET x = 1", Set},
		{"SELECT 1;;; SET x = 1", Set},
		{"SELECT 'it''s' ; SET x = 1", Set},
		{"SELECT $1; SET x = 1", Set},
		{"SELECT $$a;b$$; SET x = 1", Set},
		{"SELECT a$$; SET x = 1; SELECT b$$", Set},
		{"SELECT 1$$; SELECT 1$$; SET x = 1", Set},
		{"SELECT $1$$; SELECT $$; SET x = 1", Set},
		{"SELECT E'\\''; SET x = 1; --'", Set},
		{"SELECT 1e'\\''; SET x = 1; --'", Set},
		{"SELECT E'\\\\'; SET x = 1", Set},
		{"SELECT E'a''\\'b'; SET x = 1", Set},
		{"SELECT '\\\\'; SET x = 1", Set},
		{"SELECT 1 +--\n 2; SET x = 1", Set},
		{"SELECT 1 */* ; */ 2; SET x = 1", Set},
		{`SELECT "a;""b"; SET x = 1`, Set},
		{"SELECT $é$ ' $é$; SET x = 1", Set},
		{"SELECT $a$ $b$ $a$; SET x = 1", Set},
		{"SELECT $a$ $$a$; SET x = 1", Set},
		{"SELECT é; SET x = 1", Set},
		{"SELECT B'01', x'1f', N'x'; SET x = 1", Set},
	})
}

func TestScanTellsLocalSettings(t *testing.T) {
	t.Parallel()
	runScan(t, []scanCase{
		{"SET LOCAL x = 1", Local},
		{"SET LOCAL x.y = 1", Local},
		{`SET LOCAL "x" = 1`, Local},
		{`SET LOCAL U&"x" = 1`, Local},
		{"SET LOCAL ROLE bob", Local},
		{"SET LOCAL TIME ZONE 'UTC'", Local},
		{"SET LOCAL SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", Local},
		{"SET /* a */ LOCAL -- b\n x = 1", Local},
		{"SET TRANSACTION READ ONLY", Local},
		{"SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", Local},
		{"SET CONSTRAINTS ALL DEFERRED", Local},
		{`SET CONSTRAINTS "c" IMMEDIATE`, Local},
		{"BEGIN; SET LOCAL x = 1; SELECT 1; COMMIT", Local | Commit},
		{"SET LOCAL x = 1; SET y = 2", Local | Set},

		// Names that look like those words: all of these outlive the transaction.
		{"SET local.x = 1", Set},
		{"SET transaction.x = 1", Set},
		{"SET constraints.x TO 1", Set},
		{"SET local /* */ . /* */ x = 1", Set},
		{"SET local = 1", Set},
		{"SET local TO 1", Set},
		{"SET LOCAL", Set},
		{"SET", Set},
	})
}

func TestScanReadsTheLastArgumentOfSetConfig(t *testing.T) {
	t.Parallel()
	runScan(t, []scanCase{
		{"SELECT set_config('a', 'b', true)", Local},
		{"SELECT pg_catalog.set_config('a', f(1, g(2), ARRAY[1, 2]), TRUE )", Local},
		{`SELECT "set_config" /* */ ('a', 'b' || $1, true /* yes */)`, Local},
		{"SELECT set_config('a', $1, true), set_config('b', $2, true)", Local},
		{"SELECT set_config('a,b(', 'it''s, )', true)", Local},

		{"SELECT set_config('a', 'b', false)", SetConfig},
		{"SELECT pg_catalog . set_config('a', 'b', false)", SetConfig},
		{"SELECT set_config('a', 'b', $1)", SetConfig},
		{"SELECT set_config('a', 'b', true AND false)", SetConfig},
		{"SELECT set_config('a', 'b', NOT true)", SetConfig},
		{"SELECT set_config('a', 'b', 'true')", SetConfig},
		{`SELECT set_config('a', 'b', "true")`, SetConfig},
		{"SELECT set_config('a', 'b', x.true)", SetConfig},
		{"SELECT set_config('a', true)", SetConfig},
		{"SELECT set_config('a', 'b', 'c', true)", SetConfig},
		{"SELECT set_config('a', ARRAY['b', 'c'], true", SetConfig},
		{"SELECT set_config(ARRAY['a', 'b'][1], true)", SetConfig},
		{"SELECT set_config('a', set_config('b', 'c', true), true)", SetConfig | Local},
		{"SELECT set_config('a', 'b', true), set_config('a', 'b', false)", Local | SetConfig},
		{"SELECT set_config", SetConfig},
		{"SELECT set_config; SELECT ('a', 'b', true)", SetConfig},
		{"SELECT 'set_config'::regproc", SetConfig},
		{"SELECT 1 /* set_config */", SetConfig},
		{"SELECT 1 -- set_config('a', 'b', true)", SetConfig},
		{"SELECT $$ set_config('a', 'b', true) $$", SetConfig},
		{"SELECT $a$ $b$set_config('a', 'b', true)$b$ $a$", SetConfig},
		{"SELECT E'\\nset_config(1, 2, 3)'", SetConfig},
		{`SELECT "x set_config"`, SetConfig},
		{"SELECT set_config_by_name('a', 'b', true)", SetConfig},
		{"SELECT 1set_config('a', 'b', false)", SetConfig},
		{"UPDATE pg_settings SET setting = '1' WHERE name = 'work_mem'", SetConfig},
		{`UPDATE pg_catalog."pg_settings" s SET setting = '1'`, SetConfig},

		{"SELECT * FROM pg_settings", 0},
		{"UPDATE settings SET a = 1", 0},
		{"SELECT my_set_config('a', 'b', false)", 0},
		{"SELECT set_configuration(1)", 0},
		{"SELECT x$set_config(1)", 0},
	})
}

func TestScanFindsPreparedStatements(t *testing.T) {
	t.Parallel()
	runScan(t, []scanCase{
		{"PREPARE a AS SELECT 1", Prepare},
		{`PREPARE "transaction" AS SELECT 1`, Prepare},
		{"PREPARE a (int) AS INSERT INTO t VALUES ($1)", Prepare},
		{"PREPARE transaction AS SELECT 1", Prepare},
		{"PREPARE transaction (int) AS SELECT 1", Prepare},
		{"PREPARE", Prepare},
		{"PREPARE TRANSACTION 'x'", Commit},
		{"PREPARE TRANSACTION E'x'", Commit},
		{"PREPARE TRANSACTION U&'x'", Commit},
		{"PREPARE TRANSACTION $$x$$", Commit},
		{"EXECUTE a", Execute},
		{"EXECUTE a(1)", Execute},
		{"EXECUTE function(1)", Execute},
		{"EXECUTE procedure", Execute},
		{"EXPLAIN EXECUTE a", Execute},
		{"EXPLAIN ANALYZE VERBOSE EXECUTE a", Execute},
		{"EXPLAIN (ANALYZE, BUFFERS) EXECUTE a", Execute},
		{"CREATE TABLE t AS EXECUTE a", DDL | Execute},
		{"CREATE TABLE t AS EXECUTE function WITH NO DATA", DDL | Execute},
		{"CREATE TABLE t AS EXECUTE procedure(1)", DDL | Execute},
		{"CREATE TABLE t AS EXECUTE procedure", DDL | Execute},
		{"DEALLOCATE a", Deallocate},
		{"DEALLOCATE ALL", Deallocate},
		{"SELECT * FROM pg_prepared_statements", PreparedStatements},
		{"SELECT * FROM pg_prepared_statement()", PreparedStatements},
		{`SELECT * FROM pg_catalog."pg_prepared_statements"`, PreparedStatements},

		{"CREATE TRIGGER a AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()", DDL},
		{"CREATE TRIGGER a AFTER INSERT ON t EXECUTE PROCEDURE s.f('x')", DDL},
		{`CREATE EVENT TRIGGER a ON ddl_command_start EXECUTE FUNCTION "f"()`, DDL},
		{"GRANT EXECUTE ON FUNCTION f TO bob", DDL},
		{"GRANT SELECT, EXECUTE ON FUNCTION f TO bob", DDL},
		{"REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA s FROM bob", DDL},
		{"REVOKE GRANT OPTION FOR EXECUTE ON FUNCTION f FROM bob", DDL},
		{"ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO bob", DDL},
		{"SELECT t.execute FROM t", 0},
		{`SELECT "execute" FROM t`, 0},
		{"SELECT * FROM pg_prepared_xacts", 0},
	})
}

func TestScanFindsWhatTheSessionOwns(t *testing.T) {
	t.Parallel()
	runScan(t, []scanCase{
		{"DISCARD ALL", Discard},
		{"DISCARD TEMP", Discard},
		{"LISTEN a", Listen},
		{"UNLISTEN *", Unlisten},
		{"DECLARE c CURSOR WITH HOLD FOR SELECT 1", Hold},
		{"DECLARE c NO SCROLL CURSOR WITH/**/HOLD FOR SELECT 1", Hold},
		{"BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT 1; END", Hold | Commit},
		{"CREATE TEMP TABLE t ()", DDL | Temp},
		{"CREATE TEMPORARY TABLE t ()", DDL | Temp},
		{"CREATE LOCAL TEMP TABLE t ()", DDL | Temp},
		{"CREATE GLOBAL TEMPORARY TABLE t ()", DDL | Temp},
		{"CREATE OR REPLACE TEMP VIEW v AS SELECT 1", DDL | Temp},
		{"CREATE /* */ TEMP -- \n SEQUENCE s", DDL | Temp},
		{"EXPLAIN ANALYZE CREATE TEMP TABLE t AS SELECT 1", Temp},
		{"SELECT 1 INTO TEMP t", Temp},
		{"SELECT 1INTO TEMP t", Temp},
		{"SELECT 1.INTO TEMP t", Temp},
		{"SELECT 1 INTO LOCAL TEMPORARY TABLE t", Temp},
		{"CREATE TABLE pg_temp.t ()", DDL | Temp},
		{`CREATE TABLE "pg_temp".t ()`, DDL | Temp},
		{"SELECT * FROM pg_temp_3.t", Temp},
		{"DROP TABLE pg_toast_temp_3.t", DDL | Temp},
		{"SELECT 'pg_temp.t'::regclass", Temp},
		{"SET LOCAL search_path = 'pg_temp'", Local | Temp},
		{"SELECT pg_advisory_lock(1)", AdvisoryLock},
		{"SELECT pg_catalog.pg_advisory_lock_shared(1)", AdvisoryLock},
		{"SELECT pg_try_advisory_lock(1)", AdvisoryLock},
		{"SELECT PG_ADVISORY_UNLOCK_ALL()", AdvisoryLock},
		{"SELECT $$pg_advisory_lock$$", AdvisoryLock},
		{"LOAD 'auto_explain'", Load},
		{"DO $$ BEGIN END $$", Do},
		{"CALL p()", Call},
		{"SELECT currval('s')", Sequence},
		{"SELECT lastval()", Sequence},
		{"SELECT nextval('s')", Nextval},
		{"SELECT setval('s', 1)", Nextval},
		{"SELECT nextval('s'), currval('s')", Nextval | Sequence},
		{"SELECT setseed(0.5)", Setseed},
		{"SET seed = 0.5", Set | Setseed}, {`SET SESSION "seed" TO 0.5`, Set | Setseed}, {"SET LOCAL Seed = 0.5", Local | Setseed},
		{"SELECT set_config('seed', '0.5', true)", Local | Setseed}, {"SELECT seed FROM t", 0},
		{"SELECT dblink_connect('x')", Dblink},
		{"SELECT * FROM dblink('a', 'b')", Dblink},
		{"SELECT pg_replication_origin_session_setup('x')", Replication},
		{"SELECT pg_create_logical_replication_slot('x', 'y', true)", Replication},
		{"SELECT pg_create_physical_replication_slot('x', false, true)", Replication},
		{"SELECT pg_backup_start('x')", Backup},
		{"SELECT pg_stop_backup()", Backup},
		{"SELECT set_limit(0.5)", StateFunction},
		{"SELECT set_user('bob')", StateFunction},
		{"SELECT hypopg_create_index('x')", StateFunction},
		{"SELECT pgv_set('a', 'b', 1)", StateFunction},
		{"SELECT query_to_xml($1, true, true, '')", Dynamic},
		{"SELECT * FROM crosstab($1) AS t(a int)", Dynamic},
		{"SELECT * FROM pgr_dijkstra($1, 1, 2)", Dynamic},
		{"SELECT dblİnk('x')", Dblink},
		{"SELECT set_conf\xddg('a', 'b', true)", SetConfig},
	})
}

func TestScanLeavesTheRestAlone(t *testing.T) {
	t.Parallel()
	runScan(t, []scanCase{
		{"", 0},
		{";", 0},
		{"SELECT 1", 0},
		{"SELECT abalance FROM pgbench_accounts WHERE aid = $1;", 0},
		{"UPDATE t SET a = 1", 0},
		{"INSERT INTO t VALUES (1) ON CONFLICT DO UPDATE SET a = 1", 0},
		{"INSERT INTO t VALUES ('SET x = 1; PREPARE a AS SELECT 1; LISTEN b')", 0},
		{"SELECT 1 /* ; SET x = 1 */", 0},
		{"SELECT 1 -- ; SET x = 1", 0},
		{"SELECT $$; SET x = 1$$", 0},
		{"SELECT $a$; SET x = 1 $$ $A$ $a$", 0},
		{`SELECT "; SET x = 1" FROM t`, 0},
		{"SELECT E'\\'; SET x = 1'", 0},
		{"SELECT E'''; SET x = 1'", 0},
		{"SELECT U&'\\0041' || U&\"a\"", 0},
		{"ALTER ROLE bob SET x = 1", DDL},
		{"ALTER DATABASE d SET x TO 1", DDL},
		{"ALTER TABLE t ALTER a SET DEFAULT 1", DDL},
		{"CREATE FUNCTION f() RETURNS int LANGUAGE sql SET x = 1 AS 'SELECT 1'", DDL},
		{"CREATE EXTENSION hstore", DDL},
		{"DROP TABLE t", DDL},
		{"IMPORT FOREIGN SCHEMA s FROM SERVER x INTO y", DDL},
		{"COPY t FROM PROGRAM 'x'", 0},
		{"COPY t TO STDOUT WITH (FORMAT csv)", 0},
		{"BEGIN", 0},
		{"START TRANSACTION READ ONLY", 0},
		{"SAVEPOINT a", 0},
		{"RELEASE a", 0},
		{"NOTIFY a, 'b'", Notify},
		{"SELECT pg_notify('a', 'b')", Notify},
		{"FETCH ALL FROM c", 0},
		{"CLOSE ALL", 0},
		{"DECLARE c CURSOR FOR SELECT 1", 0},
		{"DECLARE c CURSOR WITHOUT HOLD FOR SELECT 1", 0},
		{"SELECT hold, temp, local, load FROM t", 0},
		{"SELECT 'a' AS temporary", 0},
		{"INSERT INTO readings (temp) VALUES (1)", 0},
		{"SELECT pg_advisory_xact_lock(1), pg_try_advisory_xact_lock_shared(2)", 0},
		{"SELECT pg_export_snapshot()", 0},
		{"SELECT lo_open(1, 2)", 0},
		{"SELECT 'set_limit query_to_xml'", 0},
		{"SELECT pg_template FROM t", 0},
		{"SECURITY LABEL ON TABLE t IS 'x'", 0},
		{"SELECT a::text, b FROM t WHERE c @> '{}' AND d -> 'e' ->> 'f' = $2", 0},
		{"SELECT a[1], 姓||名, 姓||'x' FROM t", 0},
		{"SELECT 'C:\\temp\\x'", 0},
		{"EXPLAIN SELECT 1", 0},
		{"MERGE INTO t USING s ON true WHEN MATCHED THEN UPDATE SET a = 1", 0},
		{"\xff\xfe\x00", 0},
	})
}

func TestScanTellsWhatMayCommit(t *testing.T) {
	t.Parallel()
	runScan(t, []scanCase{
		{"COMMIT", Commit},
		{"COMMIT AND CHAIN", Commit},
		{"COMMIT PREPARED 'x'", Commit},
		{"END", Commit},
		{"SELECT 1; END WORK", Commit},
		{"ROLLBACK AND CHAIN", Commit},
		{"ABORT WORK AND CHAIN", Commit},
		{"ROLLBACK", 0},
		{"ROLLBACK AND NO CHAIN", 0},
		{"ROLLBACK TO SAVEPOINT a", 0},
		{"ROLLBACK PREPARED 'x'", 0},
		{"ABORT", 0},
		{"SELECT CASE WHEN a THEN 1 END", 0},
		{"CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT 2; END", DDL | Commit},
	})
	if !Ambiguous.MayCommit() || !Commit.MayCommit() || (Set | DDL).MayCommit() {
		t.Error("MayCommit is wrong about Ambiguous, Commit or Set and DDL")
	}
}

func TestScanSaysWhenItCannotTell(t *testing.T) {
	t.Parallel()
	for _, sql := range []string{
		`SELECT 'a\'; SET x = 1; --'`,
		`SELECT 'a\''; SET x = 1; --'`,
		`SELECT '\\\'`,
		`SELECT 'a`,
		`SELECT "a`,
		`SELECT $$a`,
		`SELECT $a$a$A$`,
		`SELECT E'a\'`,
		`SELECT E'`,
		"SELECT E'a'\n'b\\'; SET x = 1; --'",
		`/* SELECT /* 1 */`,
		`/*/`,
		`SELECT U&"set\005fconfig"('a', 'b', false)`,
		`SELECT u&"set!005fconfig" UESCAPE '!' ('a', 'b', false)`,
		"SELECT E'\x83\\'; SET x = 1; --'", // SJIS: the backslash is half a character
		"SELECT '\x83\\\\'; SET x = 1; --'",
		"SELECT a\x83\\$$; SET x = 1; SELECT b\x83\\$$",
		"SELECT a\x83|E'\\'; SET x = 1; --'",
		"SELECT $\x83[$ ' $\x83[$; SET x = 1 --'",
	} {
		if got := ScanString(sql); got&Ambiguous == 0 || !got.Sticky() {
			t.Errorf("ScanString(%q) = %v, want ambiguous among them", sql, got.Reasons())
		}
	}
}
