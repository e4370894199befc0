package loop

import "testing"

func TestWhatIsPostedBehindInputFindsItRead(t *testing.T) {
	t.Parallel()
	l := run(t, variant{})
	busy, other := newRecorder(), newRecorder()
	near, peer := unixPair(t)
	otherNear, otherPeer := unixPair(t)
	found, called := "", false
	busy.on = func(r *recorder) {
		r.on = nil
		r.readAll()
		_, _ = otherPeer.Write([]byte("first")) // which epoll has not reported in this turn
		l.PostBehindInput(func() { found, called = other.got.String(), true; r.tell() })
	}
	l.Do(func() { busy.conn, other.conn = l.Adopt(near, busy), l.Adopt(otherNear, other) })
	_, _ = peer.Write([]byte("x"))
	busy.until(t, l, "the call", func() bool { return called })
	if found != "first" {
		t.Errorf("what was posted found %q read, want %q", found, "first")
	}
}
