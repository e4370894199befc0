package netpolicy

import "net/netip"

// Networks is a short list of networks, such as those of the load balancers in front. The zero value holds no address.
type Networks []netip.Prefix

// Contains reports whether one of the networks holds addr, however either of them is written. No network holds the zero
// Addr.
func (n Networks) Contains(addr netip.Addr) bool {
	addr = canonical(addr)
	for _, prefix := range n {
		if network, err := unmapPrefix(prefix); err == nil && network.Contains(addr) {
			return true
		}
	}
	return false
}
