// Package bag has a set for many long-lived members.
package bag

import "iter"

// Member is a pointer to something that keeps the place where it stands in a Bag, for that alone.
type Member interface {
	comparable
	Place() *int32
}

// Bag is a set whose members know where they stand in it: it takes 8 bytes for each, a map about 28. The zero value is
// empty. It is not safe for concurrent use.
type Bag[M Member] struct{ members []M }

// Add puts m in, which is in no bag.
func (b *Bag[M]) Add(m M) {
	*m.Place() = int32(len(b.members))
	b.members = append(b.members, m)
}

// Remove takes m out, if it is in.
func (b *Bag[M]) Remove(m M) {
	at, last := int(*m.Place()), len(b.members)-1
	if at > last || b.members[at] != m {
		return
	}
	b.members[at] = b.members[last]
	*b.members[at].Place() = int32(at)
	var none M
	b.members[last] = none
	b.members = b.members[:last]
}

// All returns the members, in no order. Members may be added and removed meanwhile: those that were in and stay come at
// least once, those that are added may not come, and what is out when its turn comes does not.
func (b *Bag[M]) All() iter.Seq[M] {
	return func(yield func(M) bool) {
		// What is removed makes place for the last one. Going down, that one has been there already or is still to come.
		for i := len(b.members) - 1; i >= 0; i-- {
			if i < len(b.members) && !yield(b.members[i]) {
				return
			}
		}
	}
}

// Len returns how many are in.
func (b *Bag[M]) Len() int { return len(b.members) }
