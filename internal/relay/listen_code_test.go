package relay

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgproto3"

	"sluice/internal/sessionstate"
)

// newListenerBehind is newListener in a database with code.
func newListenerBehind(t *testing.T, b *Behind) *rig {
	t.Helper()
	shared := true
	r := newRig(t, Params{Shared: &shared, Behind: b})
	r.m.Identify(clientPID)
	return r.attachTo(listenerBackend())
}

func listensTo(channel string) [4]string { return [4]string{"l", channel, "-", "-"} }

// wantListening checks what others deliver and what the session listens to.
func (r *rig) wantListening(shared, wanted []string) {
	r.t.Helper()
	delivered, heard := r.m.Listening()
	if diff := cmp.Diff([][]string{shared, wanted}, [][]string{delivered.Names(), heard.Names()}); diff != "" {
		r.t.Errorf("others deliver, and the session listens to (-want +got):\n%s", diff)
	}
}

// runsHeld has the client of a session that listens run sql: its ReadyForQuery waits for the answer to the question.
func (r *rig) runsHeld(sql, wantBackend string) {
	r.t.Helper()
	r.client("Q:"+sql, "", query(sql))
	r.answer(wantBackend, "C", done, idle)
}

func TestChannelsOfCodeAreShared(t *testing.T) {
	t.Parallel()
	r := newListenerBehind(t, behind(Strict, sessionstate.Code{Objects: true}))
	r.runs("select hear()", questionWords)
	r.answer("", "", held(true, listensTo("a"))...)
	r.wantSurprise(false, "listen")
	r.wantPinned("listen")
	if next := r.client("", "", query("select 1")); next != Blocked {
		t.Fatalf("next = %d while the channel changes hands, want Blocked", next)
	}
	r.wantWish(WishShare)
	r.mark(false)
	r.answer("", "A:9:a:before", notify(9, "a", "before"), notify(ownPID, markName, "1"), done, done, idle, done, idle)
	r.marked("")
	r.wantPinned("")
	r.client("Q:select 1", "")
	r.answer(againWords, "C", done, idle)
	r.answer("", "", held(false, listensTo("a"))...)
	r.caughtUp("Z:I", "a")
	r.wantSurprise(false)
	r.wantPinned("")
	r.runsHeld("select leave()", againWords)
	r.answer("", "", held(false)...)
	r.wantSurprise(false, "listen")
	r.wantWish(WishShare)
	r.wantListening([]string{"a"}, nil)
}

func TestChannelsThatAreNotAskedAboutStay(t *testing.T) {
	t.Parallel()
	r := newListenerBehind(t, behind(Strict, setsWho))
	r.listen("a")
	r.runsHeld("select login()", questionWords)
	r.answer("", "", held(true, whoIs("x"))...)
	r.wantSurprise(false, "app.who")
	r.caughtUp("Z:I", "a")
	r.wantPinned("")
	r.wantListening([]string{"a"}, []string{"a"})
}

func TestListenBesideCodeIsAskedAboutWithIt(t *testing.T) {
	t.Parallel()
	r := newListenerBehind(t, behind(Strict, setsWho))
	r.client("Q:select login(); listen a", "", query("select login(); listen a"))
	r.answer(questionWords, "C C", done, done, idle)
	r.answer("", "", held(true, whoIs("x"), listensTo("a"))...)
	r.wantWish(WishShare)
	r.settle("Z:I", "a")
	r.wantPinned("")
	if _, known := r.m.state.Value("app.who"); !known {
		t.Error("what code has set is not carried")
	}
}

func TestOwnNotificationBehindCodeIsCaughtUpBehindTheQuestion(t *testing.T) {
	t.Parallel()
	r := newListenerBehind(t, behind(Strict, sessionstate.Code{Objects: true}))
	r.listen("a")
	r.client("Q:select say()", "", query("select say()"))
	r.answer(questionWords, "C", done, notify(ownPID, "a", "x"), idle)
	r.wantWish(WishNothing)
	r.answer("", "", held(true, listensTo("a"))...)
	r.wantWish(WishCaughtUp)
	r.deliver("", notify(ownPID, "a", "x"))
	r.settle("A:5000000:a:x Z:I", "a")
	r.wantPinned("")
}

func TestListenDoesNotWaitForCodeToBeRead(t *testing.T) {
	t.Parallel()
	knows := behind(Strict, setsWho)
	r := newListenerBehind(t, knows)
	r.client("Q:listen a; create function f", "", query("listen a; create function f"))
	r.answer("", "C C Z:I", done, &pgproto3.CommandComplete{CommandTag: []byte("CREATE FUNCTION")}, idle)
	if !r.m.Unread() || r.m.Settling() {
		t.Fatalf("unread = %t, settling = %t", r.m.Unread(), r.m.Settling())
	}
	r.answer("", "A:9:a:meanwhile", notify(9, "a", "meanwhile"))
	var b Out
	r.m.CodeKnown(&b)
	r.check("asked", questionWords, words(b.Bytes()))
	r.answer("", "", held(true, listensTo("a"))...)
	r.wantSurprise(false)
	r.wantWish(WishShare)
	r.settle("", "a")
	r.wantPinned("")
}

func TestCodeThatBecomesKnownWhileTheClientIsHeldIsAskedAboutThen(t *testing.T) {
	t.Parallel()
	knows := behind(Strict, setsWho)
	r := newListenerBehind(t, knows)
	r.listen("a")
	r.client("Q:create function f; notify a", "", query("create function f; notify a"))
	r.answer("", "C C", &pgproto3.CommandComplete{CommandTag: []byte("CREATE FUNCTION")}, done, notify(ownPID, "a", ""), idle)
	r.wantWish(WishCaughtUp)
	var b Out
	if r.m.CodeKnown(&b); !r.m.Unread() || !b.Empty() {
		t.Fatalf("unread = %t, sent %q while the client is held", r.m.Unread(), words(b.Bytes()))
	}
	r.deliver("", notify(ownPID, "a", ""))
	r.settle("A:5000000:a: Z:I", "a")
	r.m.CodeKnown(&b)
	r.check("asked", questionWords, words(b.Bytes()))
	r.answer("", "", held(true, listensTo("a"))...)
	r.wantPinned("")
	r.wantListening([]string{"a"}, []string{"a"})
}

func TestChannelsThatMayBeAnothersAreNobodys(t *testing.T) {
	t.Parallel()
	for sql, want := range map[string][]string{
		"listen a":                       {"a"},
		"unlisten a; listen b; listen c": {"b", "c"},
		`listen "Big ""one"""`:           {`Big "one"`},
	} {
		r := newListenerBehind(t, behind(Learn, sessionstate.Code{}))
		r.backend.Mistrust()
		r.client("Q:"+sql, "", query(sql))
		var b, c Out
		if _, err := r.m.FromBackend(encode(t, done, idle), &b, &c); err != nil {
			t.Fatal(err)
		}
		brief := words(b.Bytes()) == channelsWords // not with quotes: they may hide something
		answer := hears(append(want, "somebodys")...)
		if !brief {
			answer = slices.Concat([]pgproto3.Message{closed, parsed, bound}, answer)
		}
		r.answer("", "", answer...)
		r.wantSurprise(true, "listen")
		r.wantWish(WishShare)
		r.wantListening(nil, want)
		if !r.backend.Worn() {
			t.Errorf("%s: the backend is used again", sql)
		}
	}
}

func TestChannelsThatWereNotGivenUpByATextStay(t *testing.T) {
	t.Parallel()
	r := newListenerBehind(t, behind(Learn, sessionstate.Code{Objects: true}))
	r.listen("a")
	r.backend.Mistrust()
	r.runsHeld("select leave()", questionWords)
	r.answer("", "", held(true)...)
	r.wantSurprise(true, "listen")
	r.caughtUp("Z:I", "a")
	r.wantListening([]string{"a"}, []string{"a"})
	r.client("Q:unlisten a", "", query("unlisten a"))
	r.answer(channelsWords, "C", done, idle)
	r.answer("", "", hears()...)
	r.wantSurprise(false)
	r.wantListening([]string{"a"}, nil)
}

func TestNumberOutlivesListen(t *testing.T) {
	t.Parallel()
	r := newListener(t)
	for _, sql := range []string{"insert into t default values", "select lastval()"} {
		r.m.fresh = true
		r.client("Q:"+sql, "", query(sql))
		r.answer("", "C Z:I", inserted, idle)
		r.m.numbers.across = true
	}
	r.client("Q:insert into t default values; listen a", "", query("insert into t default values; listen a"))
	r.answer(channelsWords, "C C", inserted, done, idle)
	r.answer("", "", hears("a")...)
	r.wantWish(WishShare)
	if got := r.m.PinnedBy(); got == "" {
		t.Error("it is not known what pins")
	}
	r.settle("Z:I", "a")
	r.wantPinned(PinSequence)
}

func TestAnswerThatCameTooLateIsNotLost(t *testing.T) {
	t.Parallel()
	r := newListener(t)
	*r.m.p.Shared = false
	r.client("Q:listen a", "", query("listen a"))
	r.answer(channelsWords, "C Z:I", done, idle)
	r.client("Q:set work_mem = 1", "", query("set work_mem = 1"))
	r.answer("", "", hears("a")...)
	r.answer(questionWords, "C Z:I", done, idle)
	r.client("Q:unlisten a", "", query("unlisten a"))
	r.answer("", "", held(true, [4]string{"s", "work_mem", "1", "4"}, listensTo("a"))...)
	r.answer(againWords, "C Z:I", done, idle) // not for channels alone: the answer before was about more
}
