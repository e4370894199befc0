package relay

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"sluice/internal/wire"
)

// What is injected to carry one setting in front of the client's messages, on a backend where that is done for the first time
// and on another, with Postgres's answers.
const (
	firstLeadWords = "P:sluice_begin P:sluice_commit B:sluice_begin E P:sluice_set B:sluice_set E B:sluice_commit E H"
	leadWords      = "B:sluice_begin E B:sluice_set E B:sluice_commit E H"
)

var (
	firstLed = []pgproto3.Message{parsed, parsed, bound, done, parsed, bound, row, done, bound, done}
	led      = []pgproto3.Message{bound, done, bound, row, done, bound, done}
)

// proven returns a machine whose session has set the settings that the question's rows say, and has carried them once: the
// backend that it carried them to, and another one that knows Sluice's statements but carries nothing.
func proven(t *testing.T, sql string, rows ...[4]string) (r *rig, carrying, other *Backend) {
	t.Helper()
	r = newRig(t, Params{}).attach()
	r.sets(true, sql, rows...)
	r.m.Detach()
	carrying, other = NewBackend(10, application), NewBackend(10, application)
	r.attachTo(carrying)
	r.carry("P:sluice_set B:sluice_set E S")
	r.answer("", "", parsed, bound, row, done, idle)
	r.selects()
	r.m.Detach()
	other.settable, other.leadable, carrying.leadable = true, true, true
	return r, carrying, other
}

// selects has the client run a query.
func (r *rig) selects() {
	r.t.Helper()
	r.client("Q:select 1", "", query("select 1"))
	r.answer("", "C Z:I", done, idle)
	if !r.m.Free() {
		r.t.Error("not free")
	}
}

var tenant = [4]string{"s", "app.tenant", "7", "-"}

func TestWhatPostgresHasAcceptedLeadsTheClientsMessages(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		toBackend string
		msgs      []pgproto3.Message
		answer    []pgproto3.Message
		toClient  string
	}{
		"simple": {"Q:select 1", []pgproto3.Message{query("select 1")}, []pgproto3.Message{done, idle}, "C Z:I"},
		"extended": {"P:sluice_1 B:sluice_1 E S", []pgproto3.Message{parse("s", "select 1"), bind("s"), exec, syncMsg},
			[]pgproto3.Message{parsed, bound, done, idle}, "1 2 C Z:I"},
		"two queries": {"Q:select 1 Q:select 2", []pgproto3.Message{query("select 1"), query("select 2")},
			[]pgproto3.Message{done, idle, done, idle}, "C Z:I C Z:I"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, _, other := proven(t, "set app.tenant = 7", tenant)
			r.attachTo(other)
			r.carry(leadWords)
			if next := r.client(tc.toBackend, "", tc.msgs...); next != More {
				t.Fatalf("next = %d, want More", next)
			}
			if r.m.Running() || !r.m.Owes() || r.m.Free() || r.m.Loss() != LostUnknown {
				t.Errorf("running = %t, owes = %t, free = %t, loss = %d", r.m.Running(), r.m.Owes(), r.m.Free(), r.m.Loss())
			}
			r.answer("", "", led...)
			if !r.m.Running() {
				t.Error("the client's statement does not run")
			}
			r.answer("", tc.toClient, tc.answer...)
			if !r.m.Free() || other.State() != r.m.State() {
				t.Errorf("free = %t, the backend has state %q, the session %q", r.m.Free(), other.State(), r.m.State())
			}
		})
	}
}

func TestNothingRunsBehindALeadThatFails(t *testing.T) {
	t.Parallel()
	r, _, other := proven(t, "set app.tenant = 7", tenant)
	r.attachTo(other)
	r.carry(leadWords)
	r.client("Q:delete from t", "", query("delete from t"))
	r.answer("", "", bound, done)
	var b, c Out
	refused := encode(t, bound, &pgproto3.ErrorResponse{Severity: "ERROR", Code: "22023", Message: "no"})
	if _, err := r.m.FromBackend(refused, &b, &c); !errors.Is(err, ErrCarry) || !c.Empty() {
		t.Fatalf("err = %v, to the client %q", err, words(c.Bytes()))
	}
	if got := r.m.Loss(); got != LostNothing {
		t.Errorf("loss = %d, want LostNothing: Postgres has dropped the query", got)
	}
}

func TestNothingIsSentBehindTheFirstSyncBeforePostgresAgrees(t *testing.T) {
	t.Parallel()
	r, _, other := proven(t, "set app.tenant = 7", tenant)
	r.attachTo(other)
	r.carry(leadWords)
	// A failure would have Postgres go on behind the Sync, with the settings of somebody else.
	if next := r.client("P:sluice_1 B:sluice_1 E S", "", parse("s", "select 1"), bind("s"), exec, syncMsg, query("delete from t")); next != Blocked {
		t.Fatalf("next = %d, want Blocked", next)
	}
	r.answer("", "", led...)
	r.client("Q:delete from t", "")
	r.answer("", "1 2 C Z:I C Z:I", parsed, bound, done, idle, done, idle)
}

func TestWhatIsGivenBackLeads(t *testing.T) {
	t.Parallel()
	_, carrying, _ := proven(t, "set app.tenant = 7", tenant)
	plain := newRig(t, Params{}).attachTo(carrying)
	plain.carry(leadWords)
	plain.client("Q:select 1", "", query("select 1"))
	plain.answer("", "", led...)
	plain.answer("", "C Z:I", done, idle)
	if carrying.State() != "" {
		t.Errorf("the backend has state %q, want none", carrying.State())
	}
}

func TestRoleNeverLeads(t *testing.T) {
	t.Parallel()
	r, carrying, other := proven(t, "set role bob", [4]string{"s", "role", "bob", "none"})
	r.attachTo(other)
	r.carry("B:sluice_set E S")
	if next := r.client("", "", query("delete from t")); next != Blocked {
		t.Errorf("next = %d, want Blocked: who one is is to be certain", next)
	}
	plain := newRig(t, Params{}).attachTo(carrying)
	plain.carry("B:sluice_set E S")
	if next := plain.client("", "", query("delete from t")); next != Blocked {
		t.Errorf("next = %d, want Blocked: who one is not as well", next)
	}
}

func TestShortTimeoutsDoNotLead(t *testing.T) {
	t.Parallel()
	for ms, want := range map[string]string{"999": "B:sluice_set E S", "1000": leadWords} {
		r := newRig(t, Params{}).attach()
		r.sets(true, "set statement_timeout = "+ms, [4]string{"s", "statement_timeout", ms, "0"})
		r.m.proven = true
		r.m.Detach()
		r.attach()
		r.backend.settable, r.backend.leadable = true, true
		r.carry(want)
	}
}

func TestStateLooksPastTimeouts(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{}).attach()
	r.sets(true, "set statement_timeout = 5000", [4]string{"s", "statement_timeout", "5000", "0"}, tenant)
	var b Out
	r.m.Calm(&b)
	if got := r.backend.State(); got == "" || got != r.m.State() {
		t.Errorf("the backend has state %q, the session prefers %q", got, r.m.State())
	}
}

func TestClientThatGoesBeforeItsMessageLeavesACleanBackend(t *testing.T) {
	t.Parallel()
	r, _, other := proven(t, "set app.tenant = 7", tenant)
	r.attachTo(other)
	r.carry(leadWords)
	var b Out
	if !r.m.Abandon(false, &b) || words(b.Bytes()) != "S" { // or Postgres would keep its answers back
		t.Fatalf("sent %q, want S", words(b.Bytes()))
	}
	r.answer("", "", append(led, idle)...)
	if !r.m.Free() {
		t.Error("not free")
	}
}

func TestClientThatGoesInTheMiddleLeavesACleanBackend(t *testing.T) {
	t.Parallel()
	r, _, other := proven(t, "set app.tenant = 7", tenant)
	r.attachTo(other)
	r.carry(leadWords)
	r.client("P:sluice_1 B:sluice_1 E", "", parse("s", "insert into t values (1)"), bind("s"), exec)
	var b Out
	if !r.m.Abandon(false, &b) || words(b.Bytes()) != "D:sluice_? S" {
		t.Fatalf("sent %q, want what fails and S", words(b.Bytes()))
	}
	missing := &pgproto3.ErrorResponse{Severity: "ERROR", Code: "26000"}
	r.answer("", "", append(append([]pgproto3.Message(nil), led...), parsed, bound, done, missing, idle)...)
	if !r.m.Free() {
		t.Error("not free")
	}
}

// Postgres reports only in front of ReadyForQuery, and only what differs from what it has reported last.
func TestWhatPostgresReportsDoesNotLead(t *testing.T) {
	t.Parallel()
	_, carrying, _ := proven(t, "set timezone = 'Asia/Tokyo'", [4]string{"s", "TimeZone", "Asia/Tokyo", "UTC"})
	r := newRig(t, Params{Baseline: []wire.Param{{Name: "TimeZone", Value: "UTC"}}}).attachTo(carrying)
	r.carry("B:sluice_set E S")
	if next := r.client("", "", query("set timezone = 'Asia/Tokyo'")); next != Blocked {
		t.Errorf("next = %d, want Blocked", next)
	}
}

func TestApplicationNameIsReportedInFrontOfWhatLeads(t *testing.T) {
	t.Parallel()
	_, carrying, _ := proven(t, "set app.tenant = 7", tenant)
	r := newRig(t, Params{}).attachTo(carrying)
	r.m.application = "other"
	r.carry("B:sluice_set E S " + leadWords)
	r.client("Q:select 1", "", query("select 1"))
	r.answer("", "", bound, row, done, &pgproto3.ParameterStatus{Name: "application_name", Value: "other"}, idle)
	r.answer("", "", led...)
	r.answer("", "C Z:I", done, idle)
}

func TestRawSessionWaitsForWhatLeads(t *testing.T) {
	t.Parallel()
	r, _, other := proven(t, "set app.tenant = 7", tenant)
	r.attachTo(other)
	r.carry(leadWords)
	const sql = "load 'lib'"
	if next := r.client("", "", query(sql)); next != Blocked { // the Flush has Postgres answer
		t.Fatalf("next = %d, want Blocked", next)
	}
	r.answer("", "", led...)
	r.client("C:sluice_set C:sluice_begin C:sluice_commit S Q:"+sql, "")
}

func TestDiscardedSequencesThatFailAreNoProofThatNothingRan(t *testing.T) {
	t.Parallel()
	r, _, other := proven(t, "set app.tenant = 7", tenant)
	r.attachTo(other)
	var b, c Out
	r.m.DiscardSequences(&b) // with a Sync of its own
	r.carry(leadWords)
	r.client("Q:delete from t", "", query("delete from t"))
	refused := encode(t, parsed, bound, &pgproto3.ErrorResponse{Severity: "ERROR", Code: "57014"})
	if _, err := r.m.FromBackend(refused, &b, &c); !errors.Is(err, ErrCarry) {
		t.Fatal(err)
	}
	if got := r.m.Loss(); got != LostUnknown {
		t.Errorf("loss = %d, want LostUnknown", got)
	}
}
