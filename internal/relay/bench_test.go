package relay

import (
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"sluice/internal/prepared"
	"sluice/internal/sessionstate"
)

// transaction is what a client sends and what Postgres answers, once the client is at home on the backend.
type transaction struct {
	name     string
	setup    []pgproto3.Message // sent first, as often as it takes
	welcome  []pgproto3.Message // the answer to that
	times    int
	requests []pgproto3.Message
	answers  []pgproto3.Message
}

func transactions() []transaction {
	selectOne := parse("", "select $1")
	return []transaction{
		{name: "simple", requests: msgs(query("select 1")), answers: msgs(row, done, idle)},
		{
			name: "extended", setup: msgs(selectOne, bind(""), exec, syncMsg), welcome: msgs(parsed, bound, row, done, idle), times: 2,
			requests: msgs(selectOne, bind(""), exec, syncMsg), answers: msgs(bound, row, done, idle),
		},
		{
			name: "prepared", setup: msgs(parse("a", "select $1"), syncMsg), welcome: msgs(parsed, idle), times: 1,
			requests: msgs(bind("a"), exec, syncMsg), answers: msgs(bound, row, done, idle),
		},
	}
}

func msgs(all ...pgproto3.Message) []pgproto3.Message { return all }

// player plays a transaction from the lease of a backend to its return, again and again.
type player struct {
	tb                  testing.TB
	m                   Machine
	backend             *Backend
	requests, answers   []byte
	toBackend, toClient Out
}

func newPlayer(tb testing.TB, tx transaction) *player {
	tb.Helper()
	planUnnamed := true
	p := &Params{Behind: new(Behind), Table: prepared.NewTable(), Counters: &Counters{}, Sequences: new(bool), PlanUnnamed: &planUnnamed}
	p.Behind.Set(Strict, new(sessionstate.Code))
	pl := &player{tb: tb, m: New(p, application), backend: NewBackend(10, application)}
	for range tx.times {
		pl.requests, pl.answers = wireOf(tb, tx.setup), wireOf(tb, tx.welcome)
		pl.play()
	}
	pl.requests, pl.answers = wireOf(tb, tx.requests), wireOf(tb, tx.answers)
	pl.play()
	return pl
}

func wireOf(tb testing.TB, all []pgproto3.Message) (b []byte) {
	tb.Helper()
	for _, m := range all {
		var err error
		if b, err = m.Encode(b); err != nil {
			tb.Fatal(err)
		}
	}
	return b
}

func (p *player) play() {
	p.m.Attach(p.backend, true)
	p.m.Carry(&p.toBackend)
	if n, _, err := p.m.FromClient(p.requests, &p.toBackend, &p.toClient); err != nil || n != len(p.requests) {
		p.tb.Fatalf("took %d of %d bytes of the client: %v", n, len(p.requests), err)
	}
	if n, err := p.m.FromBackend(p.answers, &p.toBackend, &p.toClient); err != nil || n != len(p.answers) || !p.m.Free() {
		p.tb.Fatalf("took %d of %d bytes of the backend: %v", n, len(p.answers), err)
	}
	p.m.Detach()
	p.toBackend.Reset()
	p.toClient.Reset()
}

// BenchmarkTransaction is what a transaction costs the machine, from lease to return.
func BenchmarkTransaction(b *testing.B) {
	for _, tx := range transactions() {
		b.Run(tx.name, func(b *testing.B) {
			p := newPlayer(b, tx)
			messages := float64(len(tx.requests) + len(tx.answers))
			b.ReportAllocs()
			for b.Loop() {
				p.play()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/messages, "ns/message")
		})
	}
}

// TestTransactionsDoNotAllocate guards the hot path. Not parallel: it counts the allocations of the process.
func TestTransactionsDoNotAllocate(t *testing.T) {
	for _, tx := range transactions() {
		p := newPlayer(t, tx)
		if n := testing.AllocsPerRun(100, p.play); n != 0 {
			t.Errorf("%s: %v allocations for a transaction, want none", tx.name, n)
		}
	}
}
