package relay

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"sluice/internal/prepared"
)

// command is the end of a command's answer, with its tag.
func command(tag string) *pgproto3.CommandComplete {
	return &pgproto3.CommandComplete{CommandTag: []byte(tag)}
}

// bySQL and byProtocol are rows of the answer to the question: statements that the session has prepared.
func bySQL(name, text string) [4]string             { return [4]string{"q", name, text, "{}"} }
func byProtocol(name, text, types string) [4]string { return [4]string{"p", name, text, types} }

// prepares has the client run sql, whose tag is given, and Postgres say what the session has prepared then.
func (r *rig) prepares(first bool, sql, tag string, rows ...[4]string) {
	r.t.Helper()
	r.client("Q:"+sql, "", query(sql))
	want := againWords
	if first {
		want = questionWords
	}
	r.answer(want, "C Z:I", command(tag), idle)
	r.answer("", "", held(first, rows...)...)
	if !r.m.Free() || r.m.Pinned() != "" {
		r.t.Errorf("behind %q: free = %t, pinned = %q", sql, r.m.Free(), r.m.Pinned())
	}
}

// replay is what prepares an SQL statement for a client, and what Postgres answers.
const replayWords = "P: B: E S"

var replayed = []pgproto3.Message{parsed, bound, command("PREPARE"), idle}

// reply passes messages that nobody is to see.
func (r *rig) unseen(msgs ...pgproto3.Message) {
	r.t.Helper()
	r.answer("", "", msgs...)
}

func TestSQLStatementsFollowTheirClient(t *testing.T) {
	t.Parallel()
	table := prepared.NewTable()
	a, b := newRig(t, Params{Table: table}).attach(), newRig(t, Params{Table: table})
	first, second := a.backend, NewBackend(10, application)
	a.prepares(true, "prepare p as select 1", "PREPARE", bySQL("p", "prepare p as select 1"))
	a.m.Detach()

	a.attachTo(second)
	a.carry(replayWords)
	a.unseen(replayed...)
	a.client("Q:execute p", "", query("execute p"))
	a.answer("", "D C Z:I", row, done, idle)
	a.client("B:p E S", "", bind("p"), exec, syncMsg)
	a.answer("", "2 D C Z:I", bound, row, done, idle)
	a.wantPinned("")
	a.m.Detach()
	a.attachTo(first) // it is as it was left
	a.carry("")
	a.client("Q:execute p", "", query("execute p"))
	a.answer("", "D C Z:I", row, done, idle)
	a.m.Detach()

	b.attachTo(first)
	b.carry("")
	b.client("P:sluice_2 B:sluice_?p S", "", parse("q", "select 2"), bind("p"), syncMsg) // it does not get to see what is left there
	b.answer("", "1 E:26000 Z:I", parsed, errNoStmt, idle)
	b.client("C:p P:q S Q:execute p", "", query("execute p"))
	b.answer("", "E:26000 Z:I", closed, parsed, idle, errNoStmt, idle)
}

func TestSameSQLStatementsAreShared(t *testing.T) {
	t.Parallel()
	table := prepared.NewTable()
	a, b := newRig(t, Params{Table: table}).attach(), newRig(t, Params{Table: table}).attach()
	const sql = "prepare p as select 1"
	a.prepares(true, sql, "PREPARE", bySQL("p", sql))
	b.prepares(true, sql, "PREPARE", bySQL("p", sql))
	a.m.Detach()
	b.m.Detach()
	b.attachTo(a.backend)
	b.carry("")
	b.m.Close()
	a.m.Close()
	if got := table.Len(); got != 1 {
		t.Errorf("%d statements are interned, want the one that the backends have", got)
	}
	a.backend.Clear()
}

func TestClausePreparedBesideOthersIsNotLentAsItIs(t *testing.T) {
	t.Parallel()
	for name, sql := range map[string]string{
		"another statement": "insert into t values ('secret'); prepare p as select 1",
		"a setting":         "begin; set local timezone = 'Asia/Tokyo'; prepare p as select 1; commit",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newRig(t, Params{}).attach()
			a.prepares(true, sql, "PREPARE", bySQL("p", sql))
			a.m.Detach()
			a.attachTo(a.backend)
			a.carry("C:p " + replayWords)
			a.unseen(append([]pgproto3.Message{closed}, replayed...)...)
			if got := a.m.names.Lookup([]byte("p")).Query(); got != "prepare p as select 1" {
				t.Errorf("p is %q", got)
			}
		})
	}
}

func TestStatementThatCannotBePreparedElsewhereKeepsTheBackend(t *testing.T) {
	t.Parallel()
	for sql, want := range map[string]string{
		"prepare p as select 1; deallocate p; prepare p as select 2": "prepare",
		"prepare p as select 'now'::timestamptz":                     PinClock,
		"prepare sluice_1 as select 1":                               "prepare",
	} {
		r := newRig(t, Params{}).attach()
		r.client("Q:"+sql, "", query(sql))
		if strings.Contains(sql, "sluice_") {
			r.answer("", "C Z:I", command("PREPARE"), idle)
		} else {
			r.answer(questionWords, "C Z:I", command("PREPARE"), idle)
			r.unseen(held(true, bySQL("p", sql))...)
		}
		r.wantPinned(want)
	}
}

func TestNamesAreThoseOfTheProtocolToo(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{}).attach()
	r.client("P:sluice_1 P:sluice_2 S", "", parse("a", "select $1"), parse("b", "select 2"), syncMsg)
	r.answer("", "1 1 Z:I", parsed, parsed, idle)
	r.client("P:a S P:b S Q:deallocate a", "", query("deallocate a"))
	r.answer(questionWords, "C Z:I", parsed, idle, parsed, idle, command("DEALLOCATE"), idle)
	r.unseen(held(true, byProtocol("b", "select 2", "{}"))...)
	r.m.Detach()
	r.attachTo(r.backend)
	r.carry("") // only statements of SQL have to be there from the start
	r.client("B:a S", "", bind("a"), syncMsg)
	r.answer("", "E:26000 Z:I", errNoStmt, idle)
	r.client("B:sluice_2 S", "", bind("b"), syncMsg)
	r.answer("", "2 Z:I", bound, idle)
}

func TestStatementThatPostgresNamesIsLearnt(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{}).attach()
	r.client("P: B: E P:b S", "", parse("", "deallocate all"), bind(""), exec, parse("b", "select $1::int"), syncMsg)
	r.answer(questionWords, "1 2 C 1 Z:I", parsed, bound, command("DEALLOCATE ALL"), parsed, idle)
	r.unseen(held(true, byProtocol("b", "select $1::int", "{23}"))...)
	st := r.m.names.Lookup([]byte("b"))
	if st == nil || st.Body() != "select $1::int\x00\x00\x01\x00\x00\x00\x17" {
		t.Errorf("b is %+v", st)
	}
}

func TestDeallocateAllEmptiesTheSetInStreamOrder(t *testing.T) {
	t.Parallel()
	for _, sql := range []string{"DEALLOCATE ALL", "DISCARD ALL"} {
		r := newRig(t, Params{}).attach()
		r.sets(true, "set work_mem = '8MB'", noRole)
		r.client("P:sluice_1 S", "", parse("a", "select 1"), syncMsg)
		r.answer("", "1 Z:I", parsed, idle)
		r.client("P:a S Q:"+sql, "", query(sql))
		r.client("B:a S", "", bind("a"), syncMsg)
		r.answer(questionWords, "C Z:I E:26000 Z:I", parsed, idle, command(sql), idle, errNoStmt, idle) // the question is prepared anew
		r.unseen(held(true)...)
		if r.backend.Len() != 0 || r.m.names.Len() != 0 {
			t.Errorf("%s leaves %d statements to the backend and %d to the client", sql, r.backend.Len(), r.m.names.Len())
		}
		r.wantPinned("")
	}
}

func TestListShowsNoneOfSluicesStatements(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{}).attach()
	r.client("P:sluice_1 S", "", parse("a", "select 1"), syncMsg)
	r.answer("", "1 Z:I", parsed, idle)
	const list = "select name from pg_prepared_statements"
	r.client("C:sluice_1 P:a S Q:"+list, "", query(list))
	r.answer("", "C Z:I", closed, parsed, idle, done, idle)
	if !r.m.Free() {
		t.Error("not free: a list leaves nothing behind")
	}
	r.m.Detach()
	r.attachTo(r.backend)
	r.client("P:sluice_1 B:sluice_1 S", "", bind("a"), syncMsg)
	r.answer("", "2 Z:I", parsed, bound, idle)
}

func TestFailedBlockGetsNoStatementsButNoStrangersEither(t *testing.T) {
	t.Parallel()
	table := prepared.NewTable()
	a, b := newRig(t, Params{Table: table}).attach(), newRig(t, Params{Table: table})
	a.prepares(true, "prepare p as select 1", "PREPARE", bySQL("p", "prepare p as select 1"))
	a.m.Detach()
	b.attachTo(a.backend)
	b.client("Q:begin", "", query("begin"))
	b.answer("", "C Z:T", done, inBlock)
	b.client("Q:nonsense", "", query("nonsense"))
	failed := &pgproto3.ReadyForQuery{TxStatus: 'E'}
	b.answer("", "E:42601 Z:E", errSyntax, failed)
	b.client("C:p H Q:rollback; execute p", "", query("rollback; execute p"))
	b.answer("", "C E:26000 Z:I", closed, command("ROLLBACK"), errNoStmt, idle)
	b.wantPinned("")
}

func TestOwnStatementThatCannotBePreparedAnyMoreSaysWhy(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{}).attach()
	r.client("P:sluice_1 S", "", parse("gone", "select * from dropped"), syncMsg)
	r.answer("", "1 Z:I", parsed, idle)
	r.prepares2("P:gone S Q:prepare p as select 1", errSyntax)
	r.client("P:gone B:gone E S", "", bind("gone"), exec, syncMsg)
	r.answer("", "E:42601 Z:I", errSyntax, idle)
	r.client("P:gone B:gone E S", "", bind("gone"), exec, syncMsg) // again
	r.answer("", "2 C Z:I", parsed, bound, done, idle)
	r.client("B:gone E S", "", bind("gone"), exec, syncMsg)
}

// prepares2 has the client prepare p, behind what Sluice does first, to which Postgres says first.
func (r *rig) prepares2(toBackend string, first pgproto3.Message) {
	r.t.Helper()
	const sql = "prepare p as select 1"
	r.client(toBackend, "", query(sql))
	r.answer(questionWords, "C Z:I", first, idle, command("PREPARE"), idle)
	r.unseen(held(true, bySQL("p", sql))...)
}

func TestOwnStatementThatReturnsSomethingElseIsNotUsed(t *testing.T) {
	t.Parallel()
	result := func(name string) *pgproto3.RowDescription {
		return &pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{{Name: []byte(name), DataTypeOID: 23}}}
	}
	r := newRig(t, Params{}).attach()
	r.client("P:sluice_1 D:sluice_1 S", "", parse("a", "select * from t"), describe("a"), syncMsg)
	r.answer("", "1 t T Z:I", parsed, &pgproto3.ParameterDescription{}, result("before"), idle)
	if next := r.client("P:a D:a S", "", query("execute a")); next != Blocked {
		t.Fatalf("next = %v before it is known what it returns, want Blocked", next)
	}
	r.unseen(parsed, &pgproto3.ParameterDescription{}, result("after"), idle)
	if r.m.Free() {
		t.Error("free with a message that is still to be sent")
	}
	r.client("Q:execute a D:sluice_? S", "", bind("a"), syncMsg)
	r.answer("", "C Z:I E:0A000 Z:I", done, idle, errNoStmt, idle)
}

func TestFailedParseOfAnOwnNameIsUndone(t *testing.T) {
	t.Parallel()
	errTaken := &pgproto3.ErrorResponse{Severity: "ERROR", SeverityUnlocalized: "ERROR", Code: "42P05"}
	r := newRig(t, Params{}).attach()
	r.prepares(true, "prepare p as select 1", "PREPARE", bySQL("p", "prepare p as select 1"))
	before := r.m.names.Lookup([]byte("p"))
	r.client("C:x P:p C:p S", "", closeStmt("x"), parse("p", "select 2"), closeStmt("p"), syncMsg)
	r.answer("", "3 E:42P05 Z:I", closed, errTaken, idle)
	if got := r.m.names.Lookup([]byte("p")); got != before || r.backend.Own.Lookup([]byte("p")) != before {
		t.Errorf("p is %q", got.Query())
	}
	r.client("C:p S", "", closeStmt("p"), syncMsg)
	r.answer("", "3 Z:I", closed, idle)
	if r.m.names.SQL() || r.backend.Own.Len() != 0 {
		t.Error("p is still there")
	}
}

func TestPreparedSettingIsAskedAboutWhenItRuns(t *testing.T) {
	t.Parallel()
	const sql = "prepare p as select set_config('work_mem', '8MB', false)"
	r := newRig(t, Params{}).attach()
	r.prepares(true, sql, "PREPARE", bySQL("p", sql))
	r.client("Q:execute p", "", query("execute p"))
	r.answer(againWords, "D C Z:I", row, done, idle)
	r.unseen(held(false, [4]string{"s", "work_mem", "8192", "4096"})...)
	r.wantPinned("")
	if got := len(r.m.state.Settings()); got != 1 {
		t.Errorf("%d settings, want that of the statement", got)
	}
	r.client("B:p E S", "", bind("p"), exec, syncMsg)
	r.answer(againWords, "2 D C Z:I", bound, row, done, idle)
}

func TestStatementsOfAnotherStateArePreparedAnew(t *testing.T) {
	t.Parallel()
	table := prepared.NewTable()
	const sql = "prepare p as select '2026-01-01'::timestamptz"
	a, b := newRig(t, Params{Table: table}).attach(), newRig(t, Params{Table: table})
	a.prepares(true, sql, "PREPARE", bySQL("p", sql))
	a.sets(false, "set timezone = 'Asia/Tokyo'", [4]string{"s", "TimeZone", "Asia/Tokyo", "UTC"})
	a.m.Detach()
	second := NewBackend(10, application)
	a.attachTo(second)
	a.carry("P:sluice_set B:sluice_set E S " + replayWords)
	a.unseen(append([]pgproto3.Message{parsed, bound, row, done, idle}, replayed...)...)
	a.m.Detach()

	b.attachTo(NewBackend(10, application))
	b.prepares(true, sql, "PREPARE", bySQL("p", sql))
	b.m.Detach()
	b.attachTo(second) // where the same text was prepared with another TimeZone
	var sent Out
	b.m.Carry(&sent)
	if got := words(sent.Bytes()); got != "B:sluice_set E S C:p "+replayWords {
		t.Errorf("carried %q", got)
	}
}

func TestQuestionThatCannotBeUnderstoodIsAFailure(t *testing.T) {
	t.Parallel()
	for _, row := range [][4]string{{"q", "p", "-", "{}"}, {"p", "p", "select 1", "-"}, {"p", "p", "select 1", "{99999999999}"}} {
		r := newRig(t, Params{}).attach()
		r.client("Q:deallocate p", "", query("deallocate p"))
		r.answer(questionWords, "C Z:I", command("DEALLOCATE"), idle)
		r.answer("P: B: E "+againWords, "", held(true, row)...)
		r.wantPinned("deallocate")
	}
}
