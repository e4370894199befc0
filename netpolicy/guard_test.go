package netpolicy

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"
)

const patience = 15 * time.Second

func bans(after int) Limits {
	return Limits{After: after, Window: 5 * time.Minute, For: 10 * time.Minute}
}

func from(addr string) Attempt {
	return Attempt{Tenant: "acme", Role: "alice", Addr: netip.MustParseAddr(addr)}
}

func as(role string, a Attempt) Attempt {
	a.Role = role
	return a
}

// fail has the attempt fail n times at once.
func fail(g *Guard, a Attempt, n int, now time.Time) (last *Ban) {
	for range n {
		last = g.Failed(a, now)
	}
	return last
}

func wantVerdict(t *testing.T, what string, got, want Verdict) {
	t.Helper()
	if (got.Ban != nil) != (want.Ban != nil) || got.Wait != want.Wait || got.Busy != want.Busy {
		t.Errorf("%s: got %+v, want %+v", what, got, want)
	}
}

func TestDelaysDoubleWithEachFailureAndEndWithTheWindow(t *testing.T) {
	t.Parallel()
	g := NewGuard(bans(0))
	a := from("203.0.113.7")
	for n, ms := range []int{0, 100, 200, 400, 800, 1600, 3200, 6400, 10000, 10000, 10000} {
		wantVerdict(t, fmt.Sprintf("%d failures", n), g.Ask(a, patience, noon), Verdict{Wait: time.Duration(ms) * time.Millisecond})
		g = NewGuard(bans(0)) // without the attempt that was asked for
		fail(g, a, n+1, noon)
	}
	wantVerdict(t, "another address", g.Ask(from("203.0.113.8"), patience, noon), Verdict{Wait: 100 * time.Millisecond}) // the role's 11 failures
	wantVerdict(t, "another role", g.Ask(as("bob", from("203.0.113.8")), patience, noon), Verdict{})
	wantVerdict(t, "another tenant", g.Ask(Attempt{Tenant: "globex", Role: "alice", Addr: a.Addr}, patience, noon), Verdict{})
	wantVerdict(t, "while the failures count", g.Ask(a, patience, noon.Add(4*time.Minute)), Verdict{Wait: 100 * time.Millisecond})
	g = NewGuard(bans(0))
	fail(g, a, 11, noon)
	wantVerdict(t, "when they do not", g.Ask(a, patience, noon.Add(5*time.Minute)), Verdict{})
}

// Logins at a time take their turns, and one whose turn would come too late is refused without taking one.
func TestLoginsBehindFailuresTakeTheirTurns(t *testing.T) {
	t.Parallel()
	g := NewGuard(bans(0))
	a := from("203.0.113.7")
	fail(g, a, 6, noon) // 3.2 s between two
	for i, want := range []Verdict{{Wait: 3200 * time.Millisecond}, {Wait: 6400 * time.Millisecond}, {Wait: 9600 * time.Millisecond}, {Wait: 12800 * time.Millisecond}, {Busy: true}, {Busy: true}} {
		wantVerdict(t, fmt.Sprintf("login %d", i), g.Ask(a, patience, noon), want)
	}
	wantVerdict(t, "a second later", g.Ask(a, patience, noon.Add(time.Second)), Verdict{Wait: 15 * time.Second})
}

func TestBanComesWithItsReasonAndEndAndLeavesOthersAlone(t *testing.T) {
	t.Parallel()
	g := NewGuard(bans(3))
	a := from("203.0.113.7")
	if b := fail(g, a, 2, noon); b != nil {
		t.Fatalf("banned after two failures: %+v", b)
	}
	b := fail(g, as(`x"y`, a), 1, noon.Add(time.Minute))
	if b == nil || b.Tenant != "acme" || b.Network.String() != "203.0.113.7/32" || b.Failures != 3 ||
		!b.Since.Equal(noon.Add(time.Minute)) || !b.Until.Equal(noon.Add(11*time.Minute)) || b.Reason != `3 failed logins within 5m0s, the last as role "x\"y"` {
		t.Fatalf("the third: %+v", b)
	}
	wantVerdict(t, "banned", g.Ask(a, patience, noon.Add(11*time.Minute-1)), Verdict{Ban: b})
	wantVerdict(t, "mapped", g.Ask(from("::ffff:203.0.113.7"), patience, noon.Add(2*time.Minute)), Verdict{Ban: b})
	wantVerdict(t, "neighbour", g.Ask(from("203.0.113.8"), patience, noon.Add(2*time.Minute)), Verdict{})
	wantVerdict(t, "another tenant", g.Ask(Attempt{Tenant: "globex", Role: "alice", Addr: a.Addr}, patience, noon.Add(2*time.Minute)), Verdict{})
	if list := g.Bans(noon.Add(2 * time.Minute)); len(list) != 1 || list[0] != *b {
		t.Errorf("bans: %+v", list)
	}
	wantVerdict(t, "at its end", g.Ask(a, patience, noon.Add(11*time.Minute)), Verdict{})
	if list := g.Bans(noon.Add(11 * time.Minute)); len(list) != 0 {
		t.Errorf("bans at the end: %+v", list)
	}
}

func TestBanOfAnIPv6AddressIsThatOfItsNetwork(t *testing.T) {
	t.Parallel()
	g := NewGuard(bans(3))
	for i := range 3 {
		g.Failed(from(fmt.Sprintf("2001:db8:0:1::%d", i+1)), noon)
	}
	if g.Ask(from("2001:db8:0:1:ffff::9"), patience, noon).Ban == nil {
		t.Error("the rest of the /64 is not banned")
	}
	if g.Ask(from("2001:db8:0:2::1"), patience, noon).Ban != nil {
		t.Error("the next /64 is banned")
	}
}

// A failure counts for the window, to an eighth of it.
func TestFailuresOutsideTheWindowDoNotBan(t *testing.T) {
	t.Parallel()
	g := NewGuard(bans(3))
	a := from("203.0.113.7")
	for i := range 100 {
		if b := g.Failed(a, noon.Add(time.Duration(i)*151*time.Second)); b != nil {
			t.Fatalf("banned at failure %d, though never three are within the window: %+v", i, b)
		}
	}
}

func TestSomeAreNeverBanned(t *testing.T) {
	t.Parallel()
	for _, addr := range []string{"127.0.0.1", "::1", "::ffff:127.9.9.9", "10.1.2.3", ""} {
		l := bans(3)
		l.Never = Networks{netip.MustParsePrefix("10.0.0.0/8")}
		g := NewGuard(l)
		a := Attempt{Tenant: "acme", Role: "alice"} // a Unix socket, or a balancer that does not tell
		if addr != "" {
			a = from(addr)
		}
		if b := fail(g, a, 100, noon); b != nil {
			t.Errorf("%q: banned: %+v", addr, b)
		}
		wantVerdict(t, addr, g.Ask(a, patience, noon), Verdict{Wait: maxHomeDelay})
		wantVerdict(t, addr+" at the same time", g.Ask(a, patience, noon), Verdict{Wait: maxHomeDelay})
		if n := len(g.Bans(noon)); n != 0 {
			t.Errorf("%q: %d bans", addr, n)
		}
	}
}

// An attacker, next door or all over the world, cannot lock a role out from where it normally comes.
func TestRoleIsNotLockedOutFromItsNetworks(t *testing.T) {
	t.Parallel()
	g := NewGuard(bans(3))
	home := from("203.0.113.7")
	g.Succeeded(home, noon)
	for i := range 5000 { // a botnet
		fail(g, from(fmt.Sprintf("198.18.%d.%d", i/250, i%250)), 3, noon)
	}
	wantVerdict(t, "from home", g.Ask(home, patience, noon), Verdict{})
	wantVerdict(t, "from next door", g.Ask(from("203.0.113.8"), patience, noon), Verdict{})
	wantVerdict(t, "from elsewhere", g.Ask(from("192.0.2.1"), patience, noon), Verdict{Wait: maxRoleDelay})
	b := fail(g, as("bob", home), 3, noon) // from the role's own address
	wantVerdict(t, "from an address that is banned for others", g.Ask(home, patience, noon), Verdict{})
	wantVerdict(t, "the others", g.Ask(as("bob", home), patience, noon), Verdict{Ban: b})
	fail(g, home, 1000, noon) // as the role itself
	for range 100 {
		wantVerdict(t, "guessing at home", g.Ask(home, patience, noon), Verdict{Wait: maxHomeDelay})
	}
	if g.Banned(home, noon) != nil {
		t.Error("the role is banned from home")
	}
	wantVerdict(t, "a month later", g.Ask(home, patience, noon.Add(homeAge)), Verdict{})
	fail(g, as("bob", home), 3, noon.Add(homeAge))
	if g.Banned(home, noon.Add(homeAge)) == nil {
		t.Error("a network that the role has left is still its home")
	}
}

func TestRoleHasABoundedNumberOfNetworks(t *testing.T) {
	t.Parallel()
	g := NewGuard(bans(3))
	for i := range 3 * maxNetworks {
		g.Succeeded(from(fmt.Sprintf("10.0.%d.1", i)), noon.Add(time.Duration(i)*time.Second))
		g.Succeeded(from("192.0.2.1"), noon.Add(time.Duration(i)*time.Second)) // where it comes from again and again
	}
	h := g.homes[from("192.0.2.1").account()]
	if len(h.networks) != maxNetworks || h.find(netip.MustParsePrefix("192.0.2.1/32"), noon) == nil {
		t.Errorf("%d networks: %v", len(h.networks), h.networks)
	}
}

func TestClearEndsBansAndForgetsFailures(t *testing.T) {
	t.Parallel()
	g := NewGuard(bans(3))
	for _, addr := range []string{"203.0.113.7", "203.0.113.8", "198.51.100.1"} {
		fail(g, from(addr), 3, noon)
		fail(g, Attempt{Tenant: "globex", Role: "bob", Addr: netip.MustParseAddr(addr)}, 3, noon)
	}
	fail(g, from("203.0.113.9"), 2, noon)
	for _, c := range []struct {
		tenant, network string
		want, left      int
	}{{"acme", "203.0.113.7/32", 1, 5}, {"", "203.0.113.0/24", 3, 2}, {"acme", "", 1, 1}, {"initech", "", 0, 1}, {"", "", 1, 0}} {
		var network netip.Prefix
		if c.network != "" {
			network = netip.MustParsePrefix(c.network)
		}
		if n, left := g.Clear(c.tenant, network, noon), len(g.Bans(noon)); n != c.want || left != c.left {
			t.Errorf("clear %q %q: %d ended, %d left, want %d and %d", c.tenant, c.network, n, left, c.want, c.left)
		}
	}
	if b := g.Failed(from("203.0.113.9"), noon); b != nil {
		t.Errorf("failures from before are counted: %+v", b)
	}
}

func TestNewLimitsEndBansThatTheyWouldNotMake(t *testing.T) {
	t.Parallel()
	g := NewGuard(bans(3))
	fail(g, from("203.0.113.7"), 3, noon)
	fail(g, from("198.51.100.1"), 3, noon)
	l := bans(5)
	l.Never = Networks{netip.MustParsePrefix("203.0.113.0/24")}
	g.SetLimits(l)
	if list := g.Bans(noon); len(list) != 1 || list[0].Network.String() != "198.51.100.1/32" {
		t.Errorf("bans: %+v", list)
	}
	g.SetLimits(bans(0))
	if list := g.Bans(noon); len(list) != 0 {
		t.Errorf("bans without bans.after: %+v", list)
	}
	fail(g, from("192.0.2.1"), 3, noon)
	g.SetLimits(Limits{Window: time.Hour})
	wantVerdict(t, "with another window", g.Ask(from("192.0.2.1"), patience, noon), Verdict{})
}

// However many addresses and names an attacker has, the tables stay small, and what they hold of others stays.
func TestFloodCannotFillMemoryNorFlushWhatMatters(t *testing.T) {
	t.Parallel()
	l := bans(20)
	g := NewGuard(l)
	guessing, home, banned := from("203.0.113.7"), from("192.0.2.1"), from("203.0.113.9")
	g.Succeeded(home, noon)
	fail(g, guessing, 10, noon)
	fail(g, banned, 20, noon)
	long := strings.Repeat("x", 1000)
	var addr [16]byte
	copy(addr[:], netip.MustParseAddr("2001:db8::").AsSlice())
	for i := range maxSources + maxAccounts {
		addr[4], addr[5], addr[6] = byte(i>>16), byte(i>>8), byte(i)
		g.Failed(Attempt{Tenant: "acme", Role: fmt.Sprint("guess", i) + long, Addr: netip.AddrFrom16(addr)}, noon.Add(time.Second))
	}
	if len(g.sources) > maxSources || len(g.accounts) > maxAccounts || len(g.homes) != 1 || len(g.bans) != 1 {
		t.Errorf("%d sources, %d accounts, %d homes, %d bans", len(g.sources), len(g.accounts), len(g.homes), len(g.bans))
	}
	for k := range g.accounts {
		if len(k.role) > maxRoleName {
			t.Fatalf("a name of %d bytes is kept", len(k.role))
		}
	}
	if n := g.sources[guessing.source()].count(noon.Add(time.Second), l.Window); n != 10 {
		t.Errorf("of ten failures %d are left", n)
	}
	if g.home(home, noon) == nil || g.Banned(banned, noon) == nil {
		t.Error("a home or a ban is gone")
	}
}

func TestBansAreBounded(t *testing.T) {
	t.Parallel()
	g := NewGuard(bans(1))
	for i := range maxBans + 100 {
		g.Failed(from(fmt.Sprintf("198.%d.%d.%d", 18+i>>16, i>>8&255, i&255)), noon.Add(time.Duration(i)))
	}
	if n := len(g.Bans(noon)); n != maxBans {
		t.Errorf("%d bans, want %d", n, maxBans)
	}
}

// TestRecentCountsWhatAListWould compares the window with a list of all events.
func TestRecentCountsWhatAListWould(t *testing.T) {
	t.Parallel()
	const window = 80 * time.Second
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var r recent
		var events []time.Time
		now := noon
		for range 100 {
			now = now.Add(time.Duration(random.Int64N(int64(30 * time.Second))))
			if random.IntN(20) == 0 {
				now = now.Add(time.Duration(random.Int64N(int64(5 * time.Minute))))
			}
			r.add(now, window)
			events = append(events, now)
			least, most := 0, 0
			for _, e := range events {
				age := now.Sub(e)
				if age < window*7/8 {
					least++
				}
				if age < window {
					most++
				}
			}
			if n := r.count(now, window); n < least || n > most {
				t.Fatalf("counted %d, want %d to %d", n, least, most)
			}
		}
	}
}

func TestNetworksHoldAddressesHoweverTheyAreWritten(t *testing.T) {
	t.Parallel()
	n := Networks{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("::ffff:192.0.2.0/120")}
	for addr, want := range map[string]bool{
		"10.1.2.3": true, "::ffff:10.1.2.3": true, "11.0.0.1": false, "2001:db8::1%eth0": true, "2001:db9::1": false, "192.0.2.9": true,
	} {
		if got := n.Contains(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: %t, want %t", addr, got, want)
		}
	}
	if n.Contains(netip.Addr{}) || (Networks)(nil).Contains(netip.MustParseAddr("10.0.0.1")) {
		t.Error("no address, or no network, is held")
	}
}
