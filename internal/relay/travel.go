package relay

import "sluice/internal/prepared"

// Luggage is what a Machine takes from one loop to another.
type Luggage struct {
	names     []prepared.Packed
	sequences bool
}

// Movable reports whether the machine holds nothing of its loop but what Depart packs: it has no backend, and is not in the
// middle of anything.
func (m *Machine) Movable() bool {
	return m.backend == nil && m.Free() && !m.raw && !m.refusing && !m.gone && m.pin == ""
}

// Depart makes a Movable machine ready to leave its loop. It is not to be used before Arrive.
func (m *Machine) Depart() Luggage {
	return Luggage{names: m.names.Pack(), sequences: *m.p.Sequences}
}

// Arrive has the machine go on under p, on p's loop. What the client was told at its login, p.Baseline, must be the same.
func (m *Machine) Arrive(p *Params, l Luggage) {
	m.p = p
	m.names.Unpack(p.Table, l.names)
	*p.Sequences = *p.Sequences || l.sequences
}

// Params returns what the machine goes by.
func (m *Machine) Params() *Params { return m.p }
