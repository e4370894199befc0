package proxy

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"sluice/internal/config"
	"sluice/netpolicy"
)

// maxPlan bounds the rows of either list of a Plan.
const maxPlan = 1000

// Plan is what a Restriction would do: whom it would cut off.
type Plan struct {
	Tenant    string
	Connected []PlanClient // now, those with the most sessions first
	History   []PlanClient // not now, but since Since; the last seen first
	Sessions  int          // of those connected now
	Absent    int          // of the history; more than History has if they are too many to list
	Since     time.Time    // when the history begins
	SelfCut   bool         // the caller's own address would be shut out
}

// PlanClient is a role at a network that can reach the tenant now and could not any more.
type PlanClient struct {
	Role, Database, Mode string
	Network              netip.Prefix
	Sessions             int       // connected now; 0 in the history
	LastSeen             time.Time // in the history
}

// Plan says whom a restriction would cut off, also where the API has no say, and changes nothing.
// Errors: *RefusedError for a restriction that Restrict would refuse, whoever asks.
func (s *Server) Plan(r Restriction) (Plan, error) {
	st := s.state.Load()
	t, err := st.configured(r.Tenant)
	if err != nil {
		return Plan{}, err
	}
	now := time.Now()
	after, err := st.restricted(t, &r, now)
	if err != nil {
		return Plan{}, err
	}
	cfg := *st.cfg
	cfg.Tenants = slices.Clone(cfg.Tenants)
	i := slices.IndexFunc(cfg.Tenants, func(other config.Tenant) bool { return other.Name == t.Name })
	cfg.Tenants[i].Network.ManagedBy = config.ManagedByAPI
	then, err := netpolicy.Compile(policySpec(&cfg, after), now)
	if err != nil {
		return Plan{}, err
	}
	cut := func(peer netpolicy.Peer) bool {
		return peer.Tenant == t.Name && st.policy.Check(peer) == nil && then.Check(peer) != nil
	}
	p := Plan{Tenant: t.Name, Since: s.history.began, SelfCut: st.keepsCaller(&cfg.Tenants[i], r.Caller, after) != nil}
	connected := s.connected()
	p.connected(connected, cut)
	p.history(s.history.all(), connected, cut)
	return p, nil
}

// connected adds those who are connected now.
func (p *Plan) connected(sessions map[netpolicy.Peer]int, cut func(netpolicy.Peer) bool) {
	for peer, n := range sessions {
		if cut(peer) {
			p.Sessions += n
			p.Connected = append(p.Connected, PlanClient{
				Role: peer.Role, Database: peer.Database, Mode: peer.Mode, Sessions: n, Network: netip.PrefixFrom(peer.Addr, peer.Addr.BitLen()),
			})
		}
	}
	slices.SortFunc(p.Connected, func(x, y PlanClient) int {
		return cmp.Or(cmp.Compare(y.Sessions, x.Sessions), cmp.Compare(x.Role, y.Role), x.Network.Addr().Compare(y.Network.Addr()),
			cmp.Compare(x.Database, y.Database), cmp.Compare(x.Mode, y.Mode))
	})
	p.Connected = p.Connected[:min(len(p.Connected), maxPlan)]
}

// history adds those who are not.
func (p *Plan) history(entries []historyEntry, sessions map[netpolicy.Peer]int, cut func(netpolicy.Peer) bool) {
	for _, e := range entries {
		if sessions[e.peer] > 0 || !cut(e.peer) {
			continue
		}
		if p.Absent++; p.Absent <= maxPlan {
			p.History = append(p.History, PlanClient{
				Role: e.peer.Role, Database: e.peer.Database, Mode: e.peer.Mode, Network: e.key.network, LastSeen: e.seen,
			})
		}
	}
}

// connected counts the sessions of clients that look the same to the policy.
func (s *Server) connected() map[netpolicy.Peer]int {
	all := make(map[netpolicy.Peer]int)
	for _, sh := range s.shards {
		here := make(map[netpolicy.Peer]int)
		sh.loop.Do(func() {
			for session := range sh.sessions.All() {
				if !session.ended {
					here[session.peer()]++
				}
			}
		})
		for peer, n := range here {
			all[peer] += n
		}
	}
	return all
}
