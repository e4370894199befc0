package relay

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"sluice/internal/prepared"
	"sluice/internal/sessionstate"
)

// FuzzMachine passes arbitrary bytes from both sides in arbitrary pieces. Whatever comes, the machine does not panic,
// takes no more than it was given, says the same however the bytes are cut, and gives every reference back at its end.
func FuzzMachine(f *testing.F) {
	f.Add([]byte("Q\x00\x00\x00\x0dselect 1\x00"), []byte("C\x00\x00\x00\x07OK\x00Z\x00\x00\x00\x05I"), uint8(3), false)
	f.Add([]byte("P\x00\x00\x00\x12a\x00select 1\x00\x00\x00B\x00\x00\x00\x0d\x00a\x00\x00\x00\x00\x00\x00\x00S\x00\x00\x00\x04"),
		[]byte("1\x00\x00\x00\x042\x00\x00\x00\x04Z\x00\x00\x00\x05I"), uint8(7), false)
	f.Add([]byte("Q\x00\x00\x00\x0cset x=1\x00d\x00\x00\x00\x05xc\x00\x00\x00\x04"), []byte("G\x00\x00\x00\x07\x00\x00\x00"), uint8(1), true)
	f.Add([]byte("Q\x00\x00\x00\x0dlisten a\x00"), []byte("C\x00\x00\x00\x07OK\x00Z\x00\x00\x00\x05IA\x00\x00\x00\x0c\x00\x00\x00\x07a\x00x\x00"), uint8(5), false)
	f.Add([]byte("P\x00\x00\x00\x12a\x00select 1\x00\x00\x00Q\x00\x00\x00\x0eexecute a\x00C\x00\x00\x00\x07Sa\x00S\x00\x00\x00\x04"),
		[]byte("1\x00\x00\x00\x04Z\x00\x00\x00\x05I"), uint8(5), false)
	f.Add([]byte("Q\x00\x00\x00\x1aprepare a as select 1\x00P\x00\x00\x00\x12a\x00select 1\x00\x00\x00S\x00\x00\x00\x04"),
		[]byte("C\x00\x00\x00\x0cPREPARE\x00Z\x00\x00\x00\x05IE\x00\x00\x00\x0cC42P05\x00\x00"), uint8(9), false)
	f.Add([]byte("Q\x00\x00\x00\x29select pg_terminate_backend(5000001)\x00"), []byte("C\x00\x00\x00\x07OK\x00Z\x00\x00\x00\x05I"), uint8(4), false)
	f.Add([]byte("P\x00\x00\x00\x2eq\x00select pg_cancel_backend($1), 5000001\x00\x00\x00B\x00\x00\x00\x18\x00q\x00\x00\x00\x00\x01\x00\x00\x00\x075000002\x00\x00S\x00\x00\x00\x04"),
		[]byte("1\x00\x00\x00\x042\x00\x00\x00\x04Z\x00\x00\x00\x05I"), uint8(6), false)
	f.Fuzz(func(t *testing.T, client, backend []byte, cut uint8, raw bool) {
		if !bytes.Equal(outcome(t, client, backend, int(cut), raw), outcome(t, client, backend, 1, raw)) {
			t.Errorf("cut into pieces of %d and of 1, the bytes mean different things", cut)
		}
	})
}

// outcome feeds all of the client's bytes in pieces, then all of the backend's, and returns what was sent to the backend.
func outcome(t *testing.T, client, backend []byte, cut int, raw bool) []byte {
	table, plan := prepared.NewTable(), true
	var behind Behind
	behind.Set(Strict, &sessionstate.Code{Opaque: len(client)%2 == 0, Settings: true, Objects: len(client)%3 == 0})
	m := New(&Params{Raw: raw, Table: table, Behind: &behind, Sequences: new(bool), PlanUnnamed: &plan, Shared: &plan, Counters: &Counters{}}, "app")
	m.Identify(clientPID)
	set := NewBackend(2, "app")
	m.Attach(set, false)
	var sent []byte
	side := func(in []byte, f func(p []byte, b, c *Out) (int, bool)) {
		var held []byte
		for len(in) > 0 {
			k := min(max(cut, 1), len(in))
			held, in = append(held, in[:k]...), in[k:]
			var b, c Out
			n, ok := f(held, &b, &c)
			if n < 0 || n > len(held) {
				t.Fatalf("took %d of %d bytes", n, len(held))
			}
			sent = append(sent, b.Bytes()...)
			if !ok {
				return
			}
			held = append([]byte(nil), held[n:]...)
		}
	}
	side(client, func(p []byte, b, c *Out) (int, bool) {
		n, next, err := m.FromClient(p, b, c)
		for next == NeedPIDs && err == nil {
			pids, _ := m.Mentioned()
			m.Translate(slices.Repeat([]uint32{realPID}, len(pids)))
			var more int
			more, next, err = m.FromClient(p[n:], b, c)
			n += more
		}
		if err != nil && !errors.Is(err, ErrClient) {
			t.Fatal(err)
		}
		return n, err == nil && next == More
	})
	toBackend := sent
	side(backend, func(p []byte, b, c *Out) (int, bool) {
		n, err := m.FromBackend(p, b, c)
		return n, err == nil
	})
	var b Out
	m.Abandon(true, &b)
	m.Close()
	set.Clear()
	if !table.Idle() {
		t.Errorf("of %d statements some are never released", table.Len())
	}
	return toBackend
}
