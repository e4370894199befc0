package relay

import (
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// discardWords is a DISCARD SEQUENCES in front of a text outside of a block.
const discardWords = "P:sluice_carry B:sluice_carry E C:sluice_carry"

// discardAsideWords is one in a block, on a portal of its own.
const discardAsideWords = "P:sluice_carry B:sluice_carry E C:sluice_carry C:sluice_carry"

var (
	inserted     = &pgproto3.CommandComplete{CommandTag: []byte("INSERT 0 1")}
	selected     = &pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")}
	errUndefined = &pgproto3.ErrorResponse{Severity: "ERROR", SeverityUnlocalized: "ERROR", Code: "55000"}
)

// numbered is a rig whose client has a backend with nobody else's numbers on it.
func numbered(t *testing.T) *rig {
	r := newRig(t, Params{})
	r.backend = NewBackend(10, application)
	r.m.Attach(r.backend, true)
	return r
}

// runs has the client run sql alone and checks why it keeps its backend afterwards.
func (r *rig) works(sql string, answer pgproto3.Message, pin string) {
	r.t.Helper()
	r.client("Q:"+sql, "", query(sql))
	r.answer("", words(encode(r.t, answer, idle)), answer, idle)
	if r.m.Pinned() != pin || r.m.raw && !r.m.forever {
		r.t.Errorf("behind %q: pinned = %q, raw = %t; want %q", sql, r.m.Pinned(), r.m.raw, pin)
	}
}

func TestSessionThatAsksForAnEarlierNumberIsPinnedBehindEachWrite(t *testing.T) {
	t.Parallel()
	r := numbered(t)
	r.works("insert into t default values", inserted, "")
	r.works("select lastval()", errUndefined, "")
	for range 3 {
		r.works("insert into t default values", inserted, PinSequence)
		r.works("select lastval()", selected, "")
	}
	r.works("select nextval('s')", selected, PinSequence)
	r.works("select 1", selected, "")
	r.works("select lastval()", errUndefined, "")
	r.works("select 1", selected, "")
	r.works("select lastval()", errUndefined, PinSequence)
	r.works("select 1", selected, PinSequence)
}

func TestSessionThatAsksForItsNumberAtOnceIsNotPinned(t *testing.T) {
	t.Parallel()
	r := numbered(t)
	for range 3 {
		r.works("insert into t default values; select lastval()", inserted, "")
		r.works("insert into t default values", inserted, "")
	}
}

func TestOthersNumbersAreDiscardedInFrontOfTheFirstQuestion(t *testing.T) {
	t.Parallel()
	for about, ask := range map[string]pgproto3.FrontendMessage{"query": query("select lastval()"), "parse": parse("p", "select lastval()")} {
		sequences := false
		r := newRig(t, Params{Sequences: &sequences}).attach()
		want := discardWords + " S Q:select lastval()"
		if about == "parse" {
			want = discardWords + " S P:sluice_1"
		}
		r.client(want, "", ask)
		if !sequences {
			t.Errorf("%s: others are not told", about)
		}
	}
	r := newRig(t, Params{}).attach()
	r.client("Q:begin", "", query("begin"))
	r.answer("", "C Z:T", done, inBlock)
	r.client(discardAsideWords+" H Q:select currval('s')", "", query("select currval('s')"))
	r.answer("", "C Z:T", parsed, bound, done, closed, closed, done, inBlock)
	r.client("Q:select lastval()", "", query("select lastval()"))
}

func TestOthersNumbersAreDiscardedInFrontOfAStatementThatAsks(t *testing.T) {
	t.Parallel()
	r := numbered(t)
	r.client("P:sluice_1 S", "", parse("p", "select lastval()"), syncMsg)
	r.answer("", "1 Z:I", parsed, idle)
	r.m.Detach()
	b := r.backend
	r.attachTo(b)
	r.client(discardWords+" B:sluice_1 E S", "", bind("p"), exec, syncMsg)
	r.answer("", "2 D C Z:I", parsed, bound, done, closed, bound, row, done, idle)
}

func TestNumberOutlivesAnotherPin(t *testing.T) {
	t.Parallel()
	r := numbered(t)
	r.works("select lastval()", errUndefined, "")
	r.works("insert into t default values", inserted, PinSequence)
	r.client("Q:insert into t values (1); set work_mem = 1", "", query("insert into t values (1); set work_mem = 1"))
	r.answer(questionWords, "C Z:I", inserted, idle)
	if r.m.Pinned() != "set" || !r.m.unsettled() {
		t.Errorf("pinned = %q, unsettled = %t while Postgres is asked", r.m.Pinned(), r.m.unsettled())
	}
	r.answer("", "", held(true)...)
	r.wantPinned(PinSequence)
	r.works("select lastval()", selected, "")
}
