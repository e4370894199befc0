package e2e

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
)

// More clients than backends listen, by statements and by functions, in a database with functions that set something. All
// keep what they have, nobody is pinned, and nothing is missed between a function's LISTEN and the shared connection's.
func TestListenersOfADatabaseWithCodeShareItsBackends(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{simple, "default_query_exec_mode=cache_statement"} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			r := startCode(t, twoBackends, setsUser,
				"CREATE FUNCTION hear() RETURNS text LANGUAGE plpgsql AS $$ BEGIN LISTEN by_code; RETURN 'heard'; END $$",
				"CREATE FUNCTION leave() RETURNS text LANGUAGE plpgsql AS $$ BEGIN UNLISTEN by_code; RETURN 'left'; END $$")
			r.more = protocol
			speaker := r.on("session")
			var listeners []*pgx.Conn
			for i := range 5 {
				c := r.client()
				r.exec(c, "LISTEN by_text")
				r.exec(c, "SELECT hear()")
				r.exec(speaker, fmt.Sprintf("NOTIFY by_code, '%d'", i))
				r.exec(c, fmt.Sprintf("SELECT login('client%d')", i))
				listeners = append(listeners, c)
			}
			for i, c := range listeners {
				for said := i; said < len(listeners); said++ {
					r.wantHeard(c, "by_code", fmt.Sprint(said))
				}
				r.want(c, fmt.Sprint("client", i), who, fmt.Sprint("client", i))
				r.want(c, fmt.Sprint("client", i), "SELECT string_agg(c, ' ' ORDER BY c) FROM pg_listening_channels() c", "by_code by_text")
			}
			for _, c := range listeners[1:] {
				r.exec(c, "SELECT leave()")
				r.exec(c, "SELECT 1") // behind what the shared connection does about it
			}
			r.exec(speaker, "NOTIFY by_code, 'once more'")
			r.wantHeard(listeners[0], "by_code", "once more")
			for _, c := range listeners {
				r.wantNothingMore(c, speaker, "by_text")
				for _, other := range listeners {
					if other != c {
						r.wantHeard(other, "by_text", "the last")
					}
				}
			}
			if n := r.counter("sluice_pins_total"); n != 0 {
				t.Errorf("%v pins, want none", n)
			}
			if n := r.counter("sluice_state_leaks_prevented_total"); n == 0 {
				t.Error("channels and settings of functions count for no leak")
			}
		})
	}
}

// Code that is made by a client who listens has no transaction begin while it is read, and no notification is lost.
func TestListenBesideNewCode(t *testing.T) {
	t.Parallel()
	r := startCode(t, twoBackends, setsUser)
	speaker, c := r.on("session"), r.client()
	r.exec(c, "LISTEN news; CREATE FUNCTION again(n text) RETURNS text LANGUAGE sql AS 'SELECT login(n)'")
	r.exec(speaker, "NOTIFY news, '1'")
	r.wantHeard(c, "news", "1")
	r.exec(c, "SELECT again('me'); NOTIFY news, '2'")
	r.wantHeard(c, "news", "2")
	for range 3 {
		other := r.client()
		r.want(other, "another", who, "")
		r.want(other, "another", "SELECT count(*) FROM pg_listening_channels()", "0")
	}
	r.want(c, "the listener", who, "me")
	r.wantNothingMore(c, speaker, "news")
	r.eventually("nobody is pinned", func() bool { return r.counter("sluice_clients", `state="pinned"`) == 0 })
}
