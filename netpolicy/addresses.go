package netpolicy

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/gaissmai/bart"
)

// mappedBits is the length of ::ffff:0:0/96, the network of the IPv4-mapped addresses (RFC 4291, 2.5.5.2).
const mappedBits = 96

// addresses are compiled Rules. The zero value admits nobody. It must not be copied.
type addresses struct {
	allowAny bool
	allowed  bart.Lite
	denied   bart.Lite
	comments map[netip.Prefix]string // of denied networks that have one
}

// compile fills a from what counts of r at c's time. The error names every prefix that is wrong.
func (c *compiler) compile(a *addresses, r Rules) error {
	var problems []error
	if r.AllowAny && len(r.Allowed) > 0 {
		problems = append(problems, errors.New("allowed_cidrs: a list of networks together with any address"))
	}
	a.allowAny = r.AllowAny
	problems = append(problems, c.insert("allowed_cidrs", r.Allowed, func(network netip.Prefix, _ string) {
		a.allowed.Insert(network)
	}))
	problems = append(problems, c.insert("denied_cidrs", r.Denied, func(network netip.Prefix, comment string) {
		a.denied.Insert(network)
		if comment == "" {
			return
		}
		if a.comments == nil {
			a.comments = make(map[netip.Prefix]string)
		}
		a.comments[network] = comment
	}))
	return errors.Join(problems...)
}

// admits reports whether addr, which must be canonical, is allowed and not denied.
func (a *addresses) admits(addr netip.Addr) bool {
	return addr.IsValid() && !a.denied.Contains(addr) && (a.allowAny || a.allowed.Contains(addr))
}

// rule names what made admits say no to addr.
func (a *addresses) rule(addr netip.Addr) string {
	if !addr.IsValid() {
		return "allowed_cidrs"
	}
	if network, found := a.denied.LookupPrefixLPM(netip.PrefixFrom(addr, addr.BitLen())); found {
		rule := "denied_cidrs " + network.String()
		if comment := a.comments[network]; comment != "" {
			rule += fmt.Sprintf(" %q", comment)
		}
		return rule
	}
	return "allowed_cidrs"
}

// compiler is one call of Compile.
type compiler struct {
	now     time.Time
	expires time.Time // the first entry that counts at now; zero: none does
}

// insert calls keep with the networks of the entries that count, and takes note of when the next one expires.
func (c *compiler) insert(key string, entries []Entry, keep func(network netip.Prefix, comment string)) error {
	var problems []error
	for i, e := range entries {
		network, err := unmapPrefix(e.Prefix)
		if err != nil {
			problems = append(problems, fmt.Errorf("%s[%d]: %w", key, i, err))
			continue
		}
		if e.expired(c.now) {
			continue
		}
		if !e.Until.IsZero() && (c.expires.IsZero() || e.Until.Before(c.expires)) {
			c.expires = e.Until
		}
		keep(network, e.Comment)
	}
	return errors.Join(problems...)
}

// unmapPrefix returns prefix as it is compared: masked, and as IPv4 if it is IPv4-mapped.
func unmapPrefix(prefix netip.Prefix) (netip.Prefix, error) {
	if !prefix.IsValid() {
		return netip.Prefix{}, fmt.Errorf("%q is not a network", prefix.String())
	}
	if !prefix.Addr().Is4In6() {
		return prefix.Masked(), nil
	}
	if prefix.Bits() < mappedBits {
		return netip.Prefix{}, fmt.Errorf("%s mixes IPv4 and IPv6 addresses: write one network for each", prefix)
	}
	return netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()-mappedBits).Masked(), nil
}

// canonical returns addr as it is compared: IPv4-mapped addresses as IPv4, zones stripped.
func canonical(addr netip.Addr) netip.Addr {
	return addr.Unmap().WithZone("")
}
