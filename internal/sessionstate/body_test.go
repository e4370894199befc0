package sessionstate

import "testing"

func TestScanBodyFindsStatementsInBlocks(t *testing.T) {
	t.Parallel()
	for _, c := range []scanCase{
		{"BEGIN RETURN NEW; END", 0},
		{"BEGIN UPDATE t SET a = 1; RETURN NEW; END;", 0},
		{"DECLARE n int := 1; BEGIN FOR i IN 1..n LOOP n := n + i; END LOOP; END", 0},
		{"BEGIN INSERT INTO t VALUES (1) ON CONFLICT DO UPDATE SET a = 1; END", 0},
		{"BEGIN SET x = 1; END", Set},
		{"<<a>> BEGIN RESET x; END", Set},
		{"BEGIN SET LOCAL x = 1; END", Local},
		{"BEGIN IF a THEN SET x = 1; END IF; END", Set},
		{"BEGIN IF a THEN NULL; ELSE SET x = 1; END IF; END", Set},
		{"BEGIN FOR i IN 1..2 LOOP SET x = 1; END LOOP; END", Set},
		{"BEGIN PERFORM 1; EXCEPTION WHEN others THEN RESET x; END", Set},
		{"BEGIN PERFORM set_config('a', 'b', false); END", SetConfig},
		{"BEGIN PERFORM set_config('a', 'b', true); END", Local},
		{"BEGIN EXECUTE 'SELECT 1'; END", Dynamic},
		{"BEGIN EXECUTE format('SELECT %s', a) INTO b; END", Dynamic},
		{"BEGIN RETURN QUERY EXECUTE a; END", Dynamic},
		{"BEGIN EXECUTE function USING a; END", Dynamic},
		{"BEGIN CREATE TRIGGER a AFTER INSERT ON t EXECUTE FUNCTION f(); END", DDL},
		{"BEGIN GRANT EXECUTE ON FUNCTION f TO bob; END", DDL},
		{"BEGIN IF a THEN CREATE TEMP TABLE t (); END IF; END", DDL | Temp},
		{"BEGIN PERFORM pg_advisory_lock(1); END", AdvisoryLock},
		{"BEGIN CALL p(); COMMIT; END", Call | Commit},
		{"BEGIN NEW.id := nextval('s'); RETURN NEW; END", Nextval},
		{"SELECT 1; SET x = 1", Set},
		{"SELECT count(*) FROM t WHERE a = $1", 0},
		{"set_config_by_name", SetConfig},
	} {
		if got := ScanBody([]byte(c.sql)); got != c.want {
			t.Errorf("ScanBody(%q) = %v, want %v", c.sql, got.Reasons(), c.want.Reasons())
		}
	}
}

func TestScanTagReadsCommandTags(t *testing.T) {
	t.Parallel()
	for tag, want := range map[string]Signals{
		"PREPARE": Prepare, "DEALLOCATE": Deallocate, "DEALLOCATE ALL": Deallocate,
		"DISCARD ALL": Discard, "DISCARD PLANS": Discard, "DISCARD SEQUENCES": Discard, "DISCARD TEMP": Discard,
		"LISTEN": Listen, "UNLISTEN": Unlisten, "LOAD": Load, "DO": Do, "CALL": Call,
		"COMMIT": Commit, "COMMIT PREPARED": Commit, "PREPARE TRANSACTION": Commit,
		"CREATE TABLE": DDL, "CREATE TABLE AS": DDL, "ALTER FUNCTION": DDL, "DROP SCHEMA": DDL,
		"GRANT": DDL, "REVOKE ROLE": DDL, "IMPORT FOREIGN SCHEMA": DDL, "REASSIGN OWNED": DDL,
		"SET": 0, "RESET": 0, "DECLARE CURSOR": 0, "SELECT 1": 0, "INSERT 0 1": 0, "UPDATE 3": 0, "BEGIN": 0,
		"ROLLBACK": 0, "ROLLBACK PREPARED": 0, "NOTIFY": 0, "CLOSE CURSOR": 0, "": 0, "CREATE": 0,
	} {
		if got := ScanTag([]byte(tag)); got != want {
			t.Errorf("ScanTag(%q) = %v, want %v", tag, got.Reasons(), want.Reasons())
		}
	}
}
