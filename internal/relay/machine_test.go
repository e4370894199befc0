package relay

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgproto3"

	"sluice/internal/prepared"
	"sluice/internal/sessionstate"
	"sluice/internal/wire"
)

// rig is a machine with what surrounds it; it notes in short words what is sent to either side.
type rig struct {
	t       *testing.T
	m       Machine
	table   *prepared.Table
	backend *Backend
	held    []byte // of the client
	reply   []byte // of the backend, not yet taken
}

// application is the application_name of the clients.
const application = "app"

func newRig(t *testing.T, p Params) *rig {
	t.Helper()
	p.Counters = &Counters{}
	if p.Sequences == nil {
		p.Sequences = new(bool)
	}
	if p.Behind == nil {
		p.Behind = new(Behind)
		p.Behind.Set(Strict, new(sessionstate.Code))
	}
	if p.PlanUnnamed == nil {
		p.PlanUnnamed = new(bool)
	}
	if p.Table == nil {
		p.Table = prepared.NewTable()
	}
	return &rig{t: t, m: New(&p, application), table: p.Table}
}

func (r *rig) attach() *rig {
	return r.attachTo(NewBackend(10, application))
}

func (r *rig) attachTo(b *Backend) *rig {
	r.backend = b
	r.m.Attach(b, false)
	return r
}

// carry puts the session's state on the backend and checks what that takes.
func (r *rig) carry(want string) {
	r.t.Helper()
	var b Out
	r.m.Carry(&b)
	r.check("carried", want, words(b.Bytes()))
}

func encode(t *testing.T, msgs ...pgproto3.Message) []byte {
	t.Helper()
	var b []byte
	for _, m := range msgs {
		var err error
		if b, err = m.Encode(b); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// client passes messages from the client and checks what goes to the backend and to the client.
func (r *rig) client(wantBackend, wantClient string, msgs ...pgproto3.Message) Next {
	r.t.Helper()
	r.held = append(r.held, encode(r.t, msgs...)...)
	var toBackend, toClient Out
	n, next, err := r.m.FromClient(r.held, &toBackend, &toClient)
	if err != nil {
		r.t.Fatalf("FromClient: %v", err)
	}
	r.check("to the backend", wantBackend, words(toBackend.Bytes()))
	r.check("to the client", wantClient, words(toClient.Bytes()))
	r.held = r.held[n:]
	return next
}

// answer passes messages from the backend and checks the same.
func (r *rig) answer(wantBackend, wantClient string, msgs ...pgproto3.Message) {
	r.t.Helper()
	r.reply = append(r.reply, encode(r.t, msgs...)...)
	var toBackend, toClient Out
	n, err := r.m.FromBackend(r.reply, &toBackend, &toClient)
	if err != nil {
		r.t.Fatalf("FromBackend: %v", err)
	}
	r.check("to the backend", wantBackend, words(toBackend.Bytes()))
	r.check("to the client", wantClient, words(toClient.Bytes()))
	r.reply = r.reply[n:]
}

func (r *rig) check(what, want, got string) {
	r.t.Helper()
	if want != got {
		r.t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

// words writes messages as their type bytes, with names of statements, texts and codes behind some.
func words(p []byte) string {
	var out []string
	for len(p) > 0 {
		typ, body, ok, err := wire.Header(p)
		if !ok || err != nil || len(p) < wire.HeaderLen+body {
			out = append(out, fmt.Sprintf("partial(%d)", len(p)))
			break
		}
		b := p[wire.HeaderLen : wire.HeaderLen+body]
		out = append(out, string(typ)+detail(typ, b))
		p = p[wire.HeaderLen+body:]
	}
	return strings.Join(out, " ")
}

func detail(typ byte, b []byte) string {
	first := func(b []byte) string { s, _, _ := wire.CString(b); return string(s) }
	switch typ {
	case wire.Parse:
		return ":" + first(b)
	case wire.Bind:
		_, rest, _ := wire.CString(b)
		return ":" + first(rest)
	case wire.Close, wire.Describe: // DataRow, CommandComplete on the other side
		if len(b) > 1 && (b[0] == 'S' || b[0] == 'P') && first(b) != "PREPARE" {
			return ":" + first(b[1:])
		}
	case wire.Query:
		return ":" + first(b)
	case wire.ErrorResponse: // Execute on the other side
		if f := parseError(b); f.code != "" {
			return ":" + f.code
		}
	case wire.ReadyForQuery:
		return ":" + string(b)
	case wire.NotificationResponse:
		var n pgproto3.NotificationResponse
		if n.Decode(b) == nil {
			return fmt.Sprintf(":%d:%s:%s", n.PID, n.Channel, n.Payload)
		}
	}
	return ""
}

var (
	syncMsg   = &pgproto3.Sync{}
	exec      = &pgproto3.Execute{}
	parsed    = &pgproto3.ParseComplete{}
	bound     = &pgproto3.BindComplete{}
	closed    = &pgproto3.CloseComplete{}
	done      = &pgproto3.CommandComplete{CommandTag: []byte("OK")}
	idle      = &pgproto3.ReadyForQuery{TxStatus: 'I'}
	inBlock   = &pgproto3.ReadyForQuery{TxStatus: 'T'}
	row       = &pgproto3.DataRow{Values: [][]byte{[]byte("1")}}
	noData    = &pgproto3.NoData{}
	copyIn    = &pgproto3.CopyInResponse{}
	copyData  = &pgproto3.CopyData{Data: []byte("1\n")}
	copyDone  = &pgproto3.CopyDone{}
	errSyntax = &pgproto3.ErrorResponse{Severity: "ERROR", SeverityUnlocalized: "ERROR", Code: "42601"}
	errNoStmt = &pgproto3.ErrorResponse{Severity: "ERROR", SeverityUnlocalized: "ERROR", Code: "26000"}
)

func query(sql string) *pgproto3.Query       { return &pgproto3.Query{String: sql} }
func parse(name, sql string) *pgproto3.Parse { return &pgproto3.Parse{Name: name, Query: sql} }
func bind(name string) *pgproto3.Bind        { return &pgproto3.Bind{PreparedStatement: name} }
func describe(name string) *pgproto3.Describe {
	return &pgproto3.Describe{ObjectType: 'S', Name: name}
}
func closeStmt(name string) *pgproto3.Close { return &pgproto3.Close{ObjectType: 'S', Name: name} }

func TestQueryNeedsABackendAndFreesItWhenIdle(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{})
	if next := r.client("", "", query("select 1")); next != NeedBackend {
		t.Fatalf("next = %v, want NeedBackend", next)
	}
	r.attach()
	r.client("Q:select 1", "")
	if r.m.Free() {
		t.Error("free with a query under way")
	}
	r.answer("", "D C", row, done)
	r.answer("", "Z:I", idle)
	if !r.m.Free() || r.m.Pinned() != "" {
		t.Errorf("free = %t, pinned = %q", r.m.Free(), r.m.Pinned())
	}
}

func TestBlockIsNotFree(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{}).attach()
	r.client("Q:begin", "", query("begin"))
	r.answer("", "C Z:T", done, inBlock)
	if r.m.Free() || !r.m.Quiet() || r.m.Loss() != LostBlock {
		t.Errorf("free = %t, quiet = %t, loss = %v", r.m.Free(), r.m.Quiet(), r.m.Loss())
	}
	r.client("Q:update t set x = 1", "", query("update t set x = 1"))
	if got := r.m.Loss(); got != LostBlock {
		t.Errorf("loss inside a block = %v", got)
	}
	r.answer("", "C Z:T", done, inBlock)
	r.client("Q:commit", "", query("commit"))
	if got := r.m.Loss(); got != LostUnknown {
		t.Errorf("loss at commit = %v", got)
	}
	r.answer("", "C Z:I", done, idle)
	if got := r.m.Loss(); got != LostNothing {
		t.Errorf("loss after all = %v", got)
	}
}

func TestNamedStatementIsInternedAndRenamed(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{}).attach()
	r.client("P:sluice_1 B:sluice_1 E S", "", parse("a", "select 1"), bind("a"), exec, syncMsg)
	r.answer("", "1 2 C Z:I", parsed, bound, done, idle)
	r.client("B:sluice_1 E S", "", parse("b", "select 1"), bind("b"), exec, syncMsg)
	r.answer("", "1 2 C Z:I", bound, done, idle)
	if got := r.table.Len(); got != 1 {
		t.Errorf("%d statements interned, want 1", got)
	}
}

func TestStatementFollowsItsClientToAnotherBackend(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{}).attach()
	r.client("P:sluice_1 S", "", parse("a", "select 1"), syncMsg)
	r.answer("", "1 Z:I", parsed, idle)
	r.m.Detach()
	r.attach()
	r.client("P:sluice_1 B:sluice_1 E S", "", bind("a"), exec, syncMsg)
	r.answer("", "2 C Z:I", parsed, bound, done, idle)
	r.m.Detach()
	r.attach()
	r.client("P:sluice_1 D:sluice_1 S", "", describe("a"), syncMsg)
	r.answer("", "n Z:I", parsed, noData, idle)
}

func TestUnnamedStatementSurvivesAChangeOfBackend(t *testing.T) {
	t.Parallel()
	table := prepared.NewTable()
	a, b := newRig(t, Params{Table: table}).attach(), newRig(t, Params{Table: table})
	a.client("P: S", "", parse("", "select 'a'"), syncMsg)
	a.answer("", "1 Z:I", parsed, idle)
	a.m.Detach()
	b.backend = a.backend
	b.m.Attach(a.backend, false)
	b.client("P: S", "", parse("", "select 'b'"), syncMsg)
	b.answer("", "1 Z:I", parsed, idle)
	b.m.Detach()
	a.m.Attach(a.backend, false)
	a.client("P: B: E S", "", bind(""), exec, syncMsg)
	a.answer("", "2 D C Z:I", parsed, bound, row, done, idle)
	a.client("B: E S", "", bind(""), exec, syncMsg)
	a.answer("", "2 D C Z:I", bound, row, done, idle)
	a.client("Q:select 2", "", query("select 2")) // ends the unnamed statement
	a.answer("", "C Z:I", done, idle)
	a.client("C: B: E S", "", bind(""), exec, syncMsg)
	a.answer("", "E:26000 Z:I", closed, errNoStmt, idle)
}

// planning returns Params of a machine that serves unnamed statements by named ones.
func planning() Params {
	on := true
	return Params{PlanUnnamed: &on}
}

func TestUnnamedStatementSeenBeforeIsServedByAPlannedOne(t *testing.T) {
	t.Parallel()
	r := newRig(t, planning()).attach()
	turn := func(toBackend, toClient string, replies ...pgproto3.Message) {
		t.Helper()
		r.client(toBackend, "", parse("", "select $1"), bind(""), describe(""), exec, syncMsg)
		r.answer("", toClient, replies...)
	}
	turn("P: B: D: E S", "1 2 n D C Z:I", parsed, bound, noData, row, done, idle)
	turn("P:sluice_1 B:sluice_1 D:sluice_1 E S", "1 2 n D C Z:I", parsed, bound, noData, row, done, idle)
	turn("B:sluice_1 D:sluice_1 E S", "1 2 n D C Z:I", bound, noData, row, done, idle)
	r.m.Detach()
	r.attach()
	turn("P:sluice_1 B:sluice_1 D:sluice_1 E S", "1 2 n D C Z:I", parsed, bound, noData, row, done, idle)
	r.client("B:sluice_1 E S", "", bind(""), exec, syncMsg)
	r.answer("", "2 C Z:I", bound, done, idle)
	r.client("Q:select 2", "", query("select 2")) // ends the unnamed statement
	r.answer("", "C Z:I", done, idle)
	r.client("C: B: E S", "", bind(""), exec, syncMsg)
	r.answer("", "E:26000 Z:I", closed, errNoStmt, idle)
}

func TestUnnamedStatementsThatAreNotPlanned(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ first, text string }{
		"a literal that reads the clock": {"", "select 'Now'::timestamptz"},
		"behind DDL in the transaction":  {"alter table t add c int", "select * from t"},
		"behind a setting of it":         {"set local search_path = s", "select * from t"},
		"DDL itself":                     {"", "create table t ()"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, planning()).attach()
			r.client("P: S", "", parse("", tc.text), syncMsg)
			r.answer("", "1 Z:T", parsed, inBlock)
			if tc.first != "" {
				r.client("Q:"+tc.first, "", query(tc.first))
				r.answer("", "C Z:T", done, inBlock)
			}
			for range 3 {
				r.client("P: B: S", "", parse("", tc.text), bind(""), syncMsg)
				r.answer("", "1 2 Z:T", parsed, bound, inBlock)
			}
			if tc.first != "" { // nor is one used that is there
				st := r.table.Intern([]byte(tc.text + "\x00\x00\x00"))
				defer st.Release()
				r.backend.Add(st)
				r.client("P: B: S", "", parse("", tc.text), bind(""), syncMsg)
			}
		})
	}
}

func TestPlannedStatementIsForgottenWhenTheSchemaChanges(t *testing.T) {
	t.Parallel()
	r := newRig(t, planning()).attach()
	for _, want := range []string{"P: S", "P:sluice_1 S"} {
		r.client(want, "", parse("", "select * from t"), syncMsg)
		r.answer("", "1 Z:I", parsed, idle)
	}
	// Somebody has changed the table past Sluice.
	r.client("B:sluice_1", "", parse("", "select * from t"), bind("")) // in pieces, else it is repeated
	r.client("E S", "", exec, syncMsg)
	stale := &pgproto3.ErrorResponse{Severity: "ERROR", Code: "0A000", Message: "cached plan must not change result type"}
	r.answer("", "1 E:0A000 Z:I", stale, idle)
	if got := r.m.TakeChange(); got != ChangedSchema {
		t.Fatalf("the change is %d, want that of the schema", got)
	}
	r.table.Age()
	r.client("P: B: E S", "", parse("", "select * from t"), bind(""), exec, syncMsg)
	r.answer("", "1 2 C Z:I", parsed, bound, done, idle)
	r.client("P:sluice_2 B:sluice_2 E S", "", parse("", "select * from t"), bind(""), exec, syncMsg)
	r.answer("", "1 2 C Z:I", parsed, bound, done, idle)
}

func TestFailedParseOfAPlannedStatement(t *testing.T) {
	t.Parallel()
	r := newRig(t, planning()).attach()
	r.client("P: B: S", "", parse("", "select broken"), bind(""), syncMsg)
	r.answer("", "E:42601 Z:I", errSyntax, idle)
	r.client("P:sluice_1 B:sluice_1 S", "", parse("", "select broken"), bind(""), syncMsg)
	r.answer("", "E:42601 Z:I", errSyntax, idle)
	r.client("C: B: S", "", bind(""), syncMsg)
	r.answer("", "E:26000 Z:I", closed, errNoStmt, idle)
	if r.backend.Len() != 0 {
		t.Errorf("%d statements on the backend, want none", r.backend.Len())
	}
}

func TestNameTakenIsAnErrorAsInPostgres(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{}).attach()
	r.client("P:sluice_1 S", "", parse("a", "select 1"), syncMsg)
	r.answer("", "1 Z:I", parsed, idle)
	r.client("D:sluice_? B:sluice_1 E S", "", parse("a", "select 2"), bind("a"), exec, syncMsg)
	r.answer("", "E:42P05 Z:I", errNoStmt, idle)
	if got := r.m.names.Lookup([]byte("a")).Query(); got != "select 1" {
		t.Errorf("the name means %q now", got)
	}
}

func TestFailedAndSkippedParsesAreUndone(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{}).attach()
	r.client("P:sluice_1 S", "", parse("old", "select 0"), syncMsg)
	r.answer("", "1 Z:I", parsed, idle)
	r.client("P:sluice_2 P:sluice_3 B:sluice_3 E S P:sluice_4 S", "",
		parse("bad", "selec"), closeStmt("old"), parse("skipped", "select 2"), bind("skipped"), exec, syncMsg,
		parse("next", "select 3"), syncMsg)
	r.answer("", "E:42601 Z:I 1 Z:I", errSyntax, idle, parsed, idle)
	for name, want := range map[string]bool{"old": true, "bad": false, "skipped": false, "next": true} {
		if got := r.m.names.Lookup([]byte(name)) != nil; got != want {
			t.Errorf("statement %q known: %t, want %t", name, got, want)
		}
	}
	if r.backend.Len() != 2 || r.table.Len() != 2 {
		t.Errorf("backend has %d statements, table %d, want 2 and 2", r.backend.Len(), r.table.Len())
	}
}

func TestErrorBeforeSyncIsSentSkipsWhatFollows(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{}).attach()
	r.client("P: H", "", parse("", "selec"), &pgproto3.Flush{})
	r.answer("", "E:42601", errSyntax)
	r.client("P:x Q:select 1", "", parse("x", "select 1"), query("select 1"))
	if r.m.Free() || r.m.names.Lookup([]byte("x")) != nil {
		t.Error("a skipped Parse counts")
	}
	r.client("S", "", syncMsg)
	r.answer("", "Z:I", idle)
	if !r.m.Free() {
		t.Error("not free after Sync")
	}
}

func TestFlushReleasesMadeUpReplies(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{}).attach()
	r.client("P:sluice_1 S", "", parse("a", "select 1"), syncMsg)
	r.answer("", "1 Z:I", parsed, idle)
	r.client("", "1", parse("b", "select 1"), &pgproto3.Flush{})
	r.client("B:sluice_1 H", "", bind("b"), closeStmt("b"), &pgproto3.Flush{})
	r.answer("", "2 3", bound)
}

func TestEvictedStatementIsClosed(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{}).attachTo(NewBackend(3, application))
	for i, want := range []string{"P:sluice_1 S", "P:sluice_2 S", "P:sluice_3 S"} {
		r.client(want, "", parse(fmt.Sprint(i), fmt.Sprint("select ", i)), syncMsg)
		r.answer("", "1 Z:I", parsed, idle)
	}
	r.client("C:sluice_1 P:sluice_4 S", "", parse("x", "select 'x'"), syncMsg)
	r.answer("", "1 Z:I", closed, parsed, idle)
	r.client("C:sluice_2 P:sluice_1 B:sluice_1 S", "", bind("0"), syncMsg)
	r.answer("", "2 Z:I", closed, parsed, bound, idle)
}

func TestCopyInEndsWhenCopyDoneIsSent(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{}).attach()
	r.client("Q:copy t from stdin", "", query("copy t from stdin"))
	r.answer("", "G", copyIn)
	r.client("d c Q:select 1", "", copyData, copyDone, query("select 1"))
	r.answer("", "C Z:I C Z:I", done, idle, done, idle)
	if !r.m.Free() {
		t.Error("not free")
	}
}

func TestSyncBehindAnExtendedCopyIsIgnoredAsPostgresDoes(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{}).attach()
	r.client("P: B: E S", "", parse("", "copy t from stdin"), bind(""), exec, syncMsg)
	r.answer("", "1 2 G", parsed, bound, copyIn)
	r.client("d d", "", copyData, syncMsg, copyData)
	if r.m.Free() {
		t.Error("free inside COPY")
	}
	r.client("c S", "", copyDone, syncMsg)
	r.answer("", "C Z:I", done, idle)
	if !r.m.Free() {
		t.Error("not free")
	}
}

func TestCopyDataPipelinedBehindItsCopy(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		send  []pgproto3.Message
		sent  string
		reply []pgproto3.Message
		want  string
	}{
		{"simple", []pgproto3.Message{query("copy"), copyData, copyDone, query("select 1")}, "Q:copy d c Q:select 1",
			[]pgproto3.Message{copyIn, done, idle, row, done, idle}, "G C Z:I D C Z:I"},
		{"two in one query", []pgproto3.Message{query("copy; copy"), copyData, copyDone, copyData, copyDone}, "Q:copy; copy d c d c",
			[]pgproto3.Message{copyIn, done, copyIn, done, idle}, "G C G C Z:I"},
		{"extended", []pgproto3.Message{parse("", "copy"), bind(""), exec, copyData, copyDone, syncMsg}, "P: B: E d c S",
			[]pgproto3.Message{parsed, bound, copyIn, done, idle}, "1 2 G C Z:I"},
		{"extended, with a Sync too many", []pgproto3.Message{parse("", "copy"), bind(""), exec, syncMsg, copyData, copyDone, syncMsg}, "P: B: E S d c S",
			[]pgproto3.Message{parsed, bound, copyIn, done, idle}, "1 2 G C Z:I"},
		{"one that fails at once", []pgproto3.Message{query("copy"), copyData, copyDone, query("select 1")}, "Q:copy d c Q:select 1",
			[]pgproto3.Message{errSyntax, idle, row, done, idle}, "E:42601 Z:I D C Z:I"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, Params{}).attach()
			r.client(tc.sent, "", tc.send...)
			r.answer("", tc.want, tc.reply...)
			if !r.m.Free() {
				t.Error("not free")
			}
		})
	}
}

func TestFlushedPipelineKeepsItsBackendUpToSync(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{}).attach()
	r.client("P: B: E H", "", parse("", "insert"), bind(""), exec, &pgproto3.Flush{})
	r.answer("", "1 2 C", parsed, bound, done)
	if r.m.Free() || !r.m.InBlock() || !r.m.Stuck() || r.m.Loss() != LostBlock {
		t.Errorf("free = %t, in block = %t, stuck = %t, loss = %v", r.m.Free(), r.m.InBlock(), r.m.Stuck(), r.m.Loss())
	}
	r.client("S", "", syncMsg)
	r.answer("", "Z:I", idle)
	if !r.m.Free() {
		t.Error("not free after Sync")
	}
}

func TestWhatNeedsNoBackendGetsNone(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{})
	for _, tc := range []struct {
		msg  pgproto3.Message
		want string
	}{{syncMsg, "Z:I"}, {&pgproto3.Flush{}, ""}, {copyData, ""}, {copyDone, ""}, {closeStmt("x"), "3"}} {
		if next := r.client("", tc.want, tc.msg); next != More {
			t.Errorf("%T: next = %v", tc.msg, next)
		}
	}
	var b, c Out
	half := encode(t, query("select 1"))[:7]
	if n, next, err := r.m.FromClient(half, &b, &c); n != 0 || next != More || err != nil {
		t.Errorf("half a message: %d, %v, %v", n, next, err)
	}
}

func TestKnownStatementIsPreparedWithoutABackend(t *testing.T) {
	t.Parallel()
	table := prepared.NewTable()
	a, b := newRig(t, Params{Table: table}).attach(), newRig(t, Params{Table: table})
	a.client("P:sluice_1 S", "", parse("a", "select 1"), syncMsg)
	if next := b.client("", "", parse("b", "select 1"), syncMsg); next != NeedBackend {
		t.Errorf("before Postgres has prepared it: next = %v, want NeedBackend", next)
	}
	b.held = nil
	a.answer("", "1 Z:I", parsed, idle)
	if next := b.client("", "1 Z:I", parse("b", "select 1"), syncMsg); next != More {
		t.Errorf("next = %v, want More", next)
	}
	b.attach()
	b.client("P:sluice_1 B:sluice_1 E S", "", bind("b"), exec, syncMsg)
	b.answer("", "2 C Z:I", parsed, bound, done, idle)
	for _, r := range []*rig{a, b} {
		r.m.Close()
		r.backend.Clear()
	}
	if table.Len() != 0 {
		t.Errorf("%d statements are never released", table.Len())
	}
}

func TestStatementThatFailedIsPreparedAnew(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{}).attach()
	r.client("P:sluice_1 S", "", parse("a", "select * from t"), syncMsg)
	r.answer("", "1 Z:I", parsed, idle)
	r.client("B:sluice_1 E S", "", bind("a"), exec, syncMsg)
	r.answer("", "E:42P01 Z:I", &pgproto3.ErrorResponse{Severity: "ERROR", Code: "42P01"}, idle)
	r.client("C:sluice_1 P:sluice_1 B:sluice_1 E S", "", bind("a"), exec, syncMsg)
	r.answer("", "2 C Z:I", closed, parsed, bound, done, idle)
}

func TestSpoiltStatementWhoseRenewalIsSkippedIsRenewedAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{}).attach()
	r.client("P:sluice_1 S", "", parse("a", "select * from t"), syncMsg)
	r.answer("", "1 Z:I", parsed, idle)
	r.client("B:sluice_1 S", "", bind("a"), syncMsg)
	r.answer("", "E:42P01 Z:I", &pgproto3.ErrorResponse{Severity: "ERROR", Code: "42P01"}, idle)
	r.client("B:nobody C:sluice_1 P:sluice_1 B:sluice_1 S", "", bind("nobody"), bind("a"), syncMsg)
	r.answer("", "E:26000 Z:I", errNoStmt, idle)
	r.client("C:sluice_1 P:sluice_1 B:sluice_1 S", "", bind("a"), syncMsg)
	r.answer("", "2 Z:I", closed, parsed, bound, idle)
}

func TestStatementWhoseResultHasChangedFailsAsInPostgres(t *testing.T) {
	t.Parallel()
	columns := func(oid uint32) *pgproto3.RowDescription {
		return &pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{{Name: []byte("x"), DataTypeOID: oid}}}
	}
	described := &pgproto3.ParameterDescription{}
	stale := func(r *rig) {
		t.Helper()
		for range 2 { // and stays so
			r.client("D:sluice_? E S", "", bind("a"), exec, syncMsg)
			r.answer("", "E:0A000 Z:I", errNoStmt, idle)
		}
		r.client("P:sluice_2 S", "", closeStmt("a"), parse("a", "select x from t"), syncMsg)
		r.answer("", "3 1 Z:I", parsed, idle)
	}
	prepare := func() *rig {
		r := newRig(t, Params{}).attach()
		r.client("P:sluice_1 D:sluice_1 S", "", parse("a", "select x from t"), describe("a"), syncMsg)
		r.answer("", "1 t T Z:I", parsed, described, columns(23), idle)
		return r
	}

	r := prepare() // Postgres says so
	r.client("B:sluice_1 E S", "", bind("a"), exec, syncMsg)
	r.answer("", "E:0A000 Z:I", &pgproto3.ErrorResponse{Severity: "ERROR", Code: "0A000"}, idle)
	stale(r)

	r = prepare() // on a backend that has not had it
	r.m.Detach()
	r.attach()
	if next := r.client("P:sluice_1 D:sluice_1 H", "", bind("a"), exec, syncMsg); next != Blocked {
		t.Fatalf("next = %d, want Blocked", next)
	}
	r.answer("", "", parsed, described, columns(25))
	r.client("D:sluice_? E S", "")
	r.answer("", "E:0A000 Z:I", errNoStmt, idle)
	stale(r)

	r = prepare() // the same on such a backend
	r.m.Detach()
	r.attach()
	r.client("P:sluice_1 D:sluice_1 H", "", bind("a"), exec, syncMsg)
	r.answer("", "", parsed, described, columns(23))
	r.client("B:sluice_1 E S", "")
	r.answer("", "2 C Z:I", bound, done, idle)

	r = prepare() // it cannot be prepared there
	r.m.Detach()
	r.attach()
	r.client("P:sluice_1 D:sluice_1 H", "", bind("a"), exec, syncMsg)
	r.answer("", "E:42601", errSyntax)
	r.client("B:a E S", "")
	r.answer("", "Z:I", idle)
}

func TestSkippedParseDoesNotUndoALaterOne(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{}).attach()
	r.client("P: S", "", parse("", "old"), syncMsg)
	r.answer("", "1 Z:I", parsed, idle)
	r.client("B:nosuch P: S P: H", "", bind("nosuch"), parse("", "skipped"), syncMsg, parse("", "new"), &pgproto3.Flush{})
	r.answer("", "E:26000 Z:I 1", errNoStmt, idle, parsed)
	if got := r.m.names.Lookup(nil).Query(); got != "new" {
		t.Errorf("the unnamed statement is %q, want new", got)
	}
	r.client("P: B: E S", "", bind(""), exec, syncMsg)
}

func TestNamesWaitForTheRequestThatGivesThemAMeaning(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{}).attach()
	r.client("P:sluice_1 S", "", parse("a", "old"), syncMsg)
	r.answer("", "1 Z:I", parsed, idle)
	// The Close is skipped, so the name is still taken.
	if next := r.client("B:nosuch S H", "", bind("nosuch"), closeStmt("a"), syncMsg, parse("a", "new"), syncMsg); next != Blocked {
		t.Fatalf("next = %d, want Blocked", next)
	}
	r.answer("", "E:26000 Z:I", errNoStmt, idle)
	r.client("D:sluice_? S", "")
	r.answer("", "E:42P05 Z:I", errNoStmt, idle)

	r.m.Detach() // the injected Parse is skipped, so the backend does not have the statement
	r.attach()
	if next := r.client("B:nosuch P:sluice_1 B:sluice_1 S H", "", bind("nosuch"), bind("a"), syncMsg, bind("a"), syncMsg); next != Blocked {
		t.Fatalf("next = %d, want Blocked", next)
	}
	r.answer("", "E:26000 Z:I", errNoStmt, idle)
	r.client("P:sluice_1 B:sluice_1 S", "")
	r.answer("", "2 Z:I", parsed, bound, idle)
}

func TestParseThatMayHaveToFailAsksPostgres(t *testing.T) {
	t.Parallel()
	aborted := &pgproto3.ErrorResponse{Severity: "ERROR", Code: "25P02"}
	failed := &pgproto3.ReadyForQuery{TxStatus: 'E'}
	r := newRig(t, Params{}).attach()
	r.client("P:sluice_1 S", "", parse("a", "select 1"), syncMsg)
	r.answer("", "1 Z:I", parsed, idle)
	r.client("Q:begin", "", query("begin"))
	r.answer("", "C Z:T", done, inBlock)
	r.client("Q:broken P:sluice_2 S", "", query("broken"), parse("b", "select 1"), syncMsg)
	r.answer("", "E:42601 Z:E E:25P02 Z:E", errSyntax, failed, aborted, failed)
	r.client("P:sluice_? S", "", parse("a", "select 2"), syncMsg) // and not that the name is taken
	r.answer("", "E:25P02 Z:E", aborted, failed)
	if got := r.m.names.Lookup([]byte("a")).Query(); got != "select 1" || r.m.names.Lookup([]byte("b")) != nil {
		t.Errorf("a is %q, b is %v", got, r.m.names.Lookup([]byte("b")))
	}
}

func TestCloseWithAnswersOutstandingAfterTheBackendIsGone(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{}).attach()
	r.client("P:sluice_1 B:sluice_1 E S", "", parse("a", "select 1"), bind("a"), exec, syncMsg)
	r.m.Detach()
	r.m.Close()
	r.backend.Clear()
	if r.table.Len() != 0 {
		t.Errorf("%d statements are never released", r.table.Len())
	}
}

func TestSameBadTextTwiceInAPipeline(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{}).attach()
	r.client("P:sluice_1 S P:sluice_2 B:sluice_2 S", "", parse("a", "selec"), syncMsg, parse("b", "selec"), bind("b"), syncMsg)
	r.answer("", "E:42601 Z:I E:42601 Z:I", errSyntax, idle, errSyntax, idle)
}

func TestCloseBehindAFailedParseDoesNotBringItBack(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{}).attach()
	r.client("P:sluice_1 B:sluice_1 S", "", parse("x", "selec"), bind("x"), closeStmt("x"), syncMsg)
	r.answer("", "E:42601 Z:I", errSyntax, idle)
	if r.m.names.Lookup([]byte("x")) != nil {
		t.Error("the failed statement is there")
	}
	r.client("P:sluice_2 S", "", parse("x", "select 1"), syncMsg)
	r.answer("", "1 Z:I", parsed, idle)
}

func TestStaleStatementDoesNotEndASessionThatGoesRaw(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{}).attach()
	r.client("P:sluice_1 S", "", parse("gone", "select * from dropped"), syncMsg)
	r.answer("", "1 Z:I", parsed, idle)
	r.client("C:sluice_1 P:gone S Q:select setseed(1)", "", query("select setseed(1)"))
	r.answer("", "C Z:I", closed, errSyntax, idle, done, idle)
	if !r.m.Free() {
		t.Error("not free")
	}
}

func TestCopyFailingInTheMiddleDropsTheRest(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{}).attach()
	r.client("P: B: E", "", parse("", "copy t from stdin"), bind(""), exec)
	r.client("H", "", &pgproto3.Flush{})
	r.answer("", "1 2 G", parsed, bound, copyIn)
	r.client("d", "", copyData)
	r.answer("", "E:42601", errSyntax)
	r.client("d c S", "", copyData, copyDone, syncMsg)
	r.answer("", "Z:I", idle)
	if !r.m.Free() {
		t.Error("not free")
	}
}

func TestSignalPinsAndGivesTheClientItsOwnNames(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{}).attach()
	r.client("P:sluice_1 S", "", parse("a", "select 1"), syncMsg)
	r.answer("", "1 Z:I", parsed, idle)
	r.client("C:sluice_1 P:a S Q:select setseed(1)", "", query("select setseed(1)"))
	r.answer("", "C Z:I", closed, parsed, idle, done, idle)
	if r.m.Pinned() == "" || !r.m.Free() {
		t.Errorf("pinned = %q, free = %t", r.m.Pinned(), r.m.Free())
	}
	r.client("B:a E Q:deallocate a", "", bind("a"), exec, query("deallocate a"))
}

func TestSignalInAPipelineWaitsForOutstandingReplies(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{}).attach()
	if next := r.client("P:sluice_1 B:sluice_1 E H", "", parse("a", "select 1"), bind("a"), exec, parse("", "deallocate all"), bind(""), exec, syncMsg); next != Blocked {
		t.Fatalf("next = %v, want Blocked", next)
	}
	if next := r.client("", ""); next != Blocked {
		t.Fatalf("next = %v, want Blocked still", next)
	}
	r.answer("", "1 2 C", parsed, bound, done)
	r.client("P:a H P: B: E S", "")
	r.answer("C:sluice_ask P:sluice_ask B:sluice_ask E S", "1 2 C Z:I", parsed, parsed, bound, done, idle)
}

func TestLocalSettingKeepsStatementsPrivate(t *testing.T) {
	t.Parallel()
	table := prepared.NewTable()
	r := newRig(t, Params{Table: table}).attach()
	r.client("Q:begin; set local timezone = 'Asia/Tokyo'", "", query("begin; set local timezone = 'Asia/Tokyo'"))
	r.answer("", "C C Z:T", done, done, inBlock)
	r.client("P:sluice_2 S", "", parse("a", "select '2026-01-01'::timestamptz"), syncMsg)
	r.answer("", "1 Z:T", parsed, inBlock)
	r.client("Q:commit", "", query("commit"))
	r.answer("", "C Z:I", done, idle)
	if !r.m.Free() || r.m.Pinned() != "" {
		t.Errorf("free = %t, pinned = %q", r.m.Free(), r.m.Pinned())
	}
	other := newRig(t, Params{Table: table})
	other.m.Attach(r.backend, false)
	other.client("P:sluice_3 S", "", parse("a", "select '2026-01-01'::timestamptz"), syncMsg)
}

func TestStatementsThatReadTheClockAreNotShared(t *testing.T) {
	t.Parallel()
	table := prepared.NewTable()
	for i, want := range []string{"P:sluice_2 S", "P:sluice_4 S"} {
		r := newRig(t, Params{Table: table}).attach()
		r.client(want, "", parse("a", "select E'n\\x6fw'::timestamptz"), syncMsg)
		if r.m.Pinned() != "" {
			t.Errorf("client %d is pinned: %s", i, r.m.Pinned())
		}
	}
	r := newRig(t, Params{Table: table}).attach()
	r.client("P:a S", "", parse("a", "select 'now'::timestamptz"), syncMsg)
	if got := r.m.Pinned(); got != PinClock { // its time is that of the Parse, so the statement must stay where it is
		t.Errorf("pinned: %q, want %q", got, PinClock)
	}
}

func TestReportedSettingPins(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{Baseline: []wire.Param{{Name: "TimeZone", Value: "UTC"}}}).attach()
	tz := func(v string) pgproto3.Message { return &pgproto3.ParameterStatus{Name: "TimeZone", Value: v} }
	r.client("Q:select f()", "", query("select f()"))
	r.answer("", "S C S Z:I", tz("Asia/Tokyo"), done, tz("UTC"), idle)
	if r.m.Pinned() != "" {
		t.Errorf("pinned by a setting that was taken back: %q", r.m.Pinned())
	}
	r.client("Q:select f()", "", query("select f()"))
	r.answer(questionWords, "S C Z:I", tz("Asia/Tokyo"), done, idle)
	if r.m.Pinned() != PinParameter {
		t.Errorf("pinned = %q, want %q", r.m.Pinned(), PinParameter)
	}
}

func TestApplicationNameIsCarriedUnseen(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{}).attachTo(NewBackend(10, "another"))
	r.carry("P:sluice_set B:sluice_set E S")
	r.client("Q:select 1", "", query("select 1"))
	r.answer("", "", parsed, bound, row, done, &pgproto3.ParameterStatus{Name: "application_name", Value: "app"}, idle)
	if r.m.Free() {
		t.Error("free with the client's query under way")
	}
	r.answer("", "D C Z:I", row, done, idle)
	if got := r.m.p.Counters.Transactions; got != 1 {
		t.Errorf("%d transactions counted, want 1", got)
	}
}

func TestRefusedRequestIsDroppedToItsEnd(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name     string
		messages []pgproto3.Message
		want     string
	}{
		{"query", []pgproto3.Message{query("select 1"), query("select 2")}, "Z:I"},
		{"extended", []pgproto3.Message{parse("a", "select 1"), bind("a"), query("select 0"), exec, syncMsg, query("select 2")}, "Z:I"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, Params{})
			var c Out
			r.m.Refuse(encode(t, errSyntax), &c)
			r.check("to the client", "E:42601", words(c.Bytes()))
			if next := r.client("", tc.want, tc.messages...); next != NeedBackend {
				t.Errorf("next = %v, want NeedBackend for what follows", next)
			}
			if r.m.names.Lookup([]byte("a")) != nil {
				t.Error("a refused Parse counts")
			}
		})
	}
}

func TestFailedInjectionEndsTheSession(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{}).attachTo(NewBackend(10, "another"))
	var b, c Out
	r.m.Carry(&b)
	_, err := r.m.FromBackend(encode(t, errSyntax), &b, &c)
	if !errors.Is(err, ErrCarry) || !c.Empty() {
		t.Errorf("err = %v, to the client %q", err, c.Bytes())
	}
}

func TestAbandonedTransactionIsRolledBack(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		reset bool
		setup func(r *rig)
		want  string
		then  func(r *rig)
	}{
		{"idle", false, func(*rig) {}, "", func(*rig) {}},
		{"idle, reset", true, func(*rig) {}, "Q:DISCARD ALL", func(r *rig) { r.answer("", "", done, idle) }},
		{"in a block", false, func(r *rig) {
			r.client("Q:begin", "", query("begin"))
			r.answer("", "C Z:T", done, inBlock)
		}, "Q:ROLLBACK", func(r *rig) { r.answer("", "", done, idle) }},
		{"query in a block, reset", true, func(r *rig) {
			r.client("Q:select 1", "", query("select 1"))
		}, "", func(r *rig) {
			r.answer("Q:ROLLBACK", "", row, done, inBlock)
			r.answer("Q:DISCARD ALL", "", done, idle)
			r.answer("", "", done, idle)
		}},
		{"extended without Sync", false, func(r *rig) {
			r.client("P: B: E", "", parse("", "select 1"), bind(""), exec)
		}, "D:sluice_? S", func(r *rig) { r.answer("", "", parsed, bound, row, done, errNoStmt, idle) }},
		{"extended, flushed", false, func(r *rig) {
			r.client("P: B: E H", "", parse("", "insert"), bind(""), exec, &pgproto3.Flush{})
			r.answer("", "1 2 C", parsed, bound, done)
		}, "D:sluice_? S", func(r *rig) { r.answer("", "", errNoStmt, idle) }},
		{"before the copy begins", false, func(r *rig) {
			r.client("Q:copy t from stdin", "", query("copy t from stdin"))
		}, "", func(r *rig) {
			r.answer("f", "", copyIn)
			r.answer("", "", errSyntax, idle)
		}},
		{"copy in", false, func(r *rig) {
			r.client("P: B: E H", "", parse("", "copy t from stdin"), bind(""), exec, &pgproto3.Flush{})
			r.answer("", "1 2 G", parsed, bound, copyIn)
		}, "f S", func(r *rig) { r.answer("", "", errSyntax, idle) }},
		{"skipping", false, func(r *rig) {
			r.client("P: H", "", parse("", "selec"), &pgproto3.Flush{})
			r.answer("", "E:42601", errSyntax)
		}, "S", func(r *rig) { r.answer("", "", idle) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, Params{}).attach()
			tc.setup(r)
			var b Out
			if !r.m.Abandon(tc.reset, &b) {
				t.Fatal("cannot be brought back")
			}
			r.check("to the backend", tc.want, words(b.Bytes()))
			tc.then(r)
			if !r.m.Free() {
				t.Error("not free in the end")
			}
		})
	}
}

func TestHalfSentMessageCannotBeBroughtBack(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{Raw: true}).attach()
	var b, c Out
	msg := encode(t, query(strings.Repeat("x", 100)))
	n, next, err := r.m.FromClient(msg[:50], &b, &c)
	if n != 50 || next != More || err != nil || len(b.Bytes()) != 50 {
		t.Fatalf("FromClient = %d, %v, %v", n, next, err)
	}
	if r.m.Abandon(true, &b) {
		t.Error("abandoned in the middle of a message")
	}
}

func TestBigMessagesStream(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{}).attach()
	big := &pgproto3.Bind{PreparedStatement: "a", Parameters: [][]byte{make([]byte, 1<<20)}}
	r.client("P:sluice_1 S", "", parse("a", "select $1"), syncMsg)
	r.answer("", "1 Z:I", parsed, idle)
	msg := encode(t, big, exec, syncMsg)
	var sent []byte
	for len(msg) > 0 {
		var b, c Out
		k := min(64<<10, len(msg))
		n, _, err := r.m.FromClient(msg[:k], &b, &c)
		if err != nil || n == 0 {
			t.Fatalf("FromClient = %d, %v", n, err)
		}
		sent = append(sent, b.Bytes()...)
		msg = msg[n:]
	}
	if got := words(sent); got != "B:sluice_1 E S" {
		t.Errorf("sent %q", got)
	}
}

func TestOutstandingRepliesAreBounded(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{Raw: true}).attach()
	one := encode(t, exec)
	many := make([]byte, 0, len(one)*(maxOutstanding+10))
	for range maxOutstanding + 10 {
		many = append(many, one...)
	}
	var b, c Out
	n, next, err := r.m.FromClient(many, &b, &c)
	if next != Blocked || err != nil || n != len(one)*maxOutstanding {
		t.Fatalf("FromClient = %d, %v, %v", n, next, err)
	}
	if !strings.HasSuffix(string(b.Bytes()), "H\x00\x00\x00\x04") {
		t.Error("the backend is not asked to send what it keeps back")
	}
}

func TestIllegalMessages(t *testing.T) {
	t.Parallel()
	for _, in := range []string{"z\x00\x00\x00\x04", "Q\x00\x00\x00\x03", "S\x00\x01\x00\x00", "p\x00\x00\x00\x05x"} {
		r := newRig(t, Params{}).attach()
		var b, c Out
		if _, _, err := r.m.FromClient([]byte(in), &b, &c); !errors.Is(err, ErrClient) {
			t.Errorf("FromClient(%q): %v, want ErrClient", in, err)
		}
	}
	for _, in := range []string{"D\x00\x00\x00\x04", "Z\x00\x00\x00\x05I", "T\x00\x00\x00\x03"} {
		r := newRig(t, Params{}).attach()
		var b, c Out
		if _, err := r.m.FromBackend([]byte(in), &b, &c); !errors.Is(err, ErrBackend) {
			t.Errorf("FromBackend(%q): %v, want ErrBackend", in, err)
		}
	}
}

func TestPassingThroughDoesNotCopyOrAllocate(t *testing.T) {
	r := newRig(t, Params{}).attach()
	q, z := encode(t, query("select 1")), encode(t, row, done, idle)
	var b, c Out
	turn := func() {
		b.Reset()
		c.Reset()
		if _, _, err := r.m.FromClient(q, &b, &c); err != nil || &b.Bytes()[0] != &q[0] {
			t.Fatal("copied to the backend", err)
		}
		if _, err := r.m.FromBackend(z, &b, &c); err != nil || &c.Bytes()[0] != &z[0] {
			t.Fatal("copied to the client", err)
		}
	}
	turn()
	if n := testing.AllocsPerRun(100, turn); n != 0 {
		t.Errorf("%v allocations for a simple query", n)
	}
}

func TestPreparedRoundTripDoesNotAllocate(t *testing.T) {
	r := newRig(t, Params{}).attach()
	r.client("P:sluice_1 S", "", parse("a", "select $1"), syncMsg)
	r.answer("", "1 Z:I", parsed, idle)
	q, z := encode(t, bind("a"), exec, syncMsg), encode(t, bound, row, done, idle)
	var b, c Out
	turn := func() {
		b.Reset()
		c.Reset()
		_, _, _ = r.m.FromClient(q, &b, &c)
		_, _ = r.m.FromBackend(z, &b, &c)
	}
	turn()
	if n := testing.AllocsPerRun(100, turn); n != 0 {
		t.Errorf("%v allocations for a prepared query", n)
	}
	if got := words(b.Bytes()); got != "B:sluice_1 E S" || !r.m.Free() {
		t.Errorf("sent %q, free %t", got, r.m.Free())
	}
}

func TestSplitAtEveryByte(t *testing.T) {
	t.Parallel()
	in := encode(t, parse("a", "select 1"), bind("a"), describe("a"), exec, closeStmt("a"), syncMsg, query("select 2"))
	out := encode(t, parsed, bound, noData, row, done, idle, row, done, idle)
	run := func(step int) (string, string) {
		r := newRig(t, Params{}).attach()
		toBackend := r.feed(in, step, r.m.clientSide(t))
		toClient := r.feed(out, step, r.m.backendSide(t))
		return words(toBackend), words(toClient)
	}
	wantB, wantC := run(len(in) + len(out))
	for step := 1; step < 40; step++ {
		gotB, gotC := run(step)
		if diff := cmp.Diff([]string{wantB, wantC}, []string{gotB, gotC}); diff != "" {
			t.Fatalf("in steps of %d (-whole +split):\n%s", step, diff)
		}
	}
}

func (m *Machine) clientSide(t *testing.T) func(p []byte) (int, []byte) {
	return func(p []byte) (int, []byte) {
		var b, c Out
		n, _, err := m.FromClient(p, &b, &c)
		if err != nil {
			t.Fatal(err)
		}
		return n, b.Bytes()
	}
}

func (m *Machine) backendSide(t *testing.T) func(p []byte) (int, []byte) {
	return func(p []byte) (int, []byte) {
		var b, c Out
		n, err := m.FromBackend(p, &b, &c)
		if err != nil {
			t.Fatal(err)
		}
		return n, c.Bytes()
	}
}

// feed passes p in steps, as a caller does that keeps what is not taken.
func (r *rig) feed(p []byte, step int, f func([]byte) (int, []byte)) (out []byte) {
	var held []byte
	for len(p) > 0 {
		k := min(step, len(p))
		held = append(held, p[:k]...)
		p = p[k:]
		n, b := f(held)
		out = append(out, b...)
		held = append([]byte(nil), held[n:]...)
	}
	return out
}
