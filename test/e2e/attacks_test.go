package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// Attacks on poolers that are known by a number and need a real Postgres; the others are in proxy.

// unqualified is an auth.query that names nothing with its schema, and that an attacker can aim at by that.
const unqualified = `SELECT rolname, rolpassword, rolvaliduntil FROM pg_authid WHERE rolname = lower($1) AND rolcanlogin`

// logInWith logs in as alice to both ports with a password and start-up parameters, and returns the SQLSTATEs, or
// how else it ends.
func (r *rig) logInWith(password, params string) (states []string) {
	r.t.Helper()
	for _, mode := range []string{"session", "transaction"} {
		c, err := pgx.Connect(r.ctx(), fmt.Sprintf("postgres://alice:%s@%s/app?sslmode=disable%s", password, r.addr[mode], params))
		switch {
		case err == nil:
			_ = c.Close(context.Background())
			states = append(states, "let in")
		case sqlstate(err) == "":
			states = append(states, err.Error())
		default:
			states = append(states, sqlstate(err))
		}
	}
	return states
}

// CVE-2025-12819: a search_path in the start-up packet leads the query that looks passwords up to the attacker's tables,
// functions and operators.
func TestAttackSearchPathDuringAuthQuery(t *testing.T) {
	t.Parallel()
	pg := ownCluster(t)
	must(t, pg.Exec(context.Background(),
		"CREATE SCHEMA evil", "GRANT USAGE ON SCHEMA evil TO PUBLIC",
		"CREATE TABLE evil.ran (what text)", "GRANT INSERT ON evil.ran TO PUBLIC",
		"CREATE VIEW evil.pg_authid AS SELECT 'alice'::name AS rolname, 'guessed'::text AS rolpassword, NULL::timestamptz AS rolvaliduntil, true AS rolcanlogin",
		"GRANT SELECT ON evil.pg_authid TO PUBLIC",
		`CREATE FUNCTION evil.lower(text) RETURNS text LANGUAGE sql AS $$ INSERT INTO evil.ran VALUES ('lower'); SELECT $1 $$`,
		`CREATE FUNCTION evil.same(name, text) RETURNS boolean LANGUAGE sql AS $$ INSERT INTO evil.ran VALUES ('='); SELECT true $$`,
		`CREATE OPERATOR evil.= (LEFTARG = name, RIGHTARG = text, FUNCTION = evil.same)`,
	))
	r := start(t, pg, strings.Replace(base(pg, ""), authQuery, unqualified, 1))
	for _, params := range []string{
		"&search_path=evil,pg_catalog", "&options=-c%20search_path%3Devil,pg_catalog", "&options=--search_path%3Devil,pg_catalog",
	} {
		if got := r.logInWith("guessed", params); got[0] != "28P01" || got[1] != "28P01" {
			t.Errorf("%s: the attacker's password: %q, want 28P01", params, got)
		}
		if got := r.logInWith("alice-secret", params); got[0] != "let in" || got[1] != "let in" {
			t.Errorf("%s: the right password: %q", params, got)
		}
	}
	if n, err := pg.Value(r.ctx(), "SELECT count(*) FROM evil.ran"); err != nil || n != "0" {
		t.Errorf("the attacker's code has run: %s, %v", n, err)
	}
}

// CVE-2025-2291: a password that has expired is still good for a pooler that looks it up.
func TestAttackExpiredPassword(t *testing.T) {
	t.Parallel()
	pg := ownCluster(t)
	r := start(t, pg, strings.Replace(base(pg, ""), "auth: {", "auth: {query_cache: 1h, ", 1))
	must(t, pg.Exec(r.ctx(), "ALTER ROLE alice VALID UNTIL '2001-01-01'"))
	if got := r.logInWith("alice-secret", ""); got[0] != "28P01" || got[1] != "28P01" {
		t.Errorf("an expired password: %q, want 28P01", got)
	}
	must(t, pg.Exec(r.ctx(), "ALTER ROLE alice VALID UNTIL '9999-01-01'"))
	r.eventually("a password that is valid again is taken", func() bool {
		got := r.logInWith("alice-secret", "")
		return got[0] == "let in" && got[1] == "let in"
	})
}

// CVE-2026-6667: who may look, or nobody in particular, gives commands to the pooler. There is no console: its commands are
// statements, which Postgres does not know, and its database is one that Postgres does not have.
func TestAttackConsoleCommandsOfAnyone(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, ""))
	for _, mode := range []string{"session", "transaction"} {
		for _, database := range []string{"pgbouncer", "sluice"} {
			if _, err := pgx.Connect(r.ctx(), fmt.Sprintf("postgres://alice:alice-secret@%s/%s?sslmode=disable", r.addr[mode], database)); sqlstate(err) != "3D000" {
				t.Errorf("database %s on the %s port: %v, want 3D000", database, mode, err)
			}
		}
		c := r.connect(mode, "alice", "")
		for _, command := range []string{"SHUTDOWN", "PAUSE", "SUSPEND", "RELOAD", "KILL app", "KILL_CLIENT 1", "DISABLE app", "RECONNECT", "WAIT_CLOSE", "SHOW CLIENTS"} {
			_, err := c.Exec(r.ctx(), command, pgx.QueryExecModeSimpleProtocol)
			if got := sqlstate(err); got != "42601" && got != "42704" { // no such statement; no such setting
				t.Errorf("%s on the %s port: %v, want Postgres's error", command, mode, err)
			}
		}
	}
	if got := r.value(r.connect("transaction", "bob", ""), "SELECT 'served'"); got != "served" {
		t.Errorf("got %q", got)
	}
}
