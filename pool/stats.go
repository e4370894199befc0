package pool

import (
	"maps"
	"time"
)

// Buckets are the upper bounds of Histogram, in seconds.
var Buckets = [...]float64{
	0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60,
}

// Histogram counts durations. It is not safe for concurrent use.
type Histogram struct {
	Counts [len(Buckets) + 1]uint64 // the last: longer than all Buckets
	Sum    time.Duration
}

// Observe counts d.
func (h *Histogram) Observe(d time.Duration) {
	s := d.Seconds()
	i := 0
	for i < len(Buckets) && s > Buckets[i] {
		i++
	}
	h.Counts[i]++
	h.Sum += d
}

func (h *Histogram) add(other *Histogram) {
	for i, n := range other.Counts {
		h.Counts[i] += n
	}
	h.Sum += other.Sum
}

// Count returns how many durations were counted.
func (h *Histogram) Count() uint64 {
	var n uint64
	for _, c := range h.Counts {
		n += c
	}
	return n
}

// Stats is what is known of a pool at one moment.
type Stats struct {
	Key    Key
	Limits Limits
	Parts  int // that the numbers are of

	Idle    int // backends nobody holds
	Active  int // backends held by a session, pinned ones included
	Pinned  int // backends held past their transaction
	Login   int // backends being opened
	Closing int // backends being closed

	Waiting    int           // sessions that wait for a backend
	OldestWait time.Duration // how long the first of them has waited
	Short      bool          // the pool may have more backends, but the Budget is used up

	Traffic Traffic
}

// Add adds what is known of another part of the same pool, whose limits are s's.
func (s *Stats) Add(part *Stats) {
	s.Parts += part.Parts
	s.Idle += part.Idle
	s.Active += part.Active
	s.Pinned += part.Pinned
	s.Login += part.Login
	s.Closing += part.Closing
	s.Waiting += part.Waiting
	s.OldestWait = max(s.OldestWait, part.OldestWait)
	s.Short = s.Short || part.Short
	s.Traffic.Add(&part.Traffic)
}

// Traffic counts what the sessions of a pool do. It belongs to the pool's loop; Stats holds a copy of it.
type Traffic struct {
	Clients    int // logged in
	TLSClients int // of these, with TLS
	Working    int // of these, with a statement under way
	InBlock    int // of these, idle inside a transaction
	MaxClients int // limit of the role in this mode; 0: none

	Logins        uint64
	Transactions  uint64
	Queries       uint64
	ClientParses  uint64
	BackendParses uint64
	Binds         uint64

	Questions       uint64 // Postgres was asked what a session holds
	QuestionsFailed uint64
	QuestionTime    time.Duration // for how long backends answered
	LeaksPrevented  uint64        // changes of a session that no statement's text had announced
	Carried         uint64        // settings put on a backend for a session, or taken off it
	BytesIn         uint64        // from clients
	BytesOut        uint64        // to clients

	Waits           Histogram // how long sessions waited for a backend, those that did not wait included
	TransactionTime Histogram
	QueryTime       Histogram

	Errors map[string]uint64 // of Postgres, by SQLSTATE class (two letters)
	Ended  map[string]uint64 // sessions ended, by reason

	Pins          map[string]uint64        // pins begun, by reason
	PinnedTime    map[string]time.Duration // how long they lasted, those that still do included
	PinnedClients map[string]int           // those that still do
}

// Add adds what sessions of another part of the same pool do. t must share no map with anything.
func (t *Traffic) Add(part *Traffic) {
	t.Clients += part.Clients
	t.TLSClients += part.TLSClients
	t.Working += part.Working
	t.InBlock += part.InBlock
	for _, n := range [...]struct {
		sum  *uint64
		more uint64
	}{
		{&t.Logins, part.Logins}, {&t.Transactions, part.Transactions}, {&t.Queries, part.Queries},
		{&t.ClientParses, part.ClientParses}, {&t.BackendParses, part.BackendParses}, {&t.Binds, part.Binds},
		{&t.Questions, part.Questions}, {&t.QuestionsFailed, part.QuestionsFailed}, {&t.Carried, part.Carried},
		{&t.LeaksPrevented, part.LeaksPrevented},
		{&t.BytesIn, part.BytesIn}, {&t.BytesOut, part.BytesOut},
	} {
		*n.sum += n.more
	}
	t.QuestionTime += part.QuestionTime
	t.Waits.add(&part.Waits)
	t.TransactionTime.add(&part.TransactionTime)
	t.QueryTime.add(&part.QueryTime)
	addAll(&t.Errors, part.Errors)
	addAll(&t.Pins, part.Pins)
	addAll(&t.Ended, part.Ended)
	addAll(&t.PinnedTime, part.PinnedTime)
	addAll(&t.PinnedClients, part.PinnedClients)
}

func addAll[N int | uint64 | time.Duration](sum *map[string]N, more map[string]N) {
	if *sum == nil {
		*sum = make(map[string]N)
	}
	for key, n := range more {
		(*sum)[key] += n
	}
}

// Clone returns a copy that shares nothing with t.
func (t *Traffic) Clone() Traffic {
	c := *t
	c.Errors, c.Ended = maps.Clone(t.Errors), maps.Clone(t.Ended)
	c.Pins, c.PinnedTime, c.PinnedClients = maps.Clone(t.Pins), maps.Clone(t.PinnedTime), maps.Clone(t.PinnedClients)
	return c
}
