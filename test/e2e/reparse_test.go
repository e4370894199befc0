package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
)

// TestStatementsKeepTheSettingsOfTheirParse plays scripts on a direct connection and on the transaction port, where the session
// is on another backend after each step: what a statement was parsed to mean stays.
func TestStatementsKeepTheSettingsOfTheirParse(t *testing.T) {
	t.Parallel()
	pg := ownCluster(t) // else whoever makes a schema has Postgres look at statements again
	r := start(t, pg, base(pg, twoBackends))
	direct, err := pgx.Connect(t.Context(), pg.URL("alice", "alice-secret", "app"))
	must(t, err)
	defer direct.Close(context.Background())
	r.exec(direct, "CREATE SCHEMA elsewhere")
	const zoned, wanted = "SELECT timestamptz '2020-01-01 00:00', date '01/02/2020', interval '-1 2:03', timestamptz '2020-06-01' AT TIME ZONE 'UTC'", "run"
	for name, script := range map[string][]string{
		"TimeZone":                    {"parse " + zoned, "SET TimeZone = 'Asia/Tokyo'", wanted, "SET TimeZone = 'America/Lima'", wanted, "RESET TimeZone", wanted},
		"TimeZone that is reset":      {"SET TimeZone = 'Asia/Tokyo'", "parse " + zoned, "RESET TimeZone", wanted},
		"DateStyle":                   {"parse " + zoned, "SET DateStyle = 'German, DMY'", wanted},
		"IntervalStyle":               {"parse " + zoned, "SET IntervalStyle = 'sql_standard'", wanted},
		"several":                     {"SET DateStyle = 'SQL, DMY'", "parse " + zoned, "SET DateStyle = 'ISO, MDY'; SET TimeZone = 'Africa/Cairo'", wanted},
		"set in the same transaction": {"BEGIN", "SET TimeZone = 'Asia/Tokyo'", "parse " + zoned, "COMMIT", wanted, "RESET TimeZone", wanted},
		"run in a block":              {"parse " + zoned, "SET TimeZone = 'Asia/Tokyo'", "BEGIN", wanted, "SHOW TimeZone", "ROLLBACK", "SHOW TimeZone", wanted},
		"another search_path":         {"parse " + zoned, "SET TimeZone = 'Asia/Tokyo'", "SET search_path = elsewhere", wanted},
		"another role":                {"parse SELECT timestamptz '2020-01-01', current_user", "SET TimeZone = 'Asia/Tokyo'", "SET ROLE alice", wanted},
		"backslashes":                 {"SET standard_conforming_strings = off", `parse SELECT 'a\nb'`, "RESET standard_conforming_strings", wanted, "SET search_path = elsewhere", wanted},
		"encoding":                    {"SET client_encoding = 'LATIN1'", "parse SELECT 'caf\xe9', octet_length('caf\xe9')", "RESET client_encoding", wanted},
		"under its own name":          {"parse " + zoned, "SET TimeZone = 'Asia/Tokyo'", "EXECUTE s", "SHOW TimeZone"},
		"fails":                       {"parse SELECT timestamptz '2020-01-01'", "SET TimeZone = 'Asia/Tokyo'", "SELECT 1/0", wanted, "SHOW TimeZone"},
	} {
		c, d := r.connect("transaction", "alice", simple), r.connect("transaction", "alice", simple)
		e := r.connect("transaction", "alice", simple)
		want := playReparse(t, direct, script, func(bool) {})
		r.exec(direct, "DISCARD ALL")
		got := playReparse(t, c, script, func(inBlock bool) {
			if inBlock {
				return
			}
			pid := runRaw(t, c, "SELECT pg_backend_pid()")
			runRaw(t, c, "BEGIN")
			runRaw(t, d, "BEGIN") // on the other backend
			runRaw(t, c, "COMMIT")
			runRaw(t, e, "BEGIN") // on c's
			runRaw(t, d, "COMMIT")
			if now := runRaw(t, c, "SELECT pg_backend_pid()"); now == pid {
				t.Errorf("%s: the session has stayed on its backend", name)
			}
			runRaw(t, e, "COMMIT")
		})
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-direct +got):\n%s", name, diff)
		}
		for _, c := range []*pgx.Conn{c, d, e} {
			must(t, c.Close(t.Context()))
		}
	}
	if n := r.counter("sluice_pins_total"); n != 0 {
		t.Logf("%v pins", n)
	}
}

// playReparse plays the script and returns what came of it; between is called between its steps.
func playReparse(t *testing.T, c *pgx.Conn, script []string, between func(inBlock bool)) (answers []string) {
	t.Helper()
	conn := c.PgConn()
	for _, step := range script {
		var err error
		var rows [][][]byte
		sql, parses := strings.CutPrefix(step, "parse ")
		switch {
		case parses:
			_, err = conn.Prepare(t.Context(), "s", sql, nil)
		case step == "run":
			result := conn.ExecPrepared(t.Context(), "s", nil, nil, nil).Read()
			rows, err = result.Rows, result.Err
		default:
			results, errs := conn.Exec(t.Context(), step).ReadAll()
			if err = errs; len(results) > 0 {
				rows = results[0].Rows
			}
		}
		answers = append(answers, fmt.Sprintf("%s: %q %s", step, rows, sqlstate(err)))
		between(conn.TxStatus() != 'I')
	}
	return answers
}

// runRaw runs sql as a simple query, whatever the client's settings, and returns the rows.
func runRaw(t *testing.T, c *pgx.Conn, sql string) string {
	t.Helper()
	results, err := c.PgConn().Exec(t.Context(), sql).ReadAll()
	must(t, err)
	return fmt.Sprintf("%q", results[0].Rows)
}
