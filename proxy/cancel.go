package proxy

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"net/netip"
	"sync"
	"time"

	"sluice/internal/relay"
)

// cancels knows the keys that clients were given for cancelling.
type cancels struct {
	macs sync.Pool // of hash.Hash, by a secret from which the keys are made, so that none need be kept

	mu       sync.Mutex          // guards below
	sessions map[uint32]*session // by pid; those with the same pid are chained
	failing  map[netip.Addr]int  // requests with a wrong key that are being delayed, by address
}

const (
	// failDelay is how long a cancel request with a wrong key is kept waiting.
	failDelay = 200 * time.Millisecond
	// maxFailing is how many of them an address may have at a time; more are not looked at.
	maxFailing = 5
)

func newCancels() *cancels {
	c := &cancels{sessions: make(map[uint32]*session), failing: make(map[netip.Addr]int)}
	var secret [sha256.Size]byte
	_, _ = rand.Read(secret[:]) // never fails
	c.macs.New = func() any { return hmac.New(sha256.New, secret[:]) }
	return c
}

// add registers the session, whose key has keyLen bytes, at most 32. pid is the backend's for a session that keeps it, 0
// for others, which get one that no process has.
func (c *cancels) add(s *session, pid uint32, keyLen int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for pid == 0 || pid > relay.MaxPID && c.sessions[pid] != nil {
		var b [4]byte
		_, _ = rand.Read(b[:])
		pid = relay.MaxPID + 1 + binary.BigEndian.Uint32(b[:])%(1<<31-relay.MaxPID-1)
	}
	s.pid, s.keyLen = pid, uint8(keyLen)
	s.chain, c.sessions[pid] = c.sessions[pid], s
}

// key returns the session's key: nobody can tell it who does not know the secret.
func (c *cancels) key(s *session) []byte {
	mac := c.macs.Get().(hash.Hash)
	defer c.macs.Put(mac)
	mac.Reset()
	_, _ = mac.Write(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, uint64(s.pid)), s.id))
	return mac.Sum(nil)[:s.keyLen]
}

func (c *cancels) remove(s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	first := c.sessions[s.pid]
	if first == s {
		if s.chain == nil {
			delete(c.sessions, s.pid)
		} else {
			c.sessions[s.pid] = s.chain
		}
		return
	}
	for other := first; other != nil; other = other.chain {
		if other.chain == s {
			other.chain = s.chain
		}
	}
}

// find returns the session with this key, nil if there is none.
func (c *cancels) find(pid uint32, key []byte) *session {
	c.mu.Lock()
	defer c.mu.Unlock()
	var found *session
	for s := c.sessions[pid]; s != nil; s = s.chain {
		if hmac.Equal(c.key(s), key) {
			found = s
		}
	}
	return found
}

// pooled returns the tenant's session on the transaction port whose client was given this pid, nil if there is none.
func (c *cancels) pooled(pid uint32, tenant string) *session {
	c.mu.Lock()
	defer c.mu.Unlock()
	for s := c.sessions[pid]; s != nil; s = s.chain {
		if s.pooled() && s.tenant == tenant {
			return s
		}
	}
	return nil
}

// run does what a cancel request asks for, and returns when Postgres has taken note, or ctx is done. Whatever the request
// says, the answer is silence. Keys cannot be guessed: tries are slow, and few at a time for each address.
// Protocol: "Canceling Requests in Progress".
func (c *cancels) run(ctx context.Context, from netip.Addr, pid uint32, key []byte) {
	if c.tooMany(from) {
		return
	}
	s := c.find(pid, key)
	if s == nil {
		c.delay(ctx, from)
		return
	}
	done := make(chan struct{})
	if !c.post(s, func() { s.cancelQuery(func() { close(done) }) }) {
		return
	}
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// post has f called on the session's loop, wherever it goes meanwhile, when what the client has sent before has been read: the
// statement that it wants cancelled, on another connection. It reports false if that has ended.
func (c *cancels) post(s *session, f func()) bool {
	l := c.laneOf(s)
	return l.loop.PostBehindInput(func() {
		if c.laneOf(s) != l {
			c.post(s, f)
			return
		}
		f()
	})
}

func (c *cancels) laneOf(s *session) *lane {
	c.mu.Lock()
	defer c.mu.Unlock()
	return s.lane
}

func (c *cancels) tooMany(from netip.Addr) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failing[from] >= maxFailing
}

// delay makes a wrong key cost time.
func (c *cancels) delay(ctx context.Context, from netip.Addr) {
	c.mu.Lock()
	bump(c.failing, from, 1)
	c.mu.Unlock()
	select {
	case <-time.After(failDelay):
	case <-ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	bump(c.failing, from, -1)
}
