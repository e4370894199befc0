package netpolicy

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Compile builds the Policy that spec describes at now: entries that have expired then are left out. It keeps nothing of
// spec. Compile again when the Policy Expires.
//
// The error lists all problems, each with the names that lead to it: networks that are not valid, networks together
// with AllowAny, names that are empty or appear twice among their siblings, and empty modes.
func Compile(spec Spec, now time.Time) (*Policy, error) {
	c := &compiler{now: now}
	p := &Policy{tenants: make(map[string]*tenant, len(spec.Tenants))}
	problems := []error{within("process", c.compile(&p.process, spec.Process))}
	for i, ts := range spec.Tenants {
		t, err := c.tenant(ts)
		problems = append(problems, within(fmt.Sprintf("tenant %q", ts.Name), err))
		problems = append(problems, within(fmt.Sprintf("tenants[%d]", i), add(p.tenants, ts.Name, t)))
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	p.expires = c.expires
	return p, nil
}

func (c *compiler) tenant(spec TenantSpec) (*tenant, error) {
	t := &tenant{
		stage:               spec.TLS,
		allowOtherRoles:     spec.AllowOtherRoles,
		allowOtherDatabases: spec.AllowOtherDatabases,
		roles:               make(map[string]*role, len(spec.Roles)),
		databases:           make(map[string]*database, len(spec.Databases)),
		renamed:             make(map[string][]*database),
	}
	problems := []error{c.compile(&t.addresses, spec.Rules)}
	for i, rs := range spec.Roles {
		r, err := c.role(rs)
		problems = append(problems, within(fmt.Sprintf("role %q", rs.Name), err))
		problems = append(problems, within(fmt.Sprintf("roles[%d]", i), add(t.roles, rs.Name, r)))
	}
	for i, ds := range spec.Databases {
		d := &database{stage: ds.TLS}
		problems = append(problems, within(fmt.Sprintf("database %q", ds.Name), c.compile(&d.addresses, ds.Rules)))
		problems = append(problems, within(fmt.Sprintf("databases[%d]", i), add(t.databases, ds.Name, d)))
	}
	for _, ds := range spec.Databases {
		if ds.InPostgres != "" && t.databases[ds.InPostgres] == nil {
			t.renamed[ds.InPostgres] = append(t.renamed[ds.InPostgres], t.databases[ds.Name])
		}
	}
	return t, errors.Join(problems...)
}

func (c *compiler) role(spec RoleSpec) (*role, error) {
	r := &role{modes: slices.Clone(spec.Modes), stage: spec.TLS}
	err := c.compile(&r.addresses, spec.Rules)
	if slices.Contains(spec.Modes, "") {
		err = errors.Join(err, errors.New("modes: an empty mode"))
	}
	return r, err
}

// add files entry under name, which must be new and not empty.
func add[E any](entries map[string]E, name string, entry E) error {
	if name == "" {
		return errors.New("empty name")
	}
	if _, taken := entries[name]; taken {
		return fmt.Errorf("duplicate name %q", name)
	}
	entries[name] = entry
	return nil
}

// within puts where in front of each of the problems joined in err, and returns nil for nil.
func within(where string, err error) error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return fmt.Errorf("%s: %w", where, err)
	}
	var problems []error
	for _, problem := range joined.Unwrap() {
		problems = append(problems, within(where, problem))
	}
	return errors.Join(problems...)
}
