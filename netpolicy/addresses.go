package netpolicy

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/gaissmai/bart"
)

// mappedBits is the length of ::ffff:0:0/96, the network of the IPv4-mapped addresses (RFC 4291, 2.5.5.2).
const mappedBits = 96

// addresses are compiled Rules. The zero value admits nobody. It must not be copied.
type addresses struct {
	allowAny bool
	allowed  bart.Lite
	denied   bart.Lite
}

// compile fills a from r. The error names every prefix that is wrong.
func (a *addresses) compile(r Rules) error {
	var problems []error
	if r.AllowAny && len(r.Allowed) > 0 {
		problems = append(problems, errors.New("allowed_cidrs: a list of networks together with any address"))
	}
	a.allowAny = r.AllowAny
	problems = append(problems, insert(&a.allowed, "allowed_cidrs", r.Allowed))
	problems = append(problems, insert(&a.denied, "denied_cidrs", r.Denied))
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
		return "denied_cidrs " + network.String()
	}
	return "allowed_cidrs"
}

func insert(table *bart.Lite, key string, prefixes []netip.Prefix) error {
	var problems []error
	for i, prefix := range prefixes {
		network, err := unmapPrefix(prefix)
		if err != nil {
			problems = append(problems, fmt.Errorf("%s[%d]: %w", key, i, err))
			continue
		}
		table.Insert(network)
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
