package relay

import (
	"slices"

	"sluice/internal/prepared"
	"sluice/internal/wire"
)

// action is what happens to the reply that an entry waits for.
type action uint8

const (
	forward   action = iota // to the client
	swallow                 // Sluice asked; its error, should there be one, is the client's all the same
	carry                   // Sluice asked on its own account; an error ends the session
	attempt                 // the same, but an error is borne
	compare                 // Sluice asked what a statement returns now; its error is the client's all the same
	question                // Sluice asked what the session holds; an error leaves that unknown
	synth                   // the backend was not asked: Sluice answers when the entry's turn comes
	stale                   // the backend was asked for a statement that is not there, in place of one whose result has changed
	duplicate               // the backend was asked for a statement that is not there, to make it fail
	marker                  // nothing: CopyDone or CopyFail was sent here, for a COPY that may be under way
	calming                 // Sluice takes timeouts off the backend; with an error it is of no use any more
	tuning                  // carry, up to whose end the backend may listen to what others listen to
	marking                 // carry, the mark of a hand-over: see Mark
	lead                    // carry, with the client's messages behind it in the same breath: see Machine.lead
)

// own reports whether the reply is for Sluice alone, notices and settings included.
func (a action) own() bool { return a == carry || a == attempt || a == question || a >= calming }

// vital reports whether the session ends if this fails.
func (a action) vital() bool { return a == carry || a >= tuning }

// entry is one reply, or one row of replies up to its last, that is owed to the client or to Sluice.
type entry struct {
	kind byte // type of the message that it answers; Flush has none
	do   action

	// What the message did to the names, to be undone if it fails or is skipped.
	name   string              // Parse, Close of a statement, or what prepares one that the client has: the client's name
	prev   *prepared.Statement // Parse, Close, Query: what that name, or the unnamed statement, meant before
	spoilt *prepared.Statement // Close: what is closed to be prepared anew
	stmt   *prepared.Statement // Parse: what the backend prepares; Close: what was evicted from it; Bind, Describe: what is used
}

// clients reports whether the message is the client's, or stands in its place.
func (e entry) clients() bool { return !e.do.own() && e.do != swallow && e.do != compare }

// defines reports whether the message gives the client's name a meaning, or takes it away.
func (e *entry) defines(name string) bool {
	switch e.kind {
	case wire.Parse:
		return (e.do == forward || e.do == synth) && e.name == name
	case wire.Close:
		return (e.do == synth || e.do == forward && e.name != "" || e.prev != nil) && e.name == name
	}
	return e.kind == wire.Query && e.do == forward && name == ""
}

// queue holds the outstanding entries in the order in which their answers come.
type queue struct {
	entries []entry
	first   int
}

func (q *queue) len() int { return len(q.entries) - q.first }

func (q *queue) push(e entry) { q.entries = append(q.entries, e) }

// head returns the entry whose answer comes next, nil if nothing is outstanding. It is valid until the next push or pop.
func (q *queue) head() *entry {
	if q.first == len(q.entries) {
		return nil
	}
	return &q.entries[q.first]
}

// own reports whether all that is outstanding is for Sluice alone.
func (q *queue) own() bool { return !q.has(func(e entry) bool { return !e.do.own() }) }

// has reports whether something of this sort is outstanding.
func (q *queue) has(sort func(e entry) bool) bool {
	return slices.ContainsFunc(q.entries[q.first:], sort)
}

// last returns the entry that was pushed last, nil if nothing is outstanding.
func (q *queue) last() *entry {
	if q.first == len(q.entries) {
		return nil
	}
	return &q.entries[len(q.entries)-1]
}

func (q *queue) pop() {
	q.entries[q.first] = entry{}
	q.first++
	switch {
	case q.first == len(q.entries):
		q.entries, q.first = q.entries[:0], 0
		if cap(q.entries) > keepEntries {
			q.entries = nil
		}
	case q.first > 1024 && q.first > len(q.entries)/2: // a pipeline that never runs dry
		n := copy(q.entries, q.entries[q.first:])
		clear(q.entries[n:])
		q.entries, q.first = q.entries[:n], 0
	}
}

// cut removes the entry i places behind the head.
func (q *queue) cut(i int) {
	at := q.first + i
	copy(q.entries[at:], q.entries[at+1:])
	q.entries[len(q.entries)-1] = entry{}
	q.entries = q.entries[:len(q.entries)-1]
}

// at returns the entry i places behind the head.
func (q *queue) at(i int) *entry { return &q.entries[q.first+i] }

// expects tells whether a backend message of the given type can belong to the answer to a message of this kind, and
// whether it is the last of it. ReadyForQuery and ErrorResponse are not asked about.
// Protocol: "Message Flow".
func expects(kind, typ byte) (ok, last bool) {
	switch kind {
	case wire.Parse:
		return typ == wire.ParseComplete, true
	case wire.Bind:
		return typ == wire.BindComplete, true
	case wire.Close:
		return typ == wire.CloseComplete, true
	case wire.Describe:
		switch typ {
		case wire.ParameterDescription:
			return true, false
		case wire.RowDescription, wire.NoData:
			return true, true
		}
	case wire.Execute:
		switch typ {
		case wire.DataRow, wire.CopyInResponse, wire.CopyOutResponse, wire.CopyData, wire.CopyDone:
			return true, false
		case wire.CommandComplete, wire.EmptyQueryResponse, wire.PortalSuspended:
			return true, true
		}
	case wire.Query:
		switch typ {
		case wire.RowDescription, wire.DataRow, wire.CommandComplete, wire.EmptyQueryResponse,
			wire.CopyInResponse, wire.CopyOutResponse, wire.CopyData, wire.CopyDone:
			return true, false
		}
	case wire.FunctionCall:
		return typ == wire.FunctionCallResponse, false
	}
	return false, false
}

// extended reports whether a message of this kind belongs to the extended query protocol, which needs a Sync in the end.
func extended(kind byte) bool {
	switch kind {
	case wire.Parse, wire.Bind, wire.Describe, wire.Execute, wire.Close:
		return true
	}
	return false
}

// endsWithReady reports whether the answer to a message of this kind ends with ReadyForQuery.
func endsWithReady(kind byte) bool {
	return kind == wire.Sync || kind == wire.Query || kind == wire.FunctionCall
}
