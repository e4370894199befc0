package e2e

import (
	"fmt"
	"strings"
	"testing"
)

func TestLearnAsksWhereItHasSeenAChange(t *testing.T) {
	t.Parallel()
	r := startCode(t, oneBackend+"\nstate_check: learn", setsUser, "CREATE TABLE t (a int)")
	a, b := r.client(), r.client()
	questions := func() float64 { return r.counter("sluice_state_questions_total") }
	r.exec(a, "SELECT login('a')")
	r.want(b, "the other", who, "")
	before := questions()
	for i := range 200 {
		r.exec(b, fmt.Sprint("INSERT INTO t VALUES (", i, ")"))
	}
	if n := questions() - before; n == 0 || n > 40 {
		t.Errorf("%v questions behind 200 statements that change nothing, want a sample", n)
	}
	before = questions()
	for i := range 100 {
		r.exec(a, fmt.Sprintf("SELECT login('a%d')", i))
	}
	if n := questions() - before; n != 100 {
		t.Errorf("%v questions behind 100 statements that change something, want as many", n)
	}
	r.want(a, "the client", who, "a99")
}

func TestHintThrowsAwayABackendWithWhatNobodyHasAnnounced(t *testing.T) {
	t.Parallel()
	r := startCode(t, oneBackend+"\nstate_check: hint", "CREATE FUNCTION tune() RETURNS int LANGUAGE plpgsql AS $$ BEGIN SET work_mem = '77MB'; RETURN 1; END $$")
	a, b := r.client(), r.client()
	r.exec(a, "SELECT tune()")
	if n := r.counter("sluice_state_questions_total"); n != 0 {
		t.Errorf("%v questions, want none", n)
	}
	r.exec(b, "SET app.who = 'b'")
	r.want(b, "the other", "current_setting('work_mem')", "4MB")
	r.want(b, "the other", who, "b")
	r.want(a, "the client", "current_setting('work_mem')", "4MB")
	if n := r.counter("sluice_state_leaks_prevented_total"); n != 1 {
		t.Errorf("%v leaks prevented, want 1", n)
	}
	if logged := r.logs.String(); !strings.Contains(logged, "names=[work_mem] backend_discarded=true") {
		t.Error("the log does not name the change")
	}
	r.exec(b, "SET work_mem = '5MB'")
	r.want(a, "the client", "current_setting('work_mem')", "4MB")
	r.want(b, "the other", "current_setting('work_mem')", "5MB")
}
