package e2e

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// A long message is held until it is complete; its client may take its time.
func TestClientThatPausesInsideALongMessageStopsNobodyElse(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, "pool_size: 2")) // one pool, so that both clients are on one loop
	a, b := r.raw("transaction", "alice"), r.connect("transaction", "alice", "")
	long := "SELECT 'done' -- " + strings.Repeat("x", 100<<10)
	message, err := parseMsg("", long).Encode(nil)
	must(t, err)
	_, err = a.conn.Write(message[:60<<10])
	must(t, err)
	for range 20 { // between two of these the first half has arrived
		if got := r.value(b, "SELECT 'served'"); got != "served" {
			t.Fatalf("the other client got %q", got)
		}
	}
	_, err = a.conn.Write(message[60<<10:])
	must(t, err)
	a.send(bindMsg(""), executeMsg, syncMsg)
	if got := a.until('Z'); got != "1 2 D(done) C Z" {
		t.Errorf("the long message was answered with %q", got)
	}
}

// What a client sends while it waits for a backend is not read without bounds.
func TestClientThatSendsWhileItWaitsIsNotReadForEver(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, oneBackend))
	holder, waiter := r.connect("transaction", "alice", ""), r.raw("transaction", "alice")
	r.exec(holder, "BEGIN")
	message, err := (&pgproto3.Query{String: "SELECT 1 -- " + strings.Repeat("x", 1000)}).Encode(nil)
	must(t, err)
	many := []byte(strings.Repeat(string(message), (64<<20)/len(message))) // far beyond what the sockets' buffers hold
	must(t, waiter.conn.SetWriteDeadline(time.Now().Add(time.Second)))
	if _, err := waiter.conn.Write(many); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("sending 64 MiB while waiting for a backend: got %v, want a timeout", err)
	}
	r.exec(holder, "COMMIT")
	if got := waiter.until('Z'); got != "T D(1) C Z" {
		t.Errorf("the first message was answered with %q", got)
	}
}
