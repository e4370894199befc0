package relay

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgproto3"
)

// observing returns a machine of a session of its own that is observed.
func observing(t *testing.T) (*rig, *Observer) {
	o := &Observer{}
	o.Start()
	return newRig(t, Params{Raw: true, Observer: o}).attach(), o
}

// drained returns what was observed, with how often.
func drained(o *Observer) (rows map[Observed]uint64, looked, omitted uint64) {
	rows = make(map[Observed]uint64)
	looked, omitted = o.Drain(func(row Observed, n uint64) { rows[row] = n })
	return rows, looked, omitted
}

// texts are statements of every kind that changes a session, and some that do not.
func texts() []string {
	return []string{
		"select 1", "begin", "set local work_mem = '1MB'", "create table t (a int)", "select pg_advisory_xact_lock(1)",
		"set work_mem = '1MB'", "reset all", "set role alice", "select set_config('app.user', $1, false)", "set app.user = 'x'",
		"select set_config($1, $2, false)", "do $$ begin perform 1; end $$", "call p()", "create temp table t (a int)",
		"declare c cursor with hold for select 1", "select pg_advisory_lock(1)", "listen news", "unlisten *",
		"prepare p as select 1", "execute p", "execute sluice_1", "deallocate all", "discard all", "discard temp", "select * from pg_prepared_statements",
		"load 'x'", "select setseed(0.5)", "select nextval('s')", "select dblink_connect('x')",
		"do $$ begin execute 'select 1'; end $$", "select U&'\\0061' uescape '!'", "set standard_conforming_strings = off",
	}
}

// TestForeseenIsWhatHappens holds what is foreseen for a text against what a shared session does with it.
func TestForeseenIsWhatHappens(t *testing.T) {
	t.Parallel()
	for _, sql := range texts() {
		alone, o := observing(t)
		alone.client("Q:"+sql, "", query(sql))
		rows, _, _ := drained(o)

		shared := newRig(t, Params{}).attach()
		var toBackend, toClient Out
		if _, _, err := shared.m.FromClient(encode(t, query(sql)), &toBackend, &toClient); err != nil {
			t.Fatal(err)
		}
		m := &shared.m
		if m.pin == "" {
			if len(rows) > 0 {
				t.Errorf("%s: foreseen %v, and nothing happens", sql, rows)
			}
			continue
		}
		if len(rows) != 1 {
			t.Errorf("%s: foreseen %v, want one row", sql, rows)
		}
		for row := range rows {
			if row.Reason != m.pin || (row.Effect == PinsToEnd) != m.forever {
				t.Errorf("%s: foreseen %s and %q, but the pin is %q, to the end: %t", sql, row.Effect, row.Reason, m.pin, m.forever)
			}
		}
	}
}

func TestObserverTellsStatementsApartAndCountsThem(t *testing.T) {
	t.Parallel()
	r, o := observing(t)
	r.client("Q:set app.user = 'a' Q:set app.user = 'b' Q:SELECT 1", "",
		query("set app.user = 'a'"), query("set app.user = 'b'"), query("SELECT 1"))
	r.client("P: P:a S", "",
		parse("", "select pg_advisory_lock($1)"), parse("a", "select pg_advisory_lock($1)"), syncMsg)
	r.client("P: P:b S", "",
		parse("", "select 'now'::timestamp"), parse("b", "select 'now'::timestamp"), syncMsg)
	r.client("Q:load 'x' F F", "", query("load 'x'"), &pgproto3.FunctionCall{Function: 4711}, &pgproto3.FunctionCall{Function: 954})
	rows, looked, omitted := drained(o)
	want := map[Observed]uint64{
		{application, "set app.user = ?", "set", Asks}:                      2,
		{application, "select pg_advisory_lock($1)", "advisory_lock", Pins}: 2,
		{application, "select ?::timestamp", PinClock, PinsToEnd}:           1,
		{application, "load ?", "load", PinsToEnd}:                          1,
		{application, "", PinFunctionCall, PinsToEnd}:                       1,
	}
	if diff := cmp.Diff(want, rows); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if looked != 9 || omitted != 0 {
		t.Errorf("looked at %d and omitted %d, want 9 and 0", looked, omitted)
	}
	if rows, looked, _ := drained(o); len(rows) > 0 || looked > 0 {
		t.Errorf("drained twice: %v, %d", rows, looked)
	}
}

func TestObserverWaitsForATextButNotForALongOne(t *testing.T) {
	t.Parallel()
	r, o := observing(t)
	var toBackend, toClient Out
	whole := encode(t, query("listen "+strings.Repeat("n", 3000)))
	if n, next, err := r.m.FromClient(whole[:2000], &toBackend, &toClient); n != 0 || next != More || err != nil {
		t.Errorf("the beginning of a text: took %d, %v, %v, want 0 and More", n, next, err)
	}
	if n, _, err := r.m.FromClient(whole, &toBackend, &toClient); n != len(whole) || err != nil {
		t.Errorf("the whole text: took %d, %v, want %d", n, err, len(whole))
	}
	long := encode(t, query("insert into t values ('"+strings.Repeat("x", maxScan)))
	if n, next, err := r.m.FromClient(long[:100], &toBackend, &toClient); n != 0 || next != More || err != nil {
		t.Errorf("too little of a long text: took %d, %v, %v, want 0 and More", n, next, err)
	}
	if n, _, err := r.m.FromClient(long[:5000], &toBackend, &toClient); n != 5000 || err != nil {
		t.Errorf("the beginning of a long text: took %d, %v, want 5000", n, err)
	}
	rows, _, _ := drained(o)
	found := 0
	for row, n := range rows {
		if n == 1 && (row.Reason == "listen" || row.Reason == PinLarge && strings.HasPrefix(row.Statement, "insert into t values (?")) {
			found++
		}
	}
	if len(rows) != 2 || found != 2 {
		t.Errorf("got %v, want the LISTEN and the INSERT, once each", rows)
	}
}

func TestWhatAnObserverKeepsIsBounded(t *testing.T) {
	t.Parallel()
	r, o := observing(t)
	var toBackend, toClient Out
	const n = maxSeen + maxObserved
	for i := range n {
		if _, _, err := r.m.FromClient(encode(t, query(fmt.Sprintf("listen c%d", i))), &toBackend, &toClient); err != nil {
			t.Fatal(err)
		}
		if len(o.seen) > maxSeen || len(o.rows) > maxObserved {
			t.Fatalf("keeps %d texts and %d rows", len(o.seen), len(o.rows))
		}
	}
	rows, looked, omitted := drained(o)
	if len(rows) != maxObserved || looked != n || omitted != n-maxObserved {
		t.Errorf("got %d rows, %d texts, %d omitted; want %d, %d, %d", len(rows), looked, omitted, maxObserved, n, n-maxObserved)
	}
}

func TestApplicationNamesAreCutAsPostgresDoes(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"app": "app", strings.Repeat("a", 70): strings.Repeat("a", 63), strings.Repeat("a", 62) + "é": strings.Repeat("a", 62), "\xff": "?",
	} {
		if got := applicationName(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func TestObservingWhatIsKnownDoesNotAllocate(t *testing.T) {
	r, o := observing(t)
	in := encode(t, query("set app.user = 'a'"), parse("", "select pg_advisory_lock($1)"), bind(""), exec, syncMsg, query("select 1"))
	out := encode(t, done, idle, parsed, bound, row, done, idle, row, done, idle)
	var b, c Out
	turn := func() {
		b.Reset()
		c.Reset()
		_, _, _ = r.m.FromClient(in, &b, &c)
		_, _ = r.m.FromBackend(out, &b, &c)
	}
	turn()
	if n := testing.AllocsPerRun(100, turn); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if rows, _, _ := drained(o); len(rows) != 2 {
		t.Errorf("got %v, want two rows", rows)
	}
}

func TestListenIsForeseenToPinWhereNobodyElseCanListen(t *testing.T) {
	t.Parallel()
	for shared, want := range map[bool][2]Effect{true: {Asks, Pins}, false: {Pins, Pins}} {
		o := &Observer{}
		o.Start()
		r := newRig(t, Params{Raw: true, Observer: o, Shared: &shared}).attach()
		both := "listen news; select pg_advisory_lock(1)"
		r.client("Q:listen news Q:"+both, "", query("listen news"), query(both))
		rows, _, _ := drained(o)
		for row := range rows {
			alone := row.Statement == "listen news"
			if alone && row.Effect != want[0] || !alone && row.Effect != want[1] {
				t.Errorf("others may listen: %t; %q: foreseen %s", shared, row.Statement, row.Effect)
			}
		}
		if len(rows) != 2 {
			t.Errorf("others may listen: %t; got %v, want two rows", shared, rows)
		}
	}
}
