package relay

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgproto3"

	"sluice/internal/prepared"
	"sluice/internal/wire"
)

// The question as words, on a backend that has not been asked before and on one that has.
const (
	questionWords = "C:sluice_ask P:sluice_ask " + againWords
	againWords    = "B:sluice_ask E S"
)

// held is Postgres's answer to the question: rows of kind, name, value and default; "-" is NULL. first says that the
// backend is asked for the first time.
func held(first bool, rows ...[4]string) []pgproto3.Message {
	var msgs []pgproto3.Message
	if first {
		msgs = append(msgs, closed, parsed)
	}
	msgs = append(msgs, bound)
	for _, r := range rows {
		var values [][]byte
		for _, v := range r {
			if v == "-" {
				values = append(values, nil)
			} else {
				values = append(values, []byte(v))
			}
		}
		msgs = append(msgs, &pgproto3.DataRow{Values: values})
	}
	return append(msgs, done, idle)
}

var noRole = [4]string{"s", "role", "none", "none"}

// sets has the client run sql outside of a block and Postgres answer the question after it with rows.
func (r *rig) sets(first bool, sql string, rows ...[4]string) {
	r.t.Helper()
	r.client("Q:"+sql, "", query(sql))
	want := againWords
	if first {
		want = questionWords
	}
	r.answer(want, "C Z:I", done, idle)
	if r.m.Free() || r.m.Pinned() == "" {
		r.t.Errorf("free = %t, pinned = %q while Postgres is asked", r.m.Free(), r.m.Pinned())
	}
	r.answer("", "", held(first, rows...)...)
	if !r.m.Free() {
		r.t.Error("not free behind the answer")
	}
}

func (r *rig) wantPinned(want string) {
	r.t.Helper()
	if got := r.m.Pinned(); got != want {
		r.t.Errorf("pinned: %q, want %q", got, want)
	}
}

func TestSettingIsCarriedToTheNextBackendAndTakenOffTheFirst(t *testing.T) {
	t.Parallel()
	table := prepared.NewTable()
	a, b := newRig(t, Params{Table: table}).attach(), newRig(t, Params{Table: table})
	first, second := a.backend, NewBackend(10, application)
	a.sets(true, "set search_path = x", noRole, [4]string{"s", "search_path", "x", "public"}, [4]string{"s", "work_mem", "4096", "4096"})
	a.wantPinned("")
	a.m.Detach()

	a.attachTo(second)
	a.carry("P:sluice_set B:sluice_set E S")
	if next := a.client("", "", query("select 1")); next != Blocked { // not before Postgres has agreed
		t.Fatalf("next = %d, want Blocked", next)
	}
	a.answer("", "", parsed, bound, row, done, idle)
	a.client("Q:select 1", "")
	a.answer("", "C Z:I", done, idle)
	a.client("P:sluice_1 S", "", parse("s", "select * from t"), syncMsg)
	a.answer("", "1 Z:I", parsed, idle)
	a.m.Detach()

	b.attachTo(first)
	b.carry(firstLeadWords)
	b.client("P:sluice_2 S", "", parse("s", "select * from t"), syncMsg) // with another search_path it is another statement
	b.answer("", "", firstLed...)
	b.answer("", "1 Z:I", parsed, idle)
	b.m.Detach()
	b.attachTo(first)
	b.carry("")
	b.client("B:sluice_2 S", "", bind("s"), syncMsg)
	b.answer("", "2 Z:I", bound, idle)
	b.m.Detach()

	a.attachTo(second) // it is as it was left
	a.carry("")
}

func TestWhatCannotBeCarriedPinsUntilItIsGone(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{}).attach()
	r.sets(true, "create temp table t (a int)", noRole, [4]string{"k", "temp", "-", "-"})
	r.wantPinned("temp")
	r.client("Q:select 1", "", query("select 1")) // nothing that could have changed it
	r.answer("", "C Z:I", done, idle)
	r.wantPinned("temp")
	r.client("Q:drop table t", "", query("drop table t"))
	r.answer(againWords, "C Z:I", &pgproto3.CommandComplete{CommandTag: []byte("DROP TABLE")}, idle)
	r.answer("", "", held(false, noRole)...)
	r.wantPinned("")
	if !r.m.Free() {
		t.Error("not free")
	}
}

func TestNobodyBecomesAnotherUserBeforePostgresAgrees(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{}).attach()
	r.sets(true, "set role bob", [4]string{"s", "role", "bob", "none"})
	r.m.Detach()
	r.attach()
	r.carry("P:sluice_set B:sluice_set E S")
	if next := r.client("", "", query("delete from t")); next != Blocked {
		t.Fatalf("next = %d, want Blocked", next)
	}
	if r.m.Free() {
		t.Error("free before the query that the backend was attached for")
	}
	r.answer("", "", parsed, bound, row, done, idle)
	if r.m.Free() {
		t.Error("free before the query that the backend was attached for")
	}
	r.client("Q:delete from t", "")
	r.answer("", "C Z:I", done, idle)
	r.m.Detach()
	backend := r.backend

	other := newRig(t, Params{}).attachTo(backend)
	other.carry("B:sluice_set E S")
	if next := other.client("", "", query("select 1")); next != Blocked {
		t.Fatalf("next = %d, want Blocked", next)
	}
}

func TestQuestionWaitsForTheRestOfAMessage(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{}).attach()
	r.client("Q:set search_path = x; copy t from stdin", "", query("set search_path = x; copy t from stdin"))
	r.answer("", "G", copyIn)
	var b, c Out
	if _, _, err := r.m.FromClient(encode(t, &pgproto3.CopyData{Data: make([]byte, 1000)})[:500], &b, &c); err != nil {
		t.Fatal(err)
	}
	r.answer("", "E:42601 Z:I", errSyntax, idle) // a question would become part of the data
	r.wantPinned("set")
}

func TestQuestionIsAnsweredWhateverHasComeSince(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{}).attach()
	r.client("Q:set work_mem = '8MB'", "", query("set work_mem = '8MB'"))
	r.answer(questionWords, "C Z:I", done, idle)
	r.client("Q:select 1", "", query("select 1")) // nothing to ask about
	r.answer("", "", held(true, [4]string{"s", "work_mem", "8192", "4096"})...)
	r.wantPinned("")
	r.answer("", "C Z:I", done, idle)
	if !r.m.Free() {
		t.Error("not free")
	}
}

func TestRoleIsThereBeforeTheStatementEvenBehindDiscardSequences(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{}).attach()
	r.sets(true, "set role bob", [4]string{"s", "role", "bob", "-"})
	r.m.Detach()
	r.attach()
	var b Out
	r.m.DiscardSequences(&b)
	r.carry("P:sluice_set B:sluice_set E S")
	if next := r.client("", "", query("delete from t")); next != Blocked {
		t.Fatalf("next = %d, want Blocked", next)
	}
	r.answer("", "", parsed, bound, done, closed, idle) // of DISCARD SEQUENCES
	if next := r.client("", ""); next != Blocked {
		t.Errorf("next = %d, want Blocked: the role is not there yet", next)
	}
}

func TestSearchPathWithTemporaryTablesPins(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{}).attach()
	r.sets(true, "set search_path = pg_temp, public", [4]string{"s", "search_path", "pg_temp, public", "public"})
	r.wantPinned("temp")
}

func TestWhatIsSentDuringTheQuestionIsAskedAbout(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{}).attach()
	r.client("Q:set work_mem = '8MB'", "", query("set work_mem = '8MB'"))
	r.answer(questionWords, "C Z:I", done, idle)
	r.client("Q:reset work_mem", "", query("reset work_mem"))
	r.answer("", "", held(true, noRole, [4]string{"s", "work_mem", "8192", "4096"})...)
	r.wantPinned("set")
	r.answer(againWords, "C Z:I", done, idle)
	r.answer("", "", held(false, noRole)...)
	r.wantPinned("")
	if r.m.state != nil {
		t.Errorf("the session has set %v, want nothing", r.m.state.Settings())
	}
}

func TestTimeoutsAreTakenOffBeforeTheBackendIsGivenBack(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{}).attach()
	r.sets(true, "set statement_timeout = '5s'", noRole, [4]string{"s", "statement_timeout", "5000", "0"}, [4]string{"s", "work_mem", "8192", "4096"})
	var b Out
	if !r.m.Calm(&b) || words(b.Bytes()) != "P:sluice_set B:sluice_set E S" || r.m.Free() {
		t.Fatalf("injected %q, free = %t", words(b.Bytes()), r.m.Free())
	}
	if next := r.client("", "", query("select 1")); next != Blocked {
		t.Fatalf("next = %d, want Blocked", next)
	}
	r.answer("", "", parsed, bound, row, done, idle)
	if !r.m.Free() || r.m.Calm(&b) {
		t.Error("not free, or timeouts still there")
	}
	r.m.Detach()
	r.attachTo(r.backend)
	r.carry("B:sluice_set E S")
	r.answer("", "", bound, row, done, idle)
	r.client("Q:select 1", "")
}

func TestTimeoutThatCannotBeTakenOffEndsTheBackendOnly(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{}).attach()
	r.sets(true, "set statement_timeout = 1", noRole, [4]string{"s", "statement_timeout", "1", "0"})
	var b Out
	r.m.Calm(&b)
	if next := r.client("", "", query("select 1")); next != Blocked {
		t.Fatalf("next = %d, want Blocked", next)
	}
	r.answer("", "", cancelled)
	if next := r.client("", ""); next != Blocked {
		t.Fatalf("next = %d behind the error, want Blocked", next)
	}
	r.answer("", "", idle)
	if !r.m.Free() || r.m.Calm(&b) || !r.backend.Worn() {
		t.Errorf("free = %t, worn = %t", r.m.Free(), r.backend.Worn())
	}
}

func TestRawSessionSeesNoStatementsOfSluices(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{}).attach()
	r.sets(true, "set work_mem = '8MB'", noRole, [4]string{"s", "work_mem", "8192", "4096"})
	const sql = "select name from pg_prepared_statements"
	r.client("C:sluice_ask S Q:"+sql, "", query(sql))
}

func TestCustomSettingsWithoutAVisibleNameKeepTheBackend(t *testing.T) {
	t.Parallel()
	for _, values := range [][][]byte{nil, {[]byte("app.who")}, {nil, []byte("app.who")}} { // $2 is missing in all but the last
		r := newRig(t, Params{}).attach()
		as := &pgproto3.Bind{Parameters: values}
		sql := "select set_config($2, $1, false)"
		if len(values) == 2 {
			sql = "select set_config($1, $2, false)" // NULL
		}
		r.client("P: B: E S", "", parse("", sql), as, exec, syncMsg)
		r.answer("", "1 2 D C Z:I", parsed, bound, row, done, idle)
		r.wantPinned("set_config")
		if !r.m.forever {
			t.Errorf("%q: the pin may end", values)
		}
	}
}

func TestCustomSettingsWhoseNameIsBoundAreAskedAbout(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{}).attach()
	r.client("P: B: E S", "", parse("", "select set_config($1, $2, false)"),
		&pgproto3.Bind{ParameterFormatCodes: []int16{0, 1}, Parameters: [][]byte{[]byte("app.who"), []byte("a")}}, exec, syncMsg)
	r.answer(questionWords, "1 2 D C Z:I", parsed, bound, row, done, idle)
	if diff := cmp.Diff([]string{"app.who"}, r.m.doubt.custom); diff != "" || r.m.doubt.identity {
		t.Errorf("identity = %t, names asked about (-want +got):\n%s", r.m.doubt.identity, diff)
	}
	r.answer("", "", held(true, whoIs("a"))...)
	r.wantPinned("")
	r.client("P: B: E S", "", parse("", "select set_config($1, $2, false)"),
		&pgproto3.Bind{Parameters: [][]byte{[]byte("Role"), []byte("bob")}}, exec, syncMsg)
	r.answer(againWords, "1 2 D C Z:I", parsed, bound, row, done, idle)
	if !r.m.doubt.identity {
		t.Error("the identity is not asked about")
	}
}

func FuzzBoundValue(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x02\xff\xff\xff\xff\x00\x00\x00\x01a\x00\x00"), 2)
	f.Fuzz(func(t *testing.T, values []byte, n int) {
		if v, ok := boundValue(values, n); ok && !strings.Contains(string(values), v) {
			t.Errorf("%q is not in %q", v, values)
		}
	})
}

func TestLostBackendDuringTheQuestionLosesNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{}).attach()
	r.client("Q:set work_mem = '8MB'", "", query("set work_mem = '8MB'"))
	r.answer(questionWords, "C Z:I", done, idle)
	if got := r.m.Loss(); got != LostNothing {
		t.Errorf("Loss() = %d, want LostNothing", got)
	}
}

func TestApplicationNameThatIsResetIsThatOfTheStart(t *testing.T) {
	t.Parallel()
	named := func(name string) *pgproto3.ParameterStatus {
		return &pgproto3.ParameterStatus{Name: "application_name", Value: name}
	}
	r := newRig(t, Params{Baseline: []wire.Param{{Name: "application_name", Value: ""}}}).attach()
	r.client("Q:select 1", "", query("select 1"))
	r.answer("", "S C Z:I", named("other"), done, idle)
	r.client("Q:select 2", "", query("select 2"))
	r.reply = encode(t, named(""), done, idle)
	var toBackend, toClient Out
	if _, err := r.m.FromBackend(r.reply, &toBackend, &toClient); err != nil {
		t.Fatal(err)
	}
	r.check("to the backend", "P:sluice_set B:sluice_set E S", words(toBackend.Bytes()))
	if want := encode(t, named(application), done, idle); string(toClient.Bytes()) != string(want) {
		t.Errorf("the client is told %q, want %q", toClient.Bytes(), want)
	}
	r.reply = nil
	r.answer("", "", parsed, bound, named(application), done, idle)
	if !r.m.Free() || r.m.application != application || r.backend.application != application {
		t.Errorf("free = %t; the client is %q, the backend has %q", r.m.Free(), r.m.application, r.backend.application)
	}
}
