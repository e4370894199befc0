package relay

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// newSpeaker returns a machine whose client has that pid, and does without a backend yet. Others hear who speaks on the channel
// to which heard points.
func newSpeaker(t *testing.T, pid uint32, heard *string) *rig {
	t.Helper()
	r := newRig(t, Params{Speakers: func() string { return *heard }})
	r.m.Identify(pid)
	return r
}

func speaks(pid uint32) string { return fmt.Sprintf("Q:NOTIFY voices, '%d' ", pid) }

// speaksAside is what is said in a block in front of extended messages.
const speaksAside = "P: B: E C:sluice_carry S "

var (
	notified = command("NOTIFY")
	spoken   = []pgproto3.Message{notified, idle} // the answer to it
	spokenIn = []pgproto3.Message{notified, inBlock}

	spokenAside = []pgproto3.Message{parsed, bound, notified, closed, inBlock}
)

func TestWhoNotifiesIsSaidOnce(t *testing.T) {
	t.Parallel()
	voices := "voices"
	for name, tc := range map[string]struct {
		first    []pgproto3.Message
		sent     string
		answer   []pgproto3.Message
		toClient string
	}{
		"simple":   {[]pgproto3.Message{query("notify c")}, "Q:notify c", []pgproto3.Message{notified, idle}, "C Z:I"},
		"function": {[]pgproto3.Message{query("select pg_notify('c', 'x')")}, "Q:select pg_notify('c', 'x')", []pgproto3.Message{notified, idle}, "C Z:I"},
		"extended": {[]pgproto3.Message{parse("s", "select pg_notify($1, $2)"), bind("s"), exec, syncMsg}, "P:sluice_1 B:sluice_1 E S",
			[]pgproto3.Message{parsed, bound, done, idle}, "1 2 C Z:I"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newSpeaker(t, clientPID, &voices).attachTo(listenerBackend())
			r.client(speaks(clientPID)+tc.sent, "", tc.first...)
			r.answer("", tc.toClient, append(spoken, tc.answer...)...)
			r.client("Q:notify d", "", query("notify d"))
			r.answer("", "C Z:I", notified, idle)
			if !r.m.Free() || r.m.Pinned() != "" {
				t.Error("not free")
			}
		})
	}
}

func TestNextSessionDoesNotSpeakForTheLastOne(t *testing.T) {
	t.Parallel()
	voices := "voices"
	b := listenerBackend()
	first := newSpeaker(t, clientPID, &voices).attachTo(b)
	first.client(speaks(clientPID)+"Q:notify c", "", query("notify c"))
	first.answer("", "C Z:I", append(spoken, notified, idle)...)
	first.m.Detach()

	second := newSpeaker(t, clientPID+1, &voices).attachTo(b)
	second.client(speaks(0)+"P:sluice_1 S", "", parse("s", "select 1"), syncMsg)
	second.answer("", "1 Z:I", append(spoken, parsed, idle)...)
	second.client("Q:select 1", "", query("select 1"))
	second.answer("", "C Z:I", done, idle)
	second.m.Detach()

	first.attachTo(b)
	first.client(speaks(clientPID)+"Q:notify c", "", query("notify c"))
	first.answer("", "C Z:I", append(spoken, notified, idle)...)
	first.m.Detach()
	second.attachTo(b) // one word is enough
	second.client(speaks(clientPID+1)+"Q:notify c", "", query("notify c"))
	second.answer("", "C Z:I", append(spoken, notified, idle)...)
	second.m.Detach()

	voices = "" // nobody listens any more
	first.attachTo(b)
	first.client("Q:notify c", "", query("notify c"))
	first.answer("", "C Z:I", notified, idle)
}

func TestWhatIsSaidInABlockMayBeTakenBack(t *testing.T) {
	t.Parallel()
	voices := "voices"
	b := listenerBackend()
	r := newSpeaker(t, clientPID, &voices).attachTo(b)
	r.client("Q:begin", "", query("begin"))
	r.answer("", "C Z:T", done, inBlock)
	for range 2 {
		r.client(speaks(clientPID)+"Q:notify c", "", query("notify c"))
		r.answer("", "C Z:T", append(spokenIn, notified, inBlock)...)
	}
	r.client("Q:rollback", "", query("rollback"))
	r.answer("", "C Z:I", command("ROLLBACK"), idle)
	r.m.Detach()
	second := newSpeaker(t, clientPID+1, &voices).attachTo(b)
	second.client(speaks(0)+"B:x S", "", bind("x"), syncMsg)
}

func TestMessageThatWaitsBehindWhatIsSaidIsSent(t *testing.T) {
	t.Parallel()
	voices, sql := "voices", "prepare p as select pg_notify('c', 'x')"
	for name, tc := range map[string]struct {
		first []pgproto3.Message
		said  string
		heard []pgproto3.Message
		sent  string
	}{
		"simple":   {[]pgproto3.Message{query(sql)}, speaks(clientPID), spokenIn, "Q:" + sql},
		"extended": {[]pgproto3.Message{parse("", sql), bind(""), exec, syncMsg}, speaksAside, spokenAside, "P: B: E S"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newSpeaker(t, clientPID, &voices).attachTo(listenerBackend())
			r.client("Q:begin", "", query("begin"))
			r.answer("", "C Z:T", done, inBlock)
			if next := r.client(tc.said+"H", "", tc.first...); next != Blocked {
				t.Fatalf("next = %d, want Blocked", next)
			}
			r.answer("", "", tc.heard...)
			r.client(tc.sent, "")
		})
	}
}

func TestNothingIsSaidWhereItWouldChangeATransaction(t *testing.T) {
	t.Parallel()
	voices := "voices"
	r := newSpeaker(t, clientPID, &voices).attachTo(listenerBackend())
	r.client("P:sluice_1 B:sluice_1 E P: S", "", parse("s", "select 1"), bind("s"), exec, parse("", "notify c"), syncMsg)
	r.answer("", "1 2 C 1 Z:I", parsed, bound, done, parsed, idle)
	r.client("Q:begin", "", query("begin"))
	r.answer("", "C Z:T", done, inBlock)
	failed := &pgproto3.ReadyForQuery{TxStatus: 'E'}
	r.client("Q:nonsense", "", query("nonsense"))
	r.answer("", "E:42601 Z:E", errSyntax, failed)
	r.client("Q:notify c", "", query("notify c"))
	r.answer("", "E:42601 Z:E", errSyntax, failed)
}

// A simple query would end the unnamed portal, which may be suspended.
func TestWhatIsSaidLeavesTheUnnamedPortalAlone(t *testing.T) {
	t.Parallel()
	voices := "voices"
	r := newSpeaker(t, clientPID, &voices).attachTo(listenerBackend())
	r.client("Q:begin", "", query("begin"))
	r.answer("", "C Z:T", done, inBlock)
	suspended := &pgproto3.PortalSuspended{}
	r.client("P: B: E S", "", parse("", "select generate_series(1, 9)"), bind(""), exec, syncMsg)
	r.answer("", "1 2 D s Z:T", parsed, bound, row, suspended, inBlock)
	r.client(speaksAside+"P:sluice_2 B:sluice_2 E S", "", parse("n", "notify c"), bind("n"), exec, syncMsg)
	r.answer("", "1 2 C Z:T", append(spokenAside, parsed, bound, notified, inBlock)...)
	r.client("E S", "", exec, syncMsg)
	r.answer("", "D s Z:T", row, suspended, inBlock)
}
