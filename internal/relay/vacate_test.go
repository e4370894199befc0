package relay

import (
	"slices"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

func TestStatementThatNeedsADatabaseForItselfWaitsForIt(t *testing.T) {
	t.Parallel()
	const sql = `DROP DATABASE "Shop"`
	for name, tc := range map[string]struct {
		raw  bool
		msgs []pgproto3.Message
		sent string
	}{
		"simple":                       {false, []pgproto3.Message{query(sql)}, "Q:" + sql},
		"simple, session of its own":   {true, []pgproto3.Message{query(sql)}, "Q:" + sql},
		"extended, session of its own": {true, []pgproto3.Message{parse("", sql), bind(""), exec, syncMsg}, "P: B: E S"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, Params{Raw: tc.raw}).attach()
			for range 2 { // however often it is asked
				if next := r.client("", "", tc.msgs...); next != NeedVacancy {
					t.Fatalf("next = %v, want NeedVacancy", next)
				}
				tc.msgs = nil
				if got := r.m.Vacancy(); !slices.Equal(got, []string{"Shop"}) {
					t.Errorf("databases: %q", got)
				}
				if r.m.Free() {
					t.Error("free with a message that is still to be sent")
				}
			}
			r.m.Vacated()
			r.client(tc.sent, "")
			if next := r.client("", "", query(sql)); next != NeedVacancy && tc.raw {
				t.Errorf("next = %v for the next one, want NeedVacancy", next)
			}
		})
	}
}

func TestPreparedStatementNeedsItsDatabaseWhenItIsBound(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{}).attach()
	r.client("P:sluice_1 S", "", parse("a", "create database b template c"), syncMsg)
	r.answer("", "1 Z:I", parsed, idle)
	if next := r.client("", "", bind("a"), exec, syncMsg); next != NeedVacancy || !slices.Equal(r.m.Vacancy(), []string{"c"}) {
		t.Fatalf("next = %v", next)
	}
	r.m.Vacated()
	r.client("B:sluice_1 E S", "")
}

func TestNothingIsVacatedWherePostgresRefuses(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{}).attach()
	r.client("Q:begin", "", query("begin"))
	r.answer("", "C Z:T", done, inBlock)
	r.client("Q:drop database a", "", query("drop database a"))
}
