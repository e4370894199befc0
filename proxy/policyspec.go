package proxy

import (
	"fmt"

	"sluice/internal/config"
	"sluice/netpolicy"
)

// policySpec translates the configuration's networks, and what the API has changed of them.
func policySpec(cfg *config.Config, sv *saved) netpolicy.Spec {
	sets := setsOf(cfg)
	spec := netpolicy.Spec{Process: sets.rules(cfg.Network)}
	for i := range cfg.Tenants {
		t := &cfg.Tenants[i]
		ts := netpolicy.TenantSpec{
			Name: t.Name, Rules: sets.rules(tenantNetwork(t, sv)), TLS: tenantStage(t, sv),
			AllowOtherRoles: t.OtherRoles == config.Allow, AllowOtherDatabases: t.OtherDatabases == config.Allow,
		}
		for _, r := range t.Roles {
			rs := netpolicy.RoleSpec{Name: r.Name, Rules: sets.rules(r.Network), TLS: stageOf(r.TLSEnforcement)}
			for _, m := range r.Modes {
				rs.Modes = append(rs.Modes, string(m))
			}
			ts.Roles = append(ts.Roles, rs)
		}
		for _, d := range t.Databases {
			ts.Databases = append(ts.Databases, netpolicy.DatabaseSpec{
				Name: d.Name, InPostgres: d.DBName, Rules: sets.rules(d.Network), TLS: stageOf(d.TLSEnforcement),
			})
		}
		spec.Tenants = append(spec.Tenants, ts)
	}
	return spec
}

// tenantNetwork returns the tenant's networks: those of the configuration, or what the API says instead.
func tenantNetwork(t *config.Tenant, sv *saved) config.Network {
	network := t.Network.Network
	if n := sv.counts(t).Network; n != nil {
		network.AllowedCIDRs = n.Allowed
	}
	return network
}

// stageOf translates tls_enforcement.
func stageOf(word string) netpolicy.Stage {
	switch word {
	case config.TLSWarn:
		return netpolicy.Warn
	case config.TLSEnforce:
		return netpolicy.Enforce
	}
	return netpolicy.Observe
}

// tenantStage returns how far the tenant enforces TLS: what the configuration says, or the API instead, which knows only
// whether clients without are refused.
func tenantStage(t *config.Tenant, sv *saved) netpolicy.Stage {
	stage := stageOf(t.TLSEnforcement)
	if t.RequireTLS {
		stage = netpolicy.Enforce
	}
	switch c := sv.counts(t).TLS; {
	case c == nil:
	case c.Required:
		return netpolicy.Enforce
	case stage == netpolicy.Enforce:
		return netpolicy.Observe
	}
	return stage
}

// requiresTLS reports whether the tenant refuses clients without TLS.
func requiresTLS(t *config.Tenant, sv *saved) bool { return tenantStage(t, sv) == netpolicy.Enforce }

// checkSaved reports what the API has changed that cannot be with this configuration.
func checkSaved(cfg *config.Config, sv *saved) error {
	for i := range cfg.Tenants {
		t := &cfg.Tenants[i]
		if !cfg.TLS.Enabled() && requiresTLS(t, sv) && !requiresTLS(t, &saved{}) {
			return fmt.Errorf("tenants[%d]: the API has required TLS: needs tls.cert_file and tls.key_file", i)
		}
	}
	return nil
}

// networkSets are the sets of the configuration by name.
type networkSets map[string][]config.Entry

func setsOf(cfg *config.Config) networkSets {
	sets := make(networkSets, len(cfg.NetworkSets))
	for _, set := range cfg.NetworkSets {
		sets[set.Name] = set.Entries
	}
	return sets
}

func (s networkSets) rules(n config.Network) netpolicy.Rules {
	return netpolicy.Rules{Allowed: s.entries(n.AllowedCIDRs), Denied: s.entries(n.DeniedCIDRs)}
}

// entries returns a list with what the sets in it hold.
func (s networkSets) entries(list []config.Entry) []netpolicy.Entry {
	var all []netpolicy.Entry
	for _, e := range list {
		if e.Set != "" {
			all = append(all, s.entries(s[e.Set])...)
			continue
		}
		all = append(all, netpolicy.Entry{Prefix: e.Prefix, Until: e.Until, Comment: e.Comment})
	}
	return all
}
