package prepared

// Backend is the set of statements that one backend has prepared, bounded, least recently used last. It holds a reference
// to each. A statement is in the set from the moment its Parse is sent; the relay takes it out again when the Parse fails
// or is skipped, and no backend changes hands before its answers have arrived.
type Backend struct {
	Unnamed *Statement // what the backend's unnamed statement is, nil if unknown; no reference is held

	// Own is what the backend has prepared, beside the set, under the names of one client.
	Own Client

	nodes map[*Statement]*node
	root  node // ring; root.next is the most recently used
	limit int
	stale map[*Statement]struct{} // prepared, but of no use any more; their names are still taken
}

type node struct {
	prev, next *node
	s          *Statement
	confirmed  bool
}

// NewBackend returns an empty set that holds at most limit statements.
func NewBackend(limit int) *Backend {
	b := &Backend{nodes: make(map[*Statement]*node), limit: limit}
	b.root.prev, b.root.next = &b.root, &b.root
	return b
}

// Use reports whether s is prepared on the backend and, if so, makes it the most recently used.
func (b *Backend) Use(s *Statement) bool {
	n, ok := b.nodes[s]
	if ok && b.root.next != n {
		n.unlink()
		n.linkAfter(&b.root)
	}
	return ok
}

// Confirm takes note that Postgres has prepared s.
func (b *Backend) Confirm(s *Statement) {
	if n, ok := b.nodes[s]; ok {
		n.confirmed = true
		s.Proven = true
	}
}

// Confirmed reports whether Postgres is known to have prepared s: of others the Parse is still unanswered.
func (b *Backend) Confirmed(s *Statement) bool {
	n, ok := b.nodes[s]
	return ok && n.confirmed
}

// Spoil takes s out of the set although the backend still has it: it failed there, perhaps because the schema has changed.
func (b *Backend) Spoil(s *Statement) {
	if _, ok := b.nodes[s]; !ok {
		return
	}
	s.Retain()
	b.Remove(s)
	if b.stale == nil {
		b.stale = make(map[*Statement]struct{})
	}
	b.stale[s] = struct{}{}
}

// Spoilt reports whether the backend still has s under its name although s is not in the set: it is to be closed first.
func (b *Backend) Spoilt(s *Statement) bool {
	_, ok := b.stale[s]
	return ok
}

// Closed takes note that the backend does not have the spoilt s any more.
func (b *Backend) Closed(s *Statement) {
	if b.Spoilt(s) {
		delete(b.stale, s)
		s.Release()
	}
}

// Worn reports whether so much was spoilt that the backend had better be replaced.
func (b *Backend) Worn() bool { return len(b.stale) >= b.limit }

// Add puts s into the set. If the set is full, the least recently used statement leaves it and is returned: the caller
// closes it on the backend.
func (b *Backend) Add(s *Statement) (evicted *Statement) {
	if b.Use(s) {
		return nil
	}
	if len(b.nodes) >= b.limit {
		evicted = b.root.prev.s
		b.Remove(evicted)
	}
	n := &node{s: s}
	n.linkAfter(&b.root)
	b.nodes[s] = n
	s.Retain()
	return evicted
}

// Remove takes s out of the set.
func (b *Backend) Remove(s *Statement) {
	n, ok := b.nodes[s]
	if !ok {
		return
	}
	delete(b.nodes, s)
	n.unlink()
	s.Release()
}

// Empty reports whether the backend has no statement of the set, a spoilt one neither.
func (b *Backend) Empty() bool { return len(b.nodes)+len(b.stale) == 0 }

// Len returns how many statements the backend has prepared.
func (b *Backend) Len() int { return len(b.nodes) }

// Each calls f for each statement that the backend has, most recently used first, spoilt ones last.
func (b *Backend) Each(f func(*Statement)) {
	for n := b.root.next; n != &b.root; n = n.next {
		f(n.s)
	}
	for s := range b.stale {
		f(s)
	}
}

// Clear empties the set, forgets what stands under a client's names, and releases the references.
func (b *Backend) Clear() {
	b.Own.Clear()
	b.ClearShared()
	b.Unnamed = nil
}

// ClearShared empties the set and releases the references.
func (b *Backend) ClearShared() {
	for n := b.root.next; n != &b.root; n = n.next {
		n.s.Release()
	}
	for s := range b.stale {
		s.Release()
	}
	clear(b.nodes)
	b.stale = nil
	b.root.prev, b.root.next = &b.root, &b.root
}

func (n *node) unlink() { n.prev.next, n.next.prev = n.next, n.prev }

func (n *node) linkAfter(at *node) {
	n.prev, n.next = at, at.next
	at.next.prev = n
	at.next = n
}

// Keep puts s into the set even if it is full: its Close was not executed.
func (b *Backend) Keep(s *Statement) {
	b.limit++
	b.Add(s)
	b.limit--
	b.nodes[s].confirmed = true
}
