package netpolicy

import (
	"net/netip"
	"slices"
	"time"
)

// parts is how many parts the sliding window has: what is in the oldest counts as long as any of it would.
const parts = 8

// recent counts what has happened within a sliding window. A nil recent has counted nothing.
type recent struct {
	counts [parts]uint32
	latest int64 // the part that counts[latest % parts] is of; older ones follow backwards
}

// part returns the number of the part of now.
func part(now time.Time, window time.Duration) int64 {
	return now.UnixNano() / int64(max(parts, window)/parts)
}

func (r *recent) add(now time.Time, window time.Duration) {
	r.forget(part(now, window))
	r.counts[r.latest%parts]++
}

// forget drops the parts that have left the window by the time of the part at.
func (r *recent) forget(at int64) {
	for n := min(at-r.latest, parts); n > 0; n-- {
		r.counts[(at-n+1)%parts] = 0
	}
	r.latest = max(r.latest, at)
}

func (r *recent) count(now time.Time, window time.Duration) int {
	if r == nil {
		return 0
	}
	r.forget(part(now, window))
	n := 0
	for _, c := range r.counts {
		n += int(c)
	}
	return n
}

// lessThan reports whether r matters less than other: it counts less, or as much but of earlier.
func (r *recent) lessThan(other *recent, now time.Time, window time.Duration) bool {
	last, otherLast := r.last(), other.last()
	n, m := r.count(now, window), other.count(now, window)
	return n < m || n == m && last < otherLast
}

// last returns the part of the last event that is counted.
func (r *recent) last() int64 {
	for i := range int64(parts) {
		if at := r.latest - i; at >= 0 && r.counts[at%parts] > 0 {
			return at
		}
	}
	return 0
}

// homes are the addresses that a role has logged in from. A nil homes has none.
type homes struct {
	networks []home
	last     time.Time // of the role's logins
}

// home is one of them, with the role's failures from there.
type home struct {
	network  netip.Prefix // see Source
	last     time.Time
	failures recent
}

func (h *homes) find(network netip.Prefix, now time.Time) *home {
	if h == nil {
		return nil
	}
	for i := range h.networks {
		if n := &h.networks[i]; n.network == network && now.Sub(n.last) < homeAge {
			return n
		}
	}
	return nil
}

// near reports whether addr is in the network around one of them.
func (h *homes) near(addr netip.Addr, now time.Time) bool {
	if h == nil || !addr.IsValid() {
		return false
	}
	around := networkOf(addr, homeBits)
	return slices.ContainsFunc(h.networks, func(n home) bool {
		return now.Sub(n.last) < homeAge && around.Contains(n.network.Addr())
	})
}

// see notes a login from the address. Of too many the one that was not used for longest is forgotten.
func (h *homes) see(network netip.Prefix, now time.Time) {
	h.last = now
	i := slices.IndexFunc(h.networks, func(n home) bool { return n.network == network })
	switch {
	case i >= 0:
		h.networks[i].last = now
		return
	case len(h.networks) < maxNetworks:
		h.networks = append(h.networks, home{network: network, last: now})
		return
	}
	oldest := 0
	for i, n := range h.networks {
		if n.last.Before(h.networks[oldest].last) {
			oldest = i
		}
	}
	h.networks[oldest] = home{network: network, last: now}
}

// sampled is how many entries of a full table are looked at to find one that can go.
const sampled = 8

// keep makes room in a table that is full: of some entries, as the map happens to give them, the least goes. What matters
// most is therefore never lost, and what matters more than most others hardly ever: flooding the table from many addresses
// takes as many failures from each as the entry has that is to be flushed.
func keep[K comparable, V any](table map[K]V, limit int, less func(x, y V) bool) {
	if len(table) < limit {
		return
	}
	var least K
	var value V
	seen := 0
	for k, v := range table {
		if seen == 0 || less(v, value) {
			least, value = k, v
		}
		if seen++; seen == sampled {
			break
		}
	}
	delete(table, least)
}
