package netpolicy

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
)

// manyPrefixes is how many networks the largest policy we measure has.
const manyPrefixes = 100_000

// large is a policy with manyPrefixes denied networks, half of them IPv6, and the peers that it admits.
func large(t testing.TB) (Spec, []Peer) {
	t.Helper()
	random := rand.New(rand.NewPCG(3, 4))
	seen := make(map[netip.Prefix]bool, manyPrefixes)
	denied := make([]Entry, 0, manyPrefixes)
	for len(denied) < manyPrefixes {
		r := random.Uint64()
		prefix := netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(r>>24)%100 + 1, byte(r >> 16), byte(r >> 8), byte(r)}), 24+int(r>>60)%9)
		if len(denied)%2 == 0 {
			prefix = netip.PrefixFrom(netip.AddrFrom16([16]byte{0x2a, byte(r >> 40), byte(r >> 32), byte(r >> 24), byte(r >> 16),
				byte(r >> 8), byte(r)}), 32+int(r>>58)%33)
		}
		if prefix = prefix.Masked(); !seen[prefix] {
			seen[prefix] = true
			denied = append(denied, Entry{Prefix: prefix, Until: noon.Add(time.Hour), Comment: "listed"})
		}
	}
	spec := Spec{
		Process: Rules{AllowAny: true, Denied: denied},
		Tenants: []TenantSpec{{Name: "a", Rules: allow(t, "0.0.0.0/0", "::/0"), TLS: Enforce,
			Roles:     []RoleSpec{{Name: "r", Rules: Rules{AllowAny: true}, Modes: []string{"session", "transaction"}}},
			Databases: []DatabaseSpec{{Name: "d", Rules: allow(t, "203.0.113.0/24", "2001:db8::/32")}}}},
	}
	var peers []Peer
	for _, addr := range []string{"203.0.113.9", "::ffff:203.0.113.9", "2001:db8::7", "2001:db8::7%eth0"} {
		peers = append(peers, Peer{Addr: netip.MustParseAddr(addr), Tenant: "a", Role: "r", Database: "d", TLS: true, Mode: "transaction"})
	}
	return spec, peers
}

// AllocsPerRun counts the whole process, so this test does not run beside others.
func TestAdmittingDoesNotAllocate(t *testing.T) {
	spec, peers := large(t)
	p := mustCompile(t, spec)
	peers = append(peers, Peer{Unix: true, Tenant: "a", Role: "r", Database: "d", Mode: "session"})
	for _, peer := range peers {
		if err := p.Check(peer); err != nil {
			t.Fatal(err)
		}
		allocs := testing.AllocsPerRun(1000, func() {
			if p.Check(peer) != nil || !peer.Unix && p.CheckAddr(peer.Addr) != nil {
				t.Fail()
			}
		})
		if allocs != 0 {
			t.Errorf("%v: got %v allocations, want 0", peer, allocs)
		}
	}
}

func BenchmarkCheck100kPrefixes(b *testing.B) {
	spec, peers := large(b)
	p := mustCompile(b, spec)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if err := p.Check(peers[i%len(peers)]); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCheckAddr100kPrefixes(b *testing.B) {
	spec, peers := large(b)
	p := mustCompile(b, spec)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if err := p.CheckAddr(peers[i%len(peers)].Addr); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCompile100kPrefixes(b *testing.B) {
	spec, _ := large(b)
	b.ReportAllocs()
	for b.Loop() {
		mustCompile(b, spec)
	}
}
