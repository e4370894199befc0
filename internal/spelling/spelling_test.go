package spelling

import (
	"strings"
	"testing"
)

func TestHintNamesTheOneWordThatIsNear(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ written, known, want string }{
		{"connction_limt", "max_clients connection_limit", "connection_limit"},
		{"max_conections", "max_clients max_connections", "max_connections"},
		{"pool-wait-time-out", "pool_size pool_wait_timeout", "pool_wait_timeout"},
		{"Level", "level format", "level"},
		{"x25519", "X25519 P-256", "X25519"},
		{"txet", "text json", "text"},
		{"of", "auto off", "off"},
		{"on", "auto off", ""},          // the opposite
		{"a", "b", ""},                  // nothing is left of it
		{"bogus", "log tls bans", ""},   // three letters of five
		{"1.1", "1.2 1.3", ""},          // a number is not misspelt
		{"HS256", "RS256 PS256", ""},    // which of them?
		{"allow", "disable prefer", ""}, // another word
		{"size", "pool_size size_pool", ""},
		{"", "a b", ""},
		{strings.Repeat("x", 65), strings.Repeat("x", 64), ""},
		{strings.Repeat("x", 63), strings.Repeat("x", 65), ""},
	} {
		want := tt.want
		if want != "" {
			want = "; did you mean " + want + "?"
		}
		if got := Hint(tt.written, strings.Fields(tt.known)); got != want {
			t.Errorf("Hint(%q, %q) = %q, want %q", tt.written, tt.known, got, want)
		}
	}
}

func TestDistance(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"", "abc", 3}, {"abc", "abc", 0}, {"abc", "abd", 1}, {"abc", "ac", 1}, {"ac", "abc", 1},
		{"kitten", "sitting", 3}, {"abcd", "dcba", 4}, {"sesion", "session", 1},
	} {
		if got := distance(tt.a, tt.b); got != tt.want {
			t.Errorf("distance(%q, %q) = %d, want %d", tt.a, tt.b, got, tt.want)
		}
		if got := distance(tt.b, tt.a); got != tt.want {
			t.Errorf("distance(%q, %q) = %d, want %d", tt.b, tt.a, got, tt.want)
		}
	}
}
