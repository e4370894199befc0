package relay

import (
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"sluice/internal/sessionstate"
)

const (
	ownPID    = 7       // of the backend
	clientPID = 5000000 // as the client knows it
	markName  = "mark"
	markWords = `Q:LISTEN "mark"; NOTIFY "mark", '1' Q:UNLISTEN "mark"`
)

// newListener returns a machine whose session others may listen for, with a backend.
func newListener(t *testing.T) *rig {
	t.Helper()
	shared := true
	r := newRig(t, Params{Shared: &shared})
	r.m.Identify(clientPID)
	return r.attachTo(listenerBackend())
}

func listenerBackend() *Backend {
	b := NewBackend(10, application)
	b.PID = ownPID
	return b
}

func notify(pid uint32, channel, payload string) *pgproto3.NotificationResponse {
	return &pgproto3.NotificationResponse{PID: pid, Channel: channel, Payload: payload}
}

// channelsWords is the question for channels alone.
const channelsWords = "Q:" + channelsText

// hears is Postgres's answer to it.
func hears(channels ...string) (msgs []pgproto3.Message) {
	for _, name := range channels {
		msgs = append(msgs, &pgproto3.DataRow{Values: [][]byte{[]byte("l"), []byte(name), nil, nil}})
	}
	return append(msgs, done, idle)
}

// deliver passes what others have heard and checks what the client is told.
func (r *rig) deliver(want string, n *pgproto3.NotificationResponse) {
	r.t.Helper()
	var c Out
	if !r.m.Deliver(encode(r.t, n), &c) {
		r.t.Error("too much waits")
	}
	r.check("delivered", want, words(c.Bytes()))
}

// settle says what others deliver and checks what the client is told.
func (r *rig) settle(want string, channels ...string) {
	r.t.Helper()
	var c Out
	r.m.Settle(sessionstate.NewChannels(channels), &c)
	r.check("settled", want, words(c.Bytes()))
}

// caughtUp has others deliver all that was committed before and checks what the client is told.
func (r *rig) caughtUp(want string, channels ...string) {
	r.t.Helper()
	r.wantWish(WishCaughtUp)
	r.settle(want, channels...)
}

func (r *rig) mark(back bool) {
	r.t.Helper()
	var b Out
	r.m.Mark(markName, "1", back, &b)
	r.check("marked", markWords, words(b.Bytes()))
}

// marked says that the others have come to the mark and checks what the client is told.
func (r *rig) marked(want string) {
	r.t.Helper()
	var c Out
	r.m.Marked(&c)
	r.check("others at the mark", want, words(c.Bytes()))
}

func (r *rig) wantWish(want Wish) {
	r.t.Helper()
	if got := r.m.Wish(); got != want {
		r.t.Fatalf("wish = %d, want %d", got, want)
	}
}

// listen has the session listen to a channel, which others deliver then.
func (r *rig) listen(channel string) {
	r.t.Helper()
	r.client("Q:listen "+channel, "", query("listen "+channel))
	r.answer(channelsWords, "C", done, idle)
	r.answer("", "", hears(channel)...)
	r.wantWish(WishShare)
	r.mark(false)
	r.answer("", "", done, done, notify(ownPID, markName, "1"), idle, done, idle)
	r.marked("Z:I")
}

func TestReadyForQueryIsHeldUntilOthersListen(t *testing.T) {
	t.Parallel()
	r := newListener(t)
	r.client("Q:listen a", "", query("listen a"))
	r.answer(channelsWords, "C", done, idle)
	if next := r.client("", "", query("select 1")); next != Blocked {
		t.Fatalf("next = %d behind a ReadyForQuery that is held, want Blocked", next)
	}
	r.answer("", "A:9:a:heard by the backend", append(hears("a"), notify(9, "a", "heard by the backend"))...)
	if r.m.Free() || r.m.Quiet() || r.m.Running() || !r.m.Settling() {
		t.Error("free, quiet, running or settled while others are to listen")
	}
	r.wantWish(WishShare)
	r.wantWish(WishNothing)
	r.mark(false)
	r.answer("", "A:9:a:before", notify(9, "a", "before"))
	r.answer("", "", notify(ownPID, markName, "1"), notify(9, "a", "behind"), done, done, idle)
	r.marked("")
	r.deliver("", notify(9, "a", "behind"))
	r.answer("", "A:9:a:behind Z:I", done, idle)
	r.wantPinned("")
	if next := r.client("Q:select 1", ""); next != More {
		t.Errorf("next = %d, want More", next)
	}
	r.answer("", "D C", row, done, idle)
	r.caughtUp("Z:I", "a")
	if !r.m.Free() {
		t.Error("not free")
	}
}

func TestOthersMayBeAtTheMarkFirst(t *testing.T) {
	t.Parallel()
	r := newListener(t)
	r.client("Q:listen a", "", query("listen a"))
	r.answer(channelsWords, "C", done, idle)
	r.answer("", "", hears("a")...)
	r.wantWish(WishShare)
	r.mark(false)
	r.marked("")
	r.deliver("", notify(9, "a", "behind"))
	r.answer("", "A:9:a:before", notify(9, "a", "before"), notify(ownPID, markName, "1"), done, done, idle)
	r.answer("", "A:9:a:behind Z:I", done, idle)
}

func TestListenThatNobodyElseCanServePins(t *testing.T) {
	t.Parallel()
	r := newListener(t)
	r.client("Q:listen a", "", query("listen a"))
	r.answer(channelsWords, "C", done, idle)
	r.answer("", "", hears("a")...)
	r.wantWish(WishShare)
	r.settle("Z:I")
	r.wantPinned("listen")
	r.answer("", "A:9:a:x", notify(9, "a", "x"))
	r.client("Q:unlisten *", "", query("unlisten *"))
	r.answer(channelsWords, "C", done, idle)
	r.answer("", "Z:I", hears()...)
	r.wantWish(WishNothing)
	r.wantPinned("")
}

func TestListenThatIsRolledBackIsNoWish(t *testing.T) {
	t.Parallel()
	r := newListener(t)
	r.client("Q:begin; listen a; rollback", "", query("begin; listen a; rollback"))
	r.answer(channelsWords, "C C C", done, done, done, idle)
	r.answer("", "Z:I", hears()...)
	r.wantWish(WishNothing)
	if !r.m.Free() || r.m.Pinned() != "" || r.m.Listens() {
		t.Errorf("free = %t, pinned = %q, listens = %t", r.m.Free(), r.m.Pinned(), r.m.Listens())
	}
}

func TestReadyForQueryWaitsForTheQuestionThatIsAskedAgain(t *testing.T) {
	t.Parallel()
	r := newListener(t)
	r.client("Q:listen a", "", query("listen a"))
	r.answer(channelsWords, "C", done, idle)
	r.answer(calmWords, "", errSyntax, idle)
	r.wantPinned("listen")
	r.answer("", "Z:I", calmed("0")...)
	r.wantPinned("")
}

func TestNotificationsOfOthersWaitForTheTransaction(t *testing.T) {
	t.Parallel()
	r := newListener(t)
	r.listen("a")
	r.deliver("A:9:a:idle", notify(9, "a", "idle"))
	r.client("Q:begin", "", query("begin"))
	r.deliver("", notify(9, "a", "1"))
	r.answer("", "C Z:T", done, inBlock)
	r.deliver("", notify(9, "a", "2"))
	r.client("Q:commit", "", query("commit"))
	r.answer("", "C", done, idle)
	if r.m.Free() {
		t.Error("free while others may have news")
	}
	r.deliver("", notify(9, "a", "late"))
	r.caughtUp("A:9:a:1 A:9:a:2 A:9:a:late Z:I", "a")
	r.m.Detach()
	r.deliver("A:9:a:3", notify(9, "a", "3"))
}

func TestOwnNotificationIsDeliveredOnceBeforeReadyForQuery(t *testing.T) {
	t.Parallel()
	r := newListener(t)
	r.client("Q:listen a; notify a", "", query("listen a; notify a"))
	r.answer(channelsWords, "C C A:5000000:a:", done, done, notify(ownPID, "a", ""), idle)
	r.answer("", "", hears("a")...)
	r.wantWish(WishShare)
	r.mark(false)
	r.marked("")
	r.answer("", "Z:I", done, done, notify(ownPID, markName, "1"), idle, done, idle)

	r.client("Q:notify a", "", query("notify a"))
	r.deliver("", notify(ownPID, "a", "of who had the backend before"))
	r.answer("", "C", done, notify(9, "a", "x"), notify(ownPID, "a", ""), idle)
	r.wantWish(WishCaughtUp)
	r.deliver("", notify(9, "a", "x"))
	r.deliver("", notify(ownPID, "a", ""))
	r.settle("A:7:a:of who had the backend before A:9:a:x A:5000000:a: Z:I", "a")
}

func TestWholeQuestionTellsOfChannelsToo(t *testing.T) {
	t.Parallel()
	r := newListener(t)
	r.client("Q:listen a; set work_mem = 1", "", query("listen a; set work_mem = 1"))
	r.answer(questionWords, "C C", done, done, idle)
	r.answer("", "", held(true, noRole, [4]string{"s", "work_mem", "1", "4"}, [4]string{"l", "a", "-", "-"})...)
	r.wantWish(WishShare)
	r.settle("Z:I", "a")
	r.wantPinned("")
	if got := r.m.state.Settings(); len(got) != 1 {
		t.Errorf("carries %v, want work_mem", got)
	}
}

func TestUnlistenGivesUpWhatOthersDeliver(t *testing.T) {
	t.Parallel()
	r := newListener(t)
	r.listen("a")
	r.client("Q:unlisten a", "", query("unlisten a"))
	r.answer(channelsWords, "C", done, idle)
	r.answer("", "", hears()...)
	r.wantWish(WishShare)
	if shared, wanted := r.m.Listening(); len(shared.Without(wanted)) != 1 || wanted != nil {
		t.Errorf("others deliver %q, want nothing", wanted.Names())
	}
	r.settle("Z:I")
	if r.m.Listens() || r.m.Pinned() != "" {
		t.Errorf("listens = %t, pinned = %q", r.m.Listens(), r.m.Pinned())
	}
}

func TestDiscardAllEndsListening(t *testing.T) {
	t.Parallel()
	for name, shared := range map[string]bool{"": false, "where nobody asks about code": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newListener(t)
			r.listen("a")
			if shared {
				r.backend.Mistrust()
			}
			r.client("Q:discard all", "", query("discard all"))
			r.answer(questionWords, "C", command("DISCARD ALL"), idle)
			if next := r.client("", "", query("select 1")); next != Blocked {
				t.Fatalf("next = %d behind a ReadyForQuery that is held, want Blocked", next)
			}
			r.answer("", "", held(true)...)
			r.wantSurprise(false)
			r.wantWish(WishShare)
			r.wantListening([]string{"a"}, nil)
			r.deliver("", notify(9, "a", "before"))
			r.settle("A:9:a:before Z:I")
			r.wantListening(nil, nil)
			r.wantPinned("")
			if r.m.Listens() {
				t.Error("it listens")
			}
		})
	}
}

// TestPrepareBesideListenIsAskedAbout holds that a question about nothing but channels is no answer about statements.
func TestPrepareBesideListenIsAskedAbout(t *testing.T) {
	t.Parallel()
	const sql = "listen a; prepare p as select 1"
	r := newListener(t)
	r.client("Q:"+sql, "", query(sql))
	r.answer(questionWords, "C C", command("LISTEN"), command("PREPARE"), idle)
	r.answer("", "", held(true, listensTo("a"), bySQL("p", sql))...)
	r.wantWish(WishShare)
	r.settle("Z:I", "a")
	r.wantPinned("")
	r.m.Detach()
	r.attachTo(listenerBackend())
	r.carry(`Q:UNLISTEN *; LISTEN "a" ` + replayWords)
	r.unseen(append([]pgproto3.Message{done, done, idle}, replayed...)...)
	r.client("Q:execute p", "", query("execute p"))
	r.answer("", "D C", row, done, idle)
	r.caughtUp("Z:I", "a")
}

func TestBackendListensToWhatTheSessionDoes(t *testing.T) {
	t.Parallel()
	r := newListener(t)
	first := r.backend
	r.listen("a")
	r.carry("") // it does already
	r.m.Detach()
	r.attachTo(listenerBackend())
	r.carry(`Q:UNLISTEN *; LISTEN "a"`)
	r.client("Q:select 1", "", query("select 1"))
	r.answer("", "D C", done, done, idle, notify(9, "a", "the others have it too"), row, done, idle)
	r.caughtUp("Z:I", "a")

	other := newListener(t)
	other.m.Detach()
	other.attachTo(first)
	other.carry("Q:UNLISTEN *")
	other.client("Q:select 1", "", query("select 1"))
	other.answer("", "D C Z:I", notify(9, "a", "not for this one"), done, idle, row, done, idle)
}

func TestNewsThatNobodyWillDeliverIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	r := newListener(t)
	r.listen("a")
	r.client("Q:select 1", "", query("select 1"))
	r.answer("", "D C", row, done, idle)
	r.deliver("", notify(9, "a", "the last"))
	var c Out
	if !r.m.MissNews(&c) {
		t.Error("it waits for something else")
	}
	r.check("told", "A:9:a:the last Z:I", words(c.Bytes()))
	if !r.m.Free() || r.m.Settling() {
		t.Errorf("free = %t, settling = %t", r.m.Free(), r.m.Settling())
	}
	r.client("Q:unlisten a", "", query("unlisten a"))
	r.answer(channelsWords, "C", done, idle)
	c.Reset()
	if r.m.MissNews(&c) || !c.Empty() || !r.m.Settling() {
		t.Errorf("told %q while it has to be asked what the session listens to", words(c.Bytes()))
	}
}

func TestSessionOfItsOwnGetsItsChannelsBack(t *testing.T) {
	t.Parallel()
	r := newListener(t)
	r.listen("a")
	r.client("Q:select setseed(1)", "", query("select setseed(1)"))
	r.deliver("", notify(9, "a", "1"))
	r.answer("", "D C", row, done, idle)
	r.wantWish(WishReturn)
	r.mark(true)
	r.answer("", "", notify(9, "a", "2"), notify(ownPID, markName, "1"), notify(9, "a", "3"), done, done, idle, done, idle)
	r.deliver("", notify(9, "a", "2"))
	r.marked("A:9:a:1 A:9:a:2 A:9:a:3 Z:I")
	r.answer("", "A:9:a:4", notify(9, "a", "4"))
}

func TestTooMuchDoesNotWait(t *testing.T) {
	t.Parallel()
	r := newListener(t)
	r.listen("a")
	r.client("Q:begin", "", query("begin"))
	n := encode(t, notify(9, "a", "x"))
	var c Out
	for range maxPending / len(n) {
		if !r.m.Deliver(n, &c) {
			t.Fatal("less than the limit is too much")
		}
	}
	if r.m.Deliver(n, &c) {
		t.Error("more than the limit is kept")
	}
}
