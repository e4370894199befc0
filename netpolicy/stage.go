package netpolicy

import "fmt"

// Stage is how far TLS is enforced for clients over TCP. Later ones are stricter.
type Stage int

// The stages. The zero Stage is Observe.
const (
	Observe Stage = iota // clients without TLS are admitted
	Warn                 // they are, and are to be told that they will not be
	Enforce              // they are denied
)

// String returns the stage as the configuration has it.
func (s Stage) String() string {
	switch s {
	case Observe:
		return "observe"
	case Warn:
		return "warn"
	case Enforce:
		return "enforce"
	}
	return fmt.Sprintf("stage %d", int(s))
}

// Stage returns how far TLS is enforced for peer over TCP: the strictest of what its tenant, role and database say. It does
// not look at peer's address or at its connection. For a tenant that there is not it is Enforce.
func (p *Policy) Stage(peer Peer) Stage {
	if p == nil {
		return Enforce
	}
	t, found := p.tenants[peer.Tenant]
	if !found {
		return Enforce
	}
	stage := t.stage
	if r := t.roles[peer.Role]; r != nil {
		stage = max(stage, r.stage)
	}
	if d := t.databases[peer.Database]; d != nil {
		return max(stage, d.stage)
	}
	for _, d := range t.renamed[peer.Database] {
		stage = max(stage, d.stage)
	}
	return stage
}

// denies reports whether the stage denies peer.
func (s Stage) denies(peer *Peer) bool { return s >= Enforce && !peer.TLS && !peer.Unix }
