package proxy

import (
	"net/netip"
	"testing"
	"time"
)

// TestCrowdForgetsAddresses has more addresses come than are remembered, each as fast as it may.
func TestCrowdForgetsAddresses(t *testing.T) {
	t.Parallel()
	c := newCrowd()
	now := time.Unix(0, 0)
	var addr [16]byte
	for i := range 2 * maxCallers {
		addr[4], addr[5], addr[6] = byte(i>>16), byte(i>>8), byte(i)
		a := &admission{facts: facts{addr: netip.AddrPortFrom(netip.AddrFrom16(addr), 1)}}
		if e := c.arrive(a, crowdLimits{rate: 1}, now); e != nil {
			t.Fatal(e)
		}
		if !c.leave(a) || c.leave(a) {
			t.Fatal("it does not leave once")
		}
	}
	if len(c.callers) > maxCallers || len(c.waiting) != 0 {
		t.Errorf("%d addresses are known and %d wait", len(c.callers), len(c.waiting))
	}
}
