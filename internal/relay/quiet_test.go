package relay

import (
	"testing"

	"sluice/internal/prepared"
	"sluice/internal/sessionstate"
)

// Not parallel: it counts allocations.
func TestDatabaseWithoutCodePaysNothing(t *testing.T) {
	cost := func(b *Behind) float64 {
		r := newRig(t, Params{Behind: b, Table: prepared.NewTable()}).attach()
		r.client("P:sluice_1 S", "", parse("s", "select 1"), syncMsg)
		r.answer("", "1 Z:I", parsed, idle)
		requests, answers := encode(t, bind("s"), exec, syncMsg, query("select 2")), encode(t, bound, row, done, idle, done, idle)
		var toBackend, toClient Out
		return testing.AllocsPerRun(100, func() {
			if n, _, err := r.m.FromClient(requests, &toBackend, &toClient); err != nil || n != len(requests) {
				t.Fatalf("took %d of %d bytes: %v", n, len(requests), err)
			}
			if n, err := r.m.FromBackend(answers, &toBackend, &toClient); err != nil || n != len(answers) || !r.m.Free() {
				t.Fatalf("took %d of %d bytes: %v", n, len(answers), err)
			}
			toBackend.Reset()
			toClient.Reset()
		})
	}
	quiet := new(Behind)
	quiet.Set(Strict, new(sessionstate.Code))
	if n := cost(quiet); n != 0 {
		t.Errorf("%v allocations for two statements, want none", n)
	}
	trusted := new(Behind)
	trusted.Set(Hint, nil)
	if n := cost(trusted); n != 0 {
		t.Errorf("%v allocations for two statements under hint, want none", n)
	}
}
