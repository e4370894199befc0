package relay

import (
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"sluice/internal/sessionstate"
)

func TestExecuteOfAStatementThatIsGivenTheNameOfASettingPins(t *testing.T) {
	t.Parallel()
	const sql = "prepare p as select set_config($1, 'x', false)"
	r := newRig(t, Params{}).attach()
	r.prepares(true, sql, "PREPARE", bySQL("p", sql))
	r.client("C:p C:sluice_ask P: B: E S Q:execute p('app.x')", "", query("execute p('app.x')")) // it was asked for and is prepared anew
	r.answer("", "D C Z:I", closed, closed, parsed, bound, done, idle, row, done, idle)
	r.wantPinned("set_config")
	if !r.m.raw {
		t.Error("not raw: which setting it is cannot be asked")
	}
}

func TestBindOfAStatementOfSQLSaysWhichSettingItSets(t *testing.T) {
	t.Parallel()
	const sql = "prepare p as select set_config($1, 'x', false)"
	r := newRig(t, Params{}).attach()
	r.prepares(true, sql, "PREPARE", bySQL("p", sql))
	r.client("B:p E S", "", &pgproto3.Bind{PreparedStatement: "p", Parameters: [][]byte{[]byte("app.x")}}, exec, syncMsg)
	r.answer(againWords, "2 D C Z:I", bound, row, done, idle)
	r.unseen(held(false, [4]string{"s", "app.x", "x", "-"})...)
	r.wantPinned("")
	if value, ok := r.m.state.Value("app.x"); !ok || value != "x" {
		t.Errorf("app.x = %q, %t", value, ok)
	}
}

func TestExecuteMayAskForTheNumberOfAnEarlierOne(t *testing.T) {
	t.Parallel()
	r := numbered(t)
	const draws, asks = "prepare draws as select nextval('s')", "select nextval('s'); prepare asks as select currval('s')"
	r.prepares(true, draws, "PREPARE", bySQL("draws", draws))
	r.prepares(false, asks, "PREPARE", bySQL("draws", draws), bySQL("asks", asks))
	r.works("execute draws", selected, PinSequence)
	r.works("execute asks", selected, PinSequence)
	r.works("select 1", selected, "")
	r.m.Detach()

	r.attachTo(r.backend)            // others have drawn numbers there
	r.carry("C:asks " + replayWords) // it was prepared beside another statement
	r.unseen(append([]pgproto3.Message{closed}, replayed...)...)
	r.client(discardWords+" S Q:execute asks", "", query("execute asks"))
	r.answer("", "E:55000 Z:I", parsed, bound, done, closed, idle, errUndefined, idle)
}

func TestStatementsOfSQLAreCarriedInADatabaseWithCode(t *testing.T) {
	t.Parallel()
	const sql = "prepare p as select 1"
	for name, tc := range map[string]struct {
		code  sessionstate.Code
		carry string
	}{
		"that sets custom settings": {setsWho, ""},
		"that sets any":             {sessionstate.Code{Settings: true}, "C:p " + replayWords}, // perhaps by the time p was prepared
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, Params{Behind: behind(Strict, tc.code)}).attach()
			r.prepares(true, sql, "PREPARE", bySQL("p", sql))
			r.wantSurprise(false)
			r.m.Detach()
			r.attachTo(r.backend)
			r.carry(tc.carry)
			if tc.carry != "" {
				r.unseen(append([]pgproto3.Message{closed}, replayed...)...)
			}
			r.runs("execute p", againWords)
			if got, want := r.m.doubt.answer.scope, (scope{settings: tc.code.Settings}); got != want {
				t.Errorf("asked about %+v, want %+v", got, want)
			}
			r.unseen(held(false)...)
			r.wantPinned("")
		})
	}
}

func TestWhatCodePreparesIsNobodys(t *testing.T) {
	t.Parallel()
	const sql = "prepare q as select 2"
	strange := bySQL("x", "prepare x as select 1")
	for name, tc := range map[string]struct {
		unasked bool // code may have run on the backend for others
		sql     string
		rows    [][4]string
		pin     string
	}{
		"known to be of this session":   {false, "select f()", [][4]string{strange}, "prepare"},
		"perhaps of another":            {true, "select f()", [][4]string{strange}, ""},
		"perhaps of another, beside q":  {true, sql, [][4]string{strange, bySQL("q", sql)}, ""},
		"what others have left by name": {false, "select f()", nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code := sessionstate.Code{Unknown: true}
			other := newRig(t, Params{}).attach()
			const left = "prepare p as select 1"
			other.prepares(true, left, "PREPARE", bySQL("p", left))
			other.m.Detach()

			r := newRig(t, Params{Behind: behind(Learn, code)}).attachTo(other.backend)
			if tc.unasked {
				r.backend.Mistrust()
			}
			if tc.sql == sql {
				r.client("C:p S Q:"+sql, "", query(sql))
				r.answer(againWords, "C Z:I", closed, idle, done, idle)
			} else {
				r.runs(tc.sql, againWords)
				tc.rows = append(tc.rows, bySQL("p", left))
			}
			r.unseen(held(false, tc.rows...)...)
			r.wantPinned(tc.pin)
			if len(tc.rows) > 1 {
				r.wantSurprise(tc.unasked, "prepare")
			}
			if want := tc.sql == sql; r.m.names.SQL() != want || r.backend.tainted != tc.unasked {
				t.Errorf("the session has statements of SQL: %t, want %t; tainted = %t", r.m.names.SQL(), want, r.backend.tainted)
			}
		})
	}
}

func TestBackendStaysForAMessageThatWaitsForInjections(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{}).attachTo(NewBackend(10, "other"))
	r.carry("P:sluice_set B:sluice_set E S")
	if next := r.client("H", "", query("prepare p as select 1")); next != Blocked {
		t.Fatalf("next = %d, want Blocked", next)
	}
	r.unseen(parsed, bound, row, done, idle)
	if r.m.Free() {
		t.Error("free: the next backend may keep the message waiting in the same way, and so on")
	}
}
