package relay

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgproto3"

	"sluice/internal/sessionstate"
)

// calmWords is the question behind one that has failed.
const calmWords = "P: B: E " + questionWords

var cancelled = &pgproto3.ErrorResponse{Severity: "ERROR", Code: "57014"}

// calmed is Postgres's answer to such a question.
func calmed(timeout string, rows ...[4]string) []pgproto3.Message {
	row := &pgproto3.DataRow{Values: [][]byte{[]byte("t"), []byte("statement_timeout"), []byte(timeout), []byte("0")}}
	return append([]pgproto3.Message{parsed, bound, row, done}, held(true, rows...)...)
}

func TestFailedQuestionIsAskedAgainWithoutTimeout(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{}).attach()
	r.client("Q:set statement_timeout = 1", "", query("set statement_timeout = 1"))
	r.answer(questionWords, "C Z:I", done, idle)
	r.answer(calmWords, "", closed, parsed, bound, cancelled, idle)
	if next := r.client("", "", query("set statement_timeout = 2")); next != Blocked || r.m.Free() {
		t.Errorf("next = %d, want Blocked; free = %t", next, r.m.Free())
	}
	r.answer(calmWords, "", cancelled, idle) // it may strike that too
	r.answer("", "", calmed("1ms", noRole, [4]string{"s", "statement_timeout", "0", "0"})...)
	r.wantPinned("")
	want := []sessionstate.Setting{{Name: "statement_timeout", Value: "1"}}
	if diff := cmp.Diff(want, r.m.state.Settings()); diff != "" || !r.m.Free() {
		t.Errorf("free = %t, state (-want +got):\n%s", r.m.Free(), diff)
	}
	r.client("Q:set statement_timeout = 2", "")
	r.answer(againWords, "C Z:I", done, idle) // as ever
	if n := r.m.p.Counters.QuestionsFailed; n != 2 {
		t.Errorf("%d questions have failed, want 2", n)
	}
}

func TestTimeoutThatIsTheDefaultIsNotTheSessions(t *testing.T) {
	t.Parallel()
	for _, settings := range []bool{true, false} {
		r := newRig(t, Params{Behind: behind(Strict, sessionstate.Code{Settings: settings})}).attach()
		r.runs("select login()", questionWords)
		r.answer(calmWords, "", closed, parsed, bound, cancelled, idle)
		r.answer("", "", calmed("1min", [4]string{"s", "statement_timeout", "0", "60000"})...)
		r.wantPinned("")
		if r.m.state != nil {
			t.Errorf("the session has %v", r.m.state.Settings())
		}
	}
}

func TestFailedQuestionIsAskedAgainBehindWhatTheClientHasSent(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{}).attach()
	r.client("Q:set work_mem = 1", "", query("set work_mem = 1"))
	r.answer(questionWords, "C Z:I", done, idle)
	r.client("Q:begin", "", query("begin"))
	r.answer("", "", closed, parsed, bound, cancelled, idle)
	r.wantPinned("set")
	r.answer("", "C Z:T", done, inBlock)
	r.client("Q:commit", "", query("commit"))
	r.answer(calmWords, "C Z:I", done, idle)
	r.answer("", "", calmed("0", noRole)...)
	r.wantPinned("")
}

func TestWhatCodeMayHaveSetIsAskedAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{Behind: behind(Strict, setsWho)}).attach()
	r.runs("select login()", questionWords)
	r.answer(calmWords, "", closed, parsed, bound, cancelled, idle)
	if names, _ := r.m.about(); r.m.Pinned() != PinOpaque || !r.m.doubt.answer.behind {
		t.Errorf("pinned = %q, asked about %q", r.m.Pinned(), names)
	}
	r.answer("", "", calmed("0", whoIs("a"))...)
	r.wantPinned("")
	r.wantSurprise(false, "app.who")
}

func TestBackendThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	for check, pinned := range map[Check]string{Strict: PinOpaque, Learn: ""} {
		r := newRig(t, Params{Behind: behind(check, setsWho)}).attach()
		r.runs("select login()", questionWords)
		r.answer(calmWords, "", closed, parsed, bound, cancelled, idle)
		for range maxFailures - 2 {
			r.answer(calmWords, "", cancelled, idle)
		}
		r.answer("", "", cancelled, idle)
		r.wantPinned(pinned)
		if !r.m.Free() || r.backend.Worn() != (pinned == "") {
			t.Errorf("%d: free = %t, worn = %t", check, r.m.Free(), r.backend.Worn())
		}
		if pinned != "" { // until it does
			r.runs("begin; commit", questionWords)
			r.answer("", "", held(true, whoIs("a"))...)
			r.wantPinned("")
		}
	}
}

func TestMilliseconds(t *testing.T) {
	t.Parallel()
	for shown, want := range map[string]string{
		"0": "0", "1ms": "1", "5s": "5000", "90s": "90000", "2min": "120000", "3h": "10800000", "1d": "86400000", "2147483647ms": "2147483647",
	} {
		if got, ok := milliseconds(shown); got != want || !ok {
			t.Errorf("%s: got %q, %t", shown, got, ok)
		}
	}
	for _, shown := range []string{"", "s", "1us", "-1", "1 s", "99999999999999999999"} {
		if got, ok := milliseconds(shown); ok {
			t.Errorf("%q: got %q", shown, got)
		}
	}
}

func FuzzMilliseconds(f *testing.F) {
	f.Add("5s")
	f.Fuzz(func(t *testing.T, shown string) {
		ms, ok := milliseconds(shown)
		if again, _ := milliseconds(ms); ok && again != ms || ok && slices.Contains([]string{"", "-"}, ms) {
			t.Errorf("%q: %q", shown, ms)
		}
	})
}
