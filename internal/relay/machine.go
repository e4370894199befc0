// Package relay decides what the bytes between one client and the backend it holds mean, and when the backend is free
// again.
//
// A Machine is pure: it takes bytes from one side and says what to send where, what to swallow, inject or rewrite. It
// does no I/O, holds no lock, owns no buffer but partly sent state, and knows no time. Its heart is a queue of
// outstanding replies, in the order in which they come: each is forwarded, swallowed or made up. What Sluice injects
// (preparing a statement, carrying state, cleaning up) are entries of that queue like any other.
//
// It works in one of two ways. In a session of its own (Raw) the backend belongs to the client alone, and the machine
// only follows the conversation. In a shared one the client's prepared statements are interned and renamed, so that any
// backend can serve any transaction. Behind a transaction that could have changed the state of the session Postgres is asked
// what the session holds (ask.go): settings are carried to the backend where it lands next (carry.go), anything else pins it
// until nothing is left. A client whose SQL sees the names of prepared statements is given its statements under its own names,
// up to the end of the lease (own.go); one that does what cannot be asked about is Raw from then on (raw.go).
//
// Protocol: "Message Flow", "Extended Query", "COPY Operations", "Pipelining".
package relay

import (
	"errors"
	"fmt"

	"sluice/internal/prepared"
	"sluice/internal/sessionstate"
	"sluice/internal/wire"
)

const (
	// maxScan is the longest Parse or Query that is held to be understood. Longer ones are streamed and pin the session.
	maxScan = 1 << 20 // 1 MiB
	// maxNames is the longest beginning of a Bind, up to the end of its two names.
	maxNames = 16 << 10 // 16 KiB
	// maxReply is the longest backend message that is held to be understood; longer errors pass unread.
	maxReply = 64 << 10 // 64 KiB
	// maxOutstanding bounds the queue. Postgres keeps back at most 8 KiB of replies, some 1,600 of the shortest, so a
	// client that is made to wait here is always answered; a Flush sees to the rest.
	maxOutstanding = 16 << 10
	// keepEntries is the longest queue whose memory is kept while it is empty.
	keepEntries = 32
)

// Next says why FromClient has stopped.
type Next int8

// Reasons to stop.
const (
	More        Next = iota // what is left is not a whole message: call again with more
	NeedBackend             // what is left begins with a message that needs a backend: Attach one and call again
	Blocked                 // what is left must wait for replies: call again after FromBackend
	Terminated              // what is left begins with Terminate
	NeedVacancy             // what is left begins with a statement that needs others off its databases: see Vacancy
	NeedPIDs                // what is left begins with a message that speaks of other clients' sessions by their pids: see Mentioned
)

// Errors of the two sides. They are wrapped with what was seen.
var (
	ErrClient  = errors.New("client broke the protocol")
	ErrBackend = errors.New("backend broke the protocol")
	// ErrCarry is a failed injection on Sluice's own account: the backend is in an unknown state, the session ends.
	ErrCarry = errors.New("session state could not be put on the backend")
)

// Reasons to pin that are not a signal of the SQL text.
const (
	PinParameter    = "parameter_status" // Postgres reported a setting other than the baseline's
	PinLarge        = "unscanned"        // a statement too large to be looked at
	PinFunctionCall = "function_call"    // a function called by number
	PinClock        = "clock"            // a named statement with the time of its Parse in it
	PinOpaque       = "opaque_code"      // code behind a statement may have changed what Postgres cannot be asked about, or cannot yet
	PinSequence     = "sequence"         // the session may ask for the number that its last transaction has drawn
)

// Counters counts what machines have seen. They belong to a loop: nothing in them is safe for concurrent use.
type Counters struct {
	Transactions    uint64 // ends of transactions: ReadyForQuery that says idle
	Queries         uint64 // Query and Execute messages
	ClientParses    uint64
	BackendParses   uint64 // Parse messages sent to Postgres, injected ones included
	Binds           uint64
	QuestionsFailed uint64
	Questions       uint64            // what sessions hold was asked, see ask.go
	LeaksPrevented  uint64            // answers with a change that no statement's text had announced
	Carried         uint64            // settings put on a backend, or taken off it, for a session
	Errors          map[string]uint64 // ErrorResponses by SQLSTATE class, two letters
}

// Params says how the machines of sessions with the same baseline, on the same loop, are to work. They share it: its fields
// are not changed once one of them has it.
type Params struct {
	Raw      bool            // the backend belongs to this client alone
	Behind   *Behind         // not Raw: the code behind the database's statements
	Table    *prepared.Table // not Raw: where statements are interned
	Baseline []wire.Param    // not Raw: ParameterStatus as the client got it at login, not changed by the machine
	Counters *Counters       // never nil

	// Sequences, which belongs to the loop, is set when a client asks for currval or lastval. From then on what others did
	// to a backend's sequences is to be discarded when it is attached: see DiscardSequences. Not Raw.
	Sequences *bool

	// PlanUnnamed says whether an unnamed statement that has been seen before is served by a named one, which Postgres has
	// planned. It belongs to the loop. Not Raw.
	PlanUnnamed *bool

	// Shared says whether others may deliver what a session listens to: see Wish. It belongs to the loop; nil is no.
	Shared *bool

	// Speakers returns the channel on which a backend says which session notifies, in words of digits: its pid as the client knows
	// it, or 0; empty if nobody is interested. Nil is the same.
	Speakers func() string

	// Redefined is called when a transaction is over that may have changed what new sessions begin with, before the client hears of
	// that: roles or their passwords, and, if settings is true, settings of roles or databases. Nil: nobody is interested.
	Redefined func(settings bool)

	// Observer sees what the client sends, where the machine is Raw from its beginning. It belongs to the loop; nil: nobody
	// observes.
	Observer *Observer

	spare [][]entry // memory for queues, of machines without a backend
}

// Machine follows one client's conversation. Make one with New. There are many of them, so its fields stand where they
// leave no gaps.
type Machine struct {
	p           *Params
	application string // the client's application_name
	names       prepared.Client
	backend     *Backend            // nil: no backend is attached
	state       *sessionstate.State // what the session has set, as far as it is settled
	doubt       *doubt              // nil: it has never set anything
	listen      *listening          // nil: it has never listened to anything
	vacancy     *vacancy            // nil: none is asked for
	mention     *mention            // nil: no message waits for pids

	q        queue
	readies  int32    // ReadyForQuery messages outstanding for the client
	pass     int32    // bytes of the client's current message that are still to come
	backPass int32    // bytes of the backend's current message still to come
	batchAt  int32    // where the batch that may have to be repeated begins in what is to be sent now, plus one; 0: there is none
	pin      string   // why the backend must stay with the client; empty: it need not
	reports  *reports // nil: all settings that Postgres reports are the baseline's
	pid      uint32   // that the client was given; 0: the backend's

	raw      bool
	own      bool // the backend knows the client's statements under the client's names: see goOwn
	forever  bool // pin is to the session's end
	ask      bool // what the session holds is to be asked when its transaction is over
	asking   bool // that has been asked, and Postgres has not answered
	behind   bool // code may have changed the session since it was asked last
	sampled  bool // behind one of the statements of which a sample is asked about
	unread   bool // it is to be asked when the code of the database is known
	unused   bool // a backend has been attached for a message that is still to be sent
	await    bool // what was injected is to be answered before the client's next message is sent
	proven   bool // Postgres has put the state into force before when it was asked to
	status   byte // of the last ReadyForQuery
	skipping bool // the backend skips to a Sync that has not been sent yet
	copyIn   bool // the backend waits for CopyData
	open     bool // extended queries have been sent behind the last Sync: they may be in a transaction that is not committed
	fresh    bool // nobody else has used the backend's sequences
	flushed  bool // a Flush was injected behind the last message sent
	spoken   bool // who speaks has been said in front of a message of the client's that is still to be sent
	revived  bool // a failed transaction has been ended for the message that waits: it is to fail again
	saysSet  bool // a simple query that changes definitions speaks of SET or RESET

	leading int32  // entries of what was injected to lead the client's messages that are outstanding
	served  uint32 // requests of the client's that have been answered

	cancelling bool // a cancel request is on its way
	due        bool // and what it might hit has to be injected behind it

	numbers numbers

	passDrop    bool // what is still to come of the client's current message is not to be forwarded
	refusing    bool // what the client sends is dropped up to the end of its request, see Refuse
	refusedSome bool // some of it has been dropped
	backDrop    bool // what is still to come of the backend's current message is not for the client

	local      bool   // settings may differ from the baseline until the transaction ends
	ddl        bool   // definitions may have been changed in the transaction
	commitSent bool   // something that could commit is under way inside a block
	change     Change // of the schema, by what has been run
	changes    uint32 // Behind.changes as of the last transaction's end
	redefines  redefinition

	fatal bool // Postgres has ended the session by itself, and said so
	gone  bool // the client is gone; everything is swallowed
	reset bool // gone: DISCARD ALL is still to be sent
}

// New returns a Machine for a session whose login is complete. applicationName is what its backends are to have; a Raw machine
// does without, but for its Observer.
func New(p *Params, applicationName string) Machine {
	return Machine{p: p, application: applicationName, raw: p.Raw, status: 'I'}
}

// Attach lends a backend to the machine: b is what it has prepared. fresh says that no other client has used it since what
// clients do to sequences was last discarded.
func (m *Machine) Attach(b *Backend, fresh bool) {
	if m.backend != nil {
		panic("bug: attached twice")
	}
	m.backend, m.fresh = b, fresh
	m.status, m.open, m.spoken = 'I', false, false
	m.unused = !m.raw
	if !m.raw {
		m.changes = m.p.Behind.changes
	}
	if n := len(m.p.spare) - 1; n >= 0 && m.q.entries == nil {
		m.q.entries, m.p.spare = m.p.spare[n], m.p.spare[:n]
	}
}

// Detach takes the backend away. The machine must be Free, or at its end.
func (m *Machine) Detach() {
	m.backend, m.own = nil, false
	m.cancelling, m.due, m.revived = false, false, false
	if m.q.len() == 0 && m.q.entries != nil {
		m.p.spare = append(m.p.spare, m.q.entries)
		m.q.entries = nil
	}
}

// Attached reports whether the machine has a backend.
func (m *Machine) Attached() bool { return m.backend != nil }

// Free reports whether the backend owes the client nothing and holds nothing for it: every ReadyForQuery has arrived,
// the last one said 'I', no COPY is open, no message is half sent in either direction, the message for which the
// backend was attached has been sent, and nothing that is due waits for a cancel request.
// Protocol: "Message Flow", "Extended Query" and "COPY Operations".
func (m *Machine) Free() bool { return m.Quiet() && !m.InBlock() && !m.reset && !m.unused && !m.due }

// Quiet reports whether nothing is under way, in or outside of a transaction block.
func (m *Machine) Quiet() bool {
	return m.q.len() == 0 && !m.skipping && !m.copyIn && m.pass == 0 && m.backPass == 0 && !m.holding()
}

// HalfSent reports whether the backend waits for the rest of a message of the client's.
func (m *Machine) HalfSent() bool { return m.pass > 0 && !m.passDrop }

// Boundary reports whether what the client has been sent ends with a whole message, so that another may follow.
func (m *Machine) Boundary() bool { return m.backPass == 0 || m.backDrop }

// InBlock reports whether a transaction is open: the last ReadyForQuery came from inside a block, or extended queries wait
// for their Sync.
func (m *Machine) InBlock() bool { return m.status != 'I' || m.open }

// Stuck reports whether what is under way cannot end without more from the client: a COPY, or extended queries without
// their Sync.
func (m *Machine) Stuck() bool { return m.copyIn || m.skipping || m.open }

// Change says what commands may have changed.
type Change uint8

// The changes, each more than the one before.
const (
	ChangedNothing Change = iota
	ChangedSchema         // what a statement's text means
	ChangedCode           // and what code may run behind it
)

// TakeChange returns what may have been changed since the last call. To be asked when m is Free.
func (m *Machine) TakeChange() Change {
	change := m.change
	m.change = ChangedNothing
	return change
}

// Pinned returns why the backend must stay with this client, empty if it need not.
func (m *Machine) Pinned() string {
	if m.pin == "" && (m.behind || m.asking) {
		return PinOpaque
	}
	return m.pin
}

// Pin makes the backend stay with this client until Postgres says that it holds nothing there. The first reason stays, but
// for a number of a sequence, which leaves nothing in doubt.
func (m *Machine) Pin(reason string) {
	if m.pin == "" || m.pin == PinSequence && !m.forever {
		m.pin = reason
	}
}

// pinForever makes the backend stay with this client to its end.
func (m *Machine) pinForever(reason string) {
	m.Pin(reason)
	m.forever, m.ask = true, false
}

// unsettled reports whether settings may be others than those that the session is known to have: what is parsed now may
// come out otherwise than for others.
func (m *Machine) unsettled() bool {
	return m.local || m.pin != "" && (m.pin != PinSequence || m.forever) || m.behind && m.p.Behind.setsAny() || m.reports != nil && len(m.reports.dirty) > 0
}

// Asking reports whether Postgres answers a question of Sluice's about the session, with nothing of the client's in between.
func (m *Machine) Asking() bool {
	head := m.q.head()
	return head != nil && head.do == question
}

// table returns where statements are interned that are parsed with the session's settings.
func (m *Machine) table() *prepared.Table { return m.p.Table.Variant(m.state.Parse()) }

// Fatal reports whether Postgres has told the client that the session is over.
func (m *Machine) Fatal() bool { return m.fatal }

// Close releases what the machine holds in tables shared with others.
func (m *Machine) Close() {
	m.forgetAll()
	m.names.Clear()
}

// forgetAll forgets all that is outstanding.
func (m *Machine) forgetAll() {
	for e := m.q.head(); e != nil; e = m.q.head() {
		e.prev.Release()
		if e.kind == wire.Close {
			e.stmt.Release()
		}
		m.q.pop()
	}
	m.open, m.leading = false, 0
}

// Loss says what a lost backend means for the client.
type Loss int

// What can be lost with a backend.
const (
	LostNothing Loss = iota // nothing was under way
	LostBlock               // a transaction block that has not been committed
	LostUnknown             // something was under way that may have been committed
)

// Loss returns what the client loses if the backend is gone now.
func (m *Machine) Loss() Loss {
	switch {
	case !m.InBlock() && (m.Quiet() || m.q.own() && m.pass == 0):
		return LostNothing
	case m.Quiet():
		return LostBlock
	case m.status == 'I' || m.commitSent:
		return LostUnknown
	}
	return LostBlock
}

// note takes what a statement's text says into account. It reports whether the text pins the session.
func (m *Machine) note(s sessionstate.Signals) (pins bool) {
	if s&sessionstate.Local != 0 {
		m.local = true
	}
	if s&sessionstate.DDL != 0 {
		m.ddl = true
	}
	if s.MayCommit() {
		m.commitSent = true
	}
	m.noteNumbers(s)
	return s.Sticky()
}

func clientError(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrClient}, args...)...)
}

func backendError(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrBackend}, args...)...)
}
