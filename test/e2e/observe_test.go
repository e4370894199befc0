package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/proxy"
)

// TestSessionPortTellsWhatTheTransactionPortWouldPin holds the report against what the transaction port then does.
func TestSessionPortTellsWhatTheTransactionPortWouldPin(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, "observe_transaction_mode: true\nstate_check: hint"))
	for lock, mode := range []string{"session", "transaction"} {
		c := r.connect(mode, "alice", "application_name=worker")
		for _, sql := range []string{
			"CREATE TEMP TABLE observed (a int)", fmt.Sprintf("SELECT pg_advisory_lock(4711, %d)", lock), "SELECT 'nothing'",
			"SET app.observed = 'secret'", "BEGIN", "SET LOCAL app.observed = 'secret'", "COMMIT",
		} {
			r.exec(c, sql)
		}
	}
	var lines []string
	for _, e := range r.srv.TransactionMode().Tenants[0].Effects {
		lines = append(lines, strings.Join([]string{e.Database, e.Role, e.Application, string(e.Effect), e.Reason, e.Statement}, " "))
	}
	want := []string{
		"app alice worker pins temp CREATE TEMP TABLE observed (a int)",
		"app alice worker pins advisory_lock SELECT pg_advisory_lock(?)",
		"app alice worker asks set SET app.observed = ?",
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	r.eventually("the session of the transaction port is pinned by the first of them", func() bool {
		return pinsOf(r.srv, "transaction")["temp"] == 1
	})
}

func pinsOf(srv *proxy.Server, mode string) map[string]uint64 {
	for _, p := range srv.Status().Tenants[0].Pools {
		if p.Mode == mode {
			return p.Pins
		}
	}
	return nil
}

func TestObservingNamesTheCodeBehindStatements(t *testing.T) {
	t.Parallel()
	pg, err := startCluster(t.Context())
	must(t, err)
	t.Cleanup(func() { _ = pg.Stop() })
	r := start(t, pg, base(pg, "observe_transaction_mode: true"))
	c := r.connect("session", "alice", "")
	if got := r.srv.TransactionMode().Tenants[0].Code; len(got) > 0 {
		t.Errorf("got %v, want nothing in an empty database", got)
	}
	r.exec(c, "CREATE FUNCTION opaque() RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'SELECT 1'; END $$")
	r.eventually("the function is named", func() bool {
		got := r.srv.TransactionMode().Tenants[0].Code
		return len(got) == 1 && got[0].Database == "app" && strings.HasSuffix(got[0].Function, "opaque()")
	})
}
