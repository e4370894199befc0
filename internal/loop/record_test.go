package loop

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"strings"
	"testing"
)

// everySide runs a test with loops of every kind on both sides of TLS 1.3.
func everySide(t *testing.T, f func(t *testing.T, v variant, client bool)) {
	every(t, func(t *testing.T, v variant) {
		t.Run("server", func(t *testing.T) { t.Parallel(); f(t, v, false) })
		t.Run("client", func(t *testing.T) { t.Parallel(); f(t, v, true) })
	})
}

func TestRecordSplitAtEachByte(t *testing.T) {
	everySide(t, func(t *testing.T, v variant, client bool) {
		l, r := run(t, v), newRecorder()
		_, f := forge(t, l, r, client)
		want := ""
		for at, size := 1, 2; at < size; at++ {
			record := f.out.seal(f.out.seal(nil, dataRecord, "one,"), dataRecord, "two,")
			size = len(record)
			f.send(t, record[:at])
			l.Do(func() {})
			f.send(t, record[at:])
			want += "one,two,"
			r.until(t, l, "both", func() bool { return r.err != nil || r.got.Len() >= len(want) })
		}
		l.Do(func() {
			if r.got.String() != want || r.err != nil {
				t.Errorf("got %q and %v, want %q", r.got.String(), r.err, want)
			}
		})
	})
}

func TestBufferedRecordsAreReadAtResume(t *testing.T) {
	everySide(t, func(t *testing.T, v variant, client bool) {
		l, r := run(t, v), nibbler{newRecorder()}
		c, f := forge(t, l, r, client)
		want := strings.Repeat("0123456789", 20)
		var records []byte
		for part := range strings.SplitSeq(want, "5") {
			records = f.out.seal(records, dataRecord, part)
		}
		f.send(t, f.out.seal(records, alertRecord, "\x01\x00")) // close_notify; the socket stays open
		want = strings.ReplaceAll(want, "5", "")
		for {
			ended := false
			r.until(t, l, "pause or end", func() bool { ended = r.err != nil; return ended || c.paused })
			if ended {
				break
			}
			l.Do(func() { c.Want(true) })
		}
		if r.got.String() != want || !errors.Is(r.err, io.EOF) {
			t.Errorf("got %q and %v, want %q and EOF", r.got.String(), r.err, want)
		}
	})
}

// nibbler is a Handler that reads a few bytes and pauses.
type nibbler struct{ *recorder }

func (n nibbler) Readable() {
	defer n.tell()
	var p [3]byte
	switch k, err := n.conn.Read(p[:]); {
	case err == nil:
		n.got.Write(p[:k])
		n.conn.Want(false)
	case !errors.Is(err, ErrAgain):
		n.err = err
	}
}

func TestConnectionsOfALoopDoNotMix(t *testing.T) {
	everySide(t, func(t *testing.T, v variant, client bool) {
		l := run(t, v)
		const connections, records = 3, 40
		var (
			readers [connections]nibbler
			forgers [connections]*forger
			sent    [connections][]byte
			want    [connections]string
		)
		for i := range connections {
			readers[i] = nibbler{newRecorder()}
			_, forgers[i] = forge(t, l, readers[i], client)
			for j := range records {
				text := strings.Repeat(string(rune('A'+i)), 1+j%7) + string(rune('a'+j%26))
				want[i] += text
				sent[i] = forgers[i].out.seal(sent[i], dataRecord, text)
			}
		}
		for step := 0; ; step++ { // a piece for one, then for the next, and each goes on after each
			i := step % connections
			piece := min(len(sent[i]), 1+step*37%90)
			forgers[i].send(t, sent[i][:piece])
			sent[i] = sent[i][piece:]
			all := true
			l.Do(func() {
				for k, r := range readers {
					r.conn.Want(true)
					all = all && (r.err != nil || r.got.Len() >= len(want[k]))
				}
			})
			if all {
				break
			}
			if len(sent[0])+len(sent[1])+len(sent[2]) == 0 {
				r := readers[i]
				r.until(t, l, "the rest", func() bool {
					r.conn.Want(true)
					return r.err != nil || r.got.Len() >= len(want[i])
				})
			}
		}
		l.Do(func() {
			for i, r := range readers {
				if got := r.got.String(); got != want[i] || r.err != nil {
					t.Errorf("connection %d: got %q and %v, want %q", i, got, r.err, want[i])
				}
			}
		})
	})
}

func TestRecordsReadWithTheHandshakeAreNotLost(t *testing.T) {
	everyRole(t, func(t *testing.T, v variant, as role) {
		l, r := run(t, v), newRecorder()
		near, far := dial(t)
		adoptable, peer := handshake(t, as, near, far)
		for _, word := range []string{"before ", "the ", "adoption"} {
			if _, err := io.WriteString(peer, word); err != nil {
				t.Fatal(err)
			}
		}
		first := make([]byte, 3) // crypto/tls reads ahead, and keeps the rest of the record
		if _, err := io.ReadFull(adoptable, first); err != nil {
			t.Fatal(err)
		}
		l.Do(func() { r.conn = l.Adopt(adoptable, r) })
		r.until(t, l, "the rest", func() bool { return r.got.Len() >= len("ore the adoption") })
		if got := string(first) + r.got.String(); got != "before the adoption" {
			t.Errorf("got %q", got)
		}
	})
}

func TestKeyUpdateIsAnswered(t *testing.T) {
	everySide(t, func(t *testing.T, v variant, client bool) {
		l, r := run(t, v), newRecorder()
		c, f := forge(t, l, r, client)
		before := f.out.seal(nil, dataRecord, "old,")
		before = f.out.seal(before, handshakeRecord, "\x18\x00")
		before = f.out.seal(before, handshakeRecord, "\x00\x01\x01") // in two records, an answer being requested
		f.out = f.out.updated()
		f.send(t, f.out.seal(before, dataRecord, "new"))
		r.until(t, l, "both", func() bool { return r.err != nil || r.got.String() == "old,new" })
		l.Do(func() { c.Write([]byte("answer")) })
		if typ, body := f.in.open(f.nc); typ != handshakeRecord || !bytes.Equal(body, []byte{24, 0, 0, 1, 0}) {
			t.Errorf("the loop says %d %x, want a KeyUpdate", typ, body)
		}
		f.in = f.in.updated()
		if typ, body := f.in.open(f.nc); typ != dataRecord || string(body) != "answer" {
			t.Errorf("the loop says %d %q, want the answer", typ, body)
		}
	})
}

func TestPartOfAKeyUpdateIsNoEnd(t *testing.T) {
	everySide(t, func(t *testing.T, v variant, client bool) {
		l, r := run(t, v), newRecorder()
		_, f := forge(t, l, r, client)
		f.send(t, f.out.seal(nil, handshakeRecord, "\x18\x00\x00"))
		l.Do(func() {})
		f.send(t, f.out.seal(nil, handshakeRecord, "\x01\x00"))
		f.out = f.out.updated()
		f.send(t, f.out.seal(nil, dataRecord, "new"))
		r.until(t, l, "data", func() bool { return r.err != nil || r.got.String() == "new" })
	})
}

func TestSessionTicketAfterTheAdoption(t *testing.T) {
	every(t, func(t *testing.T, v variant) {
		l, r := run(t, v), newRecorder()
		near, far := dial(t)
		adoptable, peer := handshake(t, role{client: true, version: tls.VersionTLS13}, near, far)
		l.Do(func() { r.conn = l.Adopt(adoptable, r) }) // the ticket has not been read yet
		if _, err := io.WriteString(peer, "data"); err != nil {
			t.Fatal(err)
		}
		r.until(t, l, "data", func() bool { return r.got.String() == "data" })
	})
}
