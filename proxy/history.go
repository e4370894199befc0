package proxy

import (
	"container/list"
	"net/netip"
	"sync"
	"time"

	"sluice/netpolicy"
)

// maxHistory bounds the history; the entries that were seen longest ago go first. Some 200 bytes each.
const maxHistory = 10_000

// history remembers who has been logged in: role, network and when they were last seen, so that a change of the policy can
// be held against clients that are not connected now. It is safe for concurrent use, and its lock is held for moments.
type history struct {
	began time.Time

	mu     sync.Mutex // guards below
	byKey  map[historyKey]*list.Element
	recent *list.List // of *historyEntry, the last seen first
}

// historyKey is what is told apart. A network is an IPv4 address or an IPv6 /64, within which hosts change their addresses.
type historyKey struct {
	tenant, role, database, mode string
	tls                          bool
	network                      netip.Prefix
}

type historyEntry struct {
	key  historyKey
	peer netpolicy.Peer // as it was seen last
	seen time.Time
}

func newHistory() *history {
	return &history{began: time.Now(), byKey: make(map[historyKey]*list.Element), recent: list.New()}
}

// note remembers a client that is logged in at now, or was until now. Clients on Unix sockets, which no network rule
// concerns, are left aside.
func (h *history) note(f *facts, now time.Time) {
	if f.unix {
		return
	}
	key := historyKey{tenant: f.tenant, role: f.role, database: f.database, mode: f.mode, tls: f.tls, network: netpolicy.Source(f.ruled())}
	h.mu.Lock()
	defer h.mu.Unlock()
	if e := h.byKey[key]; e != nil {
		entry := e.Value.(*historyEntry)
		entry.peer, entry.seen = f.peer(), now
		h.recent.MoveToFront(e)
		return
	}
	h.byKey[key] = h.recent.PushFront(&historyEntry{key, f.peer(), now})
	if len(h.byKey) > maxHistory {
		delete(h.byKey, h.recent.Remove(h.recent.Back()).(*historyEntry).key)
	}
}

// all returns what is remembered, the last seen first.
func (h *history) all() []historyEntry {
	h.mu.Lock()
	defer h.mu.Unlock()
	entries := make([]historyEntry, 0, h.recent.Len())
	for e := h.recent.Front(); e != nil; e = e.Next() {
		entries = append(entries, *e.Value.(*historyEntry))
	}
	return entries
}
