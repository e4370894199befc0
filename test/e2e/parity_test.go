package e2e

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"sluice/internal/pgscript"
	"sluice/test/parity"
)

// trusting is a configuration in front of a Postgres that trusts alice, as Sluice does: for tests that log in very often.
const trusting = `
listeners:
  - {name: session, address: "127.0.0.1:0", mode: session}
  - {name: transaction, address: "127.0.0.1:0", mode: transaction}
admin: {address: ""}
tenants:
  - name: default
    backend: {host: 127.0.0.1, port: %d, tls_mode: disable}
    auth: {method: trust}
    service: {role: service, password: service-secret}
    pool_wait_timeout: 30s
`

// parityPlace starts a Postgres of its own and a Sluice in front of it; extra lines go into the tenant.
func parityPlace(t *testing.T, extra string) parity.Place {
	t.Helper()
	pg := ownCluster(t, "host all alice 127.0.0.1/32 trust")
	must(t, pg.Exec(t.Context(), "CREATE ROLE parity_role", "GRANT parity_role TO alice"))
	c, err := pgx.Connect(t.Context(), pg.URL("alice", "", "app"))
	must(t, err)
	defer c.Close(t.Context())
	must(t, parity.Prepare(t.Context(), c))
	r := start(t, pg, fmt.Sprintf(trusting, pg.Port())+indent(extra))
	return parity.Place{Direct: fmt.Sprintf("127.0.0.1:%d", pg.Port()), Ports: r.addr}
}

func TestAnswersAreThoseOfADirectConnection(t *testing.T) {
	t.Parallel()
	parity.Run(t, parityPlace(t, "pool_size: 40"), false)
}

func TestAnswersToOneClientAloneAreThoseOfADirectConnection(t *testing.T) {
	t.Parallel()
	parity.RunAlone(t, parityPlace(t, "pool_size: 40"))
}

// TestAnswersAboutPreparedStatementsOnSharedBackends plays scripts that give the same names other meanings, on backends that
// pass from one to the other.
func TestAnswersAboutPreparedStatementsOnSharedBackends(t *testing.T) {
	t.Parallel()
	parity.RunPrepared(t, parityPlace(t, "pool_size: 3\nsession_pool_size: 40\nmax_pinned: 2"), 2)
}

// TestGreetingIsThatOfADirectConnection compares what comes between the login and the first query.
func TestGreetingIsThatOfADirectConnection(t *testing.T) {
	t.Parallel()
	place := parityPlace(t, "pool_size: 40")
	greeting := func(addr string, params ...string) (lines []string) {
		nc, err := net.Dial("tcp", addr)
		must(t, err)
		defer nc.Close()
		c := pgscript.NewClient(nc)
		must(t, c.Login("alice", "app", "", params...))
		for _, line := range strings.Split(c.Transcript(), "\n") {
			line, found := strings.CutPrefix(line, "B: ")
			if key, ok := strings.CutPrefix(line, "BackendKeyData "); ok {
				_, secret, _ := strings.Cut(key, " ")
				line = fmt.Sprintf("BackendKeyData %d", len(secret))
			}
			if found {
				lines = append(lines, line)
			}
		}
		// The order of ParameterStatus is nobody's promise.
		isStatus := func(line string) bool { return strings.HasPrefix(line, "ParameterStatus ") }
		if first := slices.IndexFunc(lines, isStatus); first >= 0 {
			n := slices.IndexFunc(lines[first:], func(line string) bool { return !isStatus(line) })
			slices.Sort(lines[first : first+n])
		}
		return lines
	}
	for _, params := range [][]string{
		nil,
		{"application_name", "greeting"},
		{"client_encoding", "LATIN1", "TimeZone", "Asia/Tokyo", "DateStyle", "German"},
		{"options", "-c IntervalStyle=iso_8601 -c application_name=from\\ options"},
		{"application_name", strings.Repeat("name", 15) + "abc"}, // 63 bytes
		{"application_name", strings.Repeat("name", 16)},
		{"application_name", "a" + strings.Repeat("\u00e4", 40)},
		{"application_name", strings.Repeat("\u20ac", 40) + "\n"},
		{"application_name", strings.Repeat("name", 20), "options", "--application-name=" + strings.Repeat("other", 13)},
		{"application_name", strings.Repeat("name", 20), "options", "-c client_min_messages=WARNING"},
	} {
		want := greeting(place.Direct, params...)
		for _, mode := range modes {
			if diff := cmp.Diff(want, greeting(place.Ports[mode], params...)); diff != "" {
				t.Errorf("%s port, %q (-want +got):\n%s", mode, params, diff)
			}
		}
	}
}
