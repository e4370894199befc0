package prepared

// Packed is what one of a client's names means, of no Table: it can go from one loop to another.
type Packed struct {
	name       string
	body       string
	parse, now string // of the Table
	shared     bool
	unsettled  bool

	signals uint32
	scanned bool
	result  uint64
	changed bool
}

// Pack empties c and returns what was in it.
func (c *Client) Pack() []Packed {
	var all []Packed
	for name, s := range c.named {
		all = append(all, s.pack(name))
	}
	if c.unnamed != nil {
		all = append(all, c.unnamed.pack(""))
	}
	c.Clear()
	return all
}

func (s *Statement) pack(name string) Packed {
	return Packed{
		name: name, body: s.body, parse: s.table.key, now: s.table.now, unsettled: s.Unsettled, shared: s.table.byBody[s.body] == s,
		signals: s.Signals, scanned: s.Scanned, result: s.Result, changed: s.Changed,
	}
}

// Unpack gives c, which is empty, what was packed, interned in t. What is known there to return something else than c has
// been told is not shared.
func (c *Client) Unpack(t *Table, all []Packed) {
	for _, p := range all {
		c.Swap(p.name, t.Under(p.parse, p.now).unpack(p))
	}
}

func (t *Table) unpack(p Packed) *Statement {
	if p.shared {
		s := t.Intern([]byte(p.body))
		if s.Result == 0 {
			s.Result, s.Changed = p.result, p.changed
		}
		if !s.Scanned {
			s.Signals, s.Scanned = p.signals, p.scanned
		}
		if p.result == 0 || s.Result == p.result && s.Changed == p.changed {
			return s
		}
		s.Release()
	}
	s := t.Private(p.body)
	s.Unsettled = p.unsettled
	s.Signals, s.Scanned, s.Result, s.Changed = p.signals, p.scanned, p.result, p.changed
	return s
}
