package relay

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgproto3"

	"sluice/internal/prepared"
	"sluice/internal/sessionstate"
)

// behind is what machines know of a database with code that may set app.who.
func behind(check Check, code sessionstate.Code) *Behind {
	b := new(Behind)
	code.Opaque = true
	b.Set(check, &code)
	return b
}

var setsWho = sessionstate.Code{Custom: []string{"app.who"}}

func whoIs(name string) [4]string { return [4]string{"s", "app.who", name, "-"} }

// runs has the client run sql outside of a block, and checks what follows the answer to it.
func (r *rig) runs(sql, wantBackend string) {
	r.t.Helper()
	r.client("Q:"+sql, "", query(sql))
	r.answer(wantBackend, "C Z:I", done, idle)
}

// wantSurprise checks the names in what there has been, none if it is empty.
func (r *rig) wantSurprise(discard bool, want ...string) {
	r.t.Helper()
	var got Surprise
	if s := r.m.TakeSurprise(); s != nil {
		got = *s
	}
	if diff := cmp.Diff(want, got.Names); diff != "" || got.Discard != discard {
		r.t.Errorf("surprise: discard = %t, names (-want +got):\n%s", got.Discard, diff)
	}
}

func TestCodeIsAskedAboutAndWhatItHasSetIsCarried(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{Behind: behind(Strict, setsWho)}).attach()
	first := r.backend
	r.runs("select login()", questionWords)
	if next := r.client("", "", query("select 2")); next != Blocked { // else a busy client would keep the backend for good
		t.Fatalf("next = %d, want Blocked", next)
	}
	if r.m.Free() || r.m.Pinned() != PinOpaque {
		t.Errorf("free = %t, pinned = %q while Postgres is asked", r.m.Free(), r.m.Pinned())
	}
	r.answer("", "", held(true, whoIs("a"))...)
	r.wantPinned("")
	r.wantSurprise(false, "app.who")
	if !r.m.Free() || r.m.p.Counters.LeaksPrevented != 1 {
		t.Errorf("free = %t, leaks prevented = %d, want 1", r.m.Free(), r.m.p.Counters.LeaksPrevented)
	}
	r.m.Detach()

	other := newRig(t, Params{Table: r.table}).attachTo(first)
	other.carry(firstLeadWords)
	other.client("Q:select 1", "", query("select 1"))
	other.answer("", "", firstLed...)
	other.answer("", "C Z:I", done, idle)
	other.m.Detach()

	r.attach().carry("P:sluice_set B:sluice_set E S")
	r.answer("", "", parsed, bound, row, done, idle)
	r.client("Q:select 2", "")
	r.answer(questionWords, "C Z:I", done, idle)
	r.answer("", "", held(true, whoIs("a"))...)
	r.wantSurprise(false)
}

func TestTransactionControlIsNotAskedAbout(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{Behind: behind(Strict, setsWho)}).attach()
	r.runs("begin; commit", "")
	r.client("P:sluice_1 S", "", parse("a", "show app.who"), syncMsg)
	r.answer("", "1 Z:I", parsed, idle)
	r.client("B:sluice_1 E S", "", bind("a"), exec, syncMsg)
	r.answer("", "2 D C Z:I", bound, row, done, idle)
	r.client("P:sluice_2 S", "", parse("b", "select login()"), syncMsg) // it is run by Bind
	r.answer("", "1 Z:I", parsed, idle)
	r.client("B:sluice_2 E S", "", bind("b"), exec, syncMsg)
	r.answer(questionWords, "2 D C Z:I", bound, row, done, idle)
	r.answer("", "", held(true)...)
	r.wantSurprise(false)
}

func TestQuestionIsAboutWhatCodeMayDo(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		code sessionstate.Code
		sql  string
		want scope
	}{
		{setsWho, "select 1", scope{}},
		{sessionstate.Code{Settings: true, Identity: true}, "select 1", scope{settings: true, identity: true}},
		{sessionstate.Code{Locks: true, Objects: true}, "select 1", scope{locks: true, objects: true}},
		{setsWho, "set work_mem = 1", scope{settings: true, objects: true}},
	} {
		r := newRig(t, Params{Behind: behind(Strict, tc.code)}).attach()
		r.runs(tc.sql, questionWords)
		if got := r.m.doubt.answer.scope; got != tc.want {
			t.Errorf("%q with %+v: asked about %+v, want %+v", tc.sql, tc.code, got, tc.want)
		}
	}
}

func TestWhatWasNotAskedAboutStays(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{Behind: behind(Strict, setsWho)}).attach()
	r.runs("set work_mem = '8MB'; set a.b = 1", questionWords)
	r.answer("", "", held(true, [4]string{"s", "work_mem", "8192", "4096"}, [4]string{"s", "a.b", "1", "-"})...)
	r.wantSurprise(false)
	r.runs("select login()", againWords)
	r.answer("", "", held(false, [4]string{"s", "a.b", "1", "-"}, whoIs("a"))...)
	want := []sessionstate.Setting{{Name: "a.b", Value: "1"}, {Name: "app.who", Value: "a"}, {Name: "work_mem", Value: "8192"}}
	if diff := cmp.Diff(want, r.m.state.Settings()); diff != "" {
		t.Errorf("state (-want +got):\n%s", diff)
	}
	r.wantSurprise(false, "app.who")
	r.runs("select logout()", againWords)
	r.answer("", "", held(false, [4]string{"s", "a.b", "1", "-"})...)
	r.wantSurprise(false, "app.who")
}

func TestStatementsAreSharedBehindCodeThatSetsCustomSettingsOnly(t *testing.T) {
	t.Parallel()
	for first, code := range map[string]sessionstate.Code{"sluice_1": setsWho, "sluice_2": {Settings: true}} { // which is private
		knows, table := behind(Strict, code), prepared.NewTable()
		r := newRig(t, Params{Behind: knows, Table: table}).attach()
		r.client("Q:begin; select login()", "", query("begin; select login()"))
		r.answer("", "C Z:T", done, inBlock)
		r.client("P:"+first+" S", "", parse("s", "select 1"), syncMsg)
		st := r.m.names.Lookup([]byte("s"))
		if shared := table.Find([]byte(st.Body())) == st; shared == code.Settings {
			t.Errorf("%+v: shared = %t", code, shared)
		}
	}
}

func TestCodeThatIsNotKnownIsAskedAboutWhenItIs(t *testing.T) {
	t.Parallel()
	knows := new(Behind)
	r := newRig(t, Params{Behind: knows}).attach()
	r.runs("select login()", "")
	var b Out
	if r.m.CodeKnown(&b); !r.m.Unread() || !b.Empty() {
		t.Fatalf("unread = %t, sent %q while nothing is known", r.m.Unread(), words(b.Bytes()))
	}
	knows.Set(Strict, &sessionstate.Code{Opaque: true, Custom: []string{"app.who"}})
	r.m.CodeKnown(&b)
	r.check("asked", questionWords, words(b.Bytes()))
	r.answer("", "", held(true, whoIs("a"))...)
	r.wantPinned("")
	if r.m.Unread() || !r.m.Free() {
		t.Errorf("unread = %t, free = %t", r.m.Unread(), r.m.Free())
	}
}

func TestCodeThatChangesDuringATransactionIsAskedAbout(t *testing.T) {
	t.Parallel()
	knows := new(Behind)
	knows.Set(Strict, new(sessionstate.Code))
	r := newRig(t, Params{Behind: knows}).attach()
	r.client("Q:select login()", "", query("select login()"))
	knows.Set(Strict, &sessionstate.Code{Opaque: true, Custom: []string{"app.who"}})
	r.answer(questionWords, "C Z:I", done, idle)
	r.answer("", "", held(true)...)
	r.runs("begin", "")
}

func TestOwnCodeWaitsUntilItIsRead(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{}).attach()
	r.client("Q:create function f", "", query("create function f"))
	r.answer("", "C Z:I", &pgproto3.CommandComplete{CommandTag: []byte("CREATE FUNCTION")}, idle)
	if !r.m.Unread() || r.m.TakeChange() != ChangedCode {
		t.Error("the session does not wait for its own code")
	}
	var b Out
	r.m.CodeKnown(&b)
	r.check("asked", questionWords, words(b.Bytes()))
}

func TestProcedureThatMakesNoCodeChangesNone(t *testing.T) {
	t.Parallel()
	called := &pgproto3.CommandComplete{CommandTag: []byte("CALL")}
	for code, want := range map[*sessionstate.Code]Change{nil: ChangedCode, {}: ChangedNothing, {Defines: true}: ChangedCode} {
		r := newRig(t, Params{Behind: new(Behind)}).attach()
		r.m.p.Behind.Set(Hint, code)
		r.client("Q:call p()", "", query("call p()"))
		r.answer(questionWords, "C Z:I", called, idle)
		if got := r.m.TakeChange(); got != want {
			t.Errorf("%+v: change = %d, want %d", code, got, want)
		}
	}
}

func TestCodeThatCannotBeAskedAboutPinsForGood(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{Behind: behind(Strict, sessionstate.Code{Unknown: true})}).attach()
	r.runs("begin; commit", "")
	r.wantPinned("")
	r.runs("select f()", "")
	r.wantPinned(PinOpaque)
	if !r.m.forever || !r.m.raw {
		t.Error("the pin may end")
	}
	r = newRig(t, Params{Behind: behind(Strict, sessionstate.Code{Unknown: true})}).attach()
	r.client("P:a S", "", parse("a", "select f()"), syncMsg)
	r.wantPinned(PinOpaque)
}

func TestNameThatOthersHaveLeftIsNoChange(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{Behind: behind(Strict, setsWho)}).attach()
	r.runs("select 1", questionWords)
	r.answer("", "", held(true, whoIs(""))...)
	r.wantSurprise(false)
	if r.m.state != nil {
		t.Errorf("the session has %v", r.m.state.Settings())
	}
	r.runs("set app.who = ''", againWords)
	r.answer("", "", held(false, whoIs(""))...)
	if r.m.state == nil {
		t.Error("the session has nothing")
	}
}

func TestWhatATextHasAnnouncedIsNoSurpriseWhenItsPinEnds(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{Behind: behind(Strict, setsWho)}).attach()
	r.runs("set work_mem = '8MB'; create temp table t (a int)", questionWords)
	workMem := [4]string{"s", "work_mem", "8192", "4096"}
	r.answer("", "", held(true, workMem, [4]string{"k", "temp", "-", "-"})...)
	r.wantPinned("temp")
	r.runs("select drop_it()", againWords)
	r.answer("", "", held(false, workMem)...)
	r.wantPinned("")
	r.wantSurprise(false)
}

func TestPinsOfTheLastCheckEndUnderHint(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{Behind: behind(Strict, setsWho)}).attach()
	r.client("Q:select login()", "", query("select login()"))
	r.m.p.Behind.Set(Hint, nil)
	r.answer("", "C Z:I", done, idle)
	r.wantPinned("")
	r.m.p.Behind.Set(Strict, &sessionstate.Code{Opaque: true})
	r.runs("set work_mem = '8MB'", questionWords) // of a backend on which something ran unasked
	r.answer("", "", held(true, [4]string{"s", "work_mem", "8192", "4096"}, whoIs("a"))...)
	r.wantSurprise(true, "app.who")
}

func TestClientThatIsGoneBehindCodeLeavesADoubtfulBackend(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{Behind: behind(Strict, setsWho)}).attach()
	r.client("Q:select login()", "", query("select login()"))
	r.wantPinned(PinOpaque)
	r.answer(questionWords, "C Z:I", done, idle)
	r.wantPinned(PinOpaque)
}

func TestLearnAsksAfterASampleAndAfterWhatHasChangedSomething(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{Behind: behind(Learn, setsWho)}).attach()
	asked := func(sql string, rows ...[4]string) bool {
		r.client("Q:"+sql, "", query(sql))
		before := r.m.p.Counters.Questions
		var b, c Out
		if _, err := r.m.FromBackend(encode(t, done, idle), &b, &c); err != nil {
			t.Fatal(err)
		}
		if r.m.p.Counters.Questions == before {
			return false
		}
		r.answer("", "", held(before == 0, rows...)...)
		return true
	}
	if !asked("select login()", whoIs("a")) {
		t.Fatal("not asked behind the first run")
	}
	r.wantSurprise(false, "app.who")
	n := 0
	for range 1000 {
		if asked("select 1", whoIs("a")) {
			n++
		}
	}
	if want := firstRuns + 1000/everyRun; n != want {
		t.Errorf("asked behind %d of 1000 runs, want %d", n, want)
	}
	for range 100 {
		if !asked("select login()", whoIs("a")) {
			t.Fatal("not asked behind what is known to change something")
		}
	}
}

func TestLearnGivesNobodyWhatMayBeAnothers(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{Behind: behind(Learn, setsWho)}).attach()
	r.backend.unasked = true
	r.runs("select 1", questionWords)
	r.answer("", "", held(true, whoIs("somebody"), [4]string{"k", "temp", "-", "-"})...)
	r.wantSurprise(true, "temp", "app.who")
	r.wantPinned("")
	if r.m.state != nil || !r.backend.Worn() {
		t.Errorf("the session has %v, the backend is worn: %t", r.m.state.Settings(), r.backend.Worn())
	}
}

func TestBackendThatIsNotTrustedGivesOnlyWhatATextHasAnnounced(t *testing.T) {
	t.Parallel()
	knows := behind(Strict, sessionstate.Code{})
	r := newRig(t, Params{Behind: knows}).attach()
	r.client("Q:set work_mem = '8MB'", "", query("set work_mem = '8MB'"))
	r.backend.Mistrust()
	r.answer(questionWords, "C Z:I", done, idle)
	r.answer("", "", held(true, [4]string{"s", "work_mem", "8192", "4096"}, whoIs("somebody"))...)
	r.wantSurprise(true, "app.who")
	if got := r.m.state.Settings(); len(got) != 1 || got[0].Name != "work_mem" || !r.backend.Worn() {
		t.Errorf("the session has %v, the backend is worn: %t", got, r.backend.Worn())
	}
}

func TestHintTakesOnlyWhatATextHasAnnounced(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{Behind: behind(Hint, sessionstate.Code{})}).attach()
	r.runs("select tune()", "")
	r.runs("set Work_Mem = '8MB'", questionWords)
	r.answer("", "", held(true, [4]string{"s", "work_mem", "8192", "4096"}, [4]string{"s", "search_path", "x", "public"})...)
	r.wantSurprise(true, "search_path")
	want := []sessionstate.Setting{{Name: "work_mem", Value: "8192"}}
	if diff := cmp.Diff(want, r.m.state.Settings()); diff != "" || !r.backend.Worn() {
		t.Errorf("worn = %t, state (-want +got):\n%s", r.backend.Worn(), diff)
	}
	r.m.Detach()
	r.attach()
	r.m.backend.state = r.m.state
	r.runs("do $$ begin perform tune(); end $$", questionWords) // may have announced anything
	r.answer("", "", held(true, [4]string{"s", "work_mem", "8192", "4096"}, [4]string{"s", "search_path", "x", "public"})...)
	r.wantSurprise(false)
	if len(r.m.state.Settings()) != 2 {
		t.Errorf("the session has %v", r.m.state.Settings())
	}
}

func TestWhatNewSessionsBeginWithChangesWhenTheTransactionIsOver(t *testing.T) {
	t.Parallel()
	for _, raw := range []bool{false, true} {
		var roles, settings int
		r := newRig(t, Params{Raw: raw, Redefined: func(also bool) {
			roles++
			if also {
				settings++
			}
		}}).attach()
		turn := func(sql, tag string, status byte, wantRoles, wantSettings int) {
			t.Helper()
			r.client("Q:"+sql, "", query(sql))
			var toBackend, toClient Out
			for _, msg := range []pgproto3.Message{command(tag), &pgproto3.ReadyForQuery{TxStatus: status}} {
				p, _ := msg.(interface{ Encode([]byte) ([]byte, error) }).Encode(nil)
				if _, err := r.m.FromBackend(p, &toBackend, &toClient); err != nil {
					t.Fatal(err)
				}
			}
			if roles != wantRoles || settings != wantSettings {
				t.Errorf("raw %t, %s: %d changes, %d of settings, want %d and %d", raw, sql, roles, settings, wantRoles, wantSettings)
			}
		}
		more := 0 // of settings, where the text is not known
		if raw {
			more = 1
		}
		turn("alter role x password 'y'", "ALTER ROLE", 'I', 1, more)
		turn("alter table x add y int", "ALTER TABLE", 'I', 1, more)
		turn("create role x", "CREATE ROLE", 'I', 2, more)
		turn("begin", "BEGIN", 'T', 2, more)
		turn("drop role x", "DROP ROLE", 'T', 2, more)
		turn("commit", "COMMIT", 'I', 3, more)
	}
}

func TestSettingsOfRolesAndDatabasesAreToldFromTheRest(t *testing.T) {
	t.Parallel()
	for sql, tag := range map[string]string{
		"alter role x set work_mem = '1MB'": "ALTER ROLE", "alter role x in database d reset all": "ALTER ROLE", "alter database d set a.b = 'c'": "ALTER DATABASE",
	} {
		var settings bool
		r := newRig(t, Params{Redefined: func(also bool) { settings = also }}).attach()
		r.client("Q:"+sql, "", query(sql))
		r.answer("", "C Z:I", command(tag), idle)
		if !settings {
			t.Errorf("%s is not seen to change settings", sql)
		}
	}
}
