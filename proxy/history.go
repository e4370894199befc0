package proxy

import (
	"container/list"
	"net/netip"
	"slices"
	"sync"
	"time"

	"sluice/netpolicy"
)

// maxHistory bounds the history; the entries that were seen longest ago go first. Some 200 bytes each.
const maxHistory = 10_000

// history remembers who has been logged in: role, network and when they were last seen, so that a change of the policy can
// be held against clients that are not connected now. It is safe for concurrent use, and its lock is held for moments.
type history struct {
	began time.Time // of this run, or of the one whose history it goes on

	mu     sync.Mutex // guards below
	byKey  map[historyKey]*list.Element
	recent *list.List // of *historyEntry, the last seen first
	noted  uint64     // how often something has been
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

	veiled bool // the address is that of a balancer that does not tell the client's
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
	h.noted++
	if e := h.byKey[key]; e != nil {
		entry := e.Value.(*historyEntry)
		entry.peer, entry.seen, entry.veiled = f.peer(), now, f.veiled
		h.recent.MoveToFront(e)
		return
	}
	h.byKey[key] = h.recent.PushFront(&historyEntry{key, f.peer(), now, f.veiled})
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

// changes returns how often something has been noted.
func (h *history) changes() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.noted
}

// saved returns the history for its file, and how often something had been noted by then.
func (h *history) saved() (changes uint64, s savedHistory) {
	changes = h.changes()
	s = savedHistory{Version: recordsVersion, Began: h.began.UTC(), Clients: []savedClient{}}
	for _, e := range h.all() {
		p := e.peer
		s.Clients = append(s.Clients, savedClient{p.Tenant, p.Role, p.Database, p.Mode, p.TLS, p.Addr.Unmap(), e.veiled, e.seen.UTC()})
	}
	return changes, s
}

// restore takes over what an earlier run has saved. Nobody else may use h yet.
func (h *history) restore(s *savedHistory) {
	h.began = s.Began
	for _, c := range slices.Backward(s.Clients[:min(len(s.Clients), maxHistory)]) {
		peer := netpolicy.Peer{Addr: c.Addr, Tenant: c.Tenant, Role: c.Role, Database: c.Database, TLS: c.TLS, Mode: c.Mode}
		key := historyKey{tenant: c.Tenant, role: c.Role, database: c.Database, mode: c.Mode, tls: c.TLS, network: netpolicy.Source(c.Addr)}
		if h.byKey[key] == nil {
			h.byKey[key] = h.recent.PushFront(&historyEntry{key, peer, c.Seen, c.Veiled})
		}
	}
}
