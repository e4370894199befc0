package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
)

// copyCase is one way in which a COPY goes or breaks off.
type copyCase struct {
	name  string
	table string          // further columns or constraints of the table
	act   func(c *copier) // what the client does, and what it waits for
	rows  int             // that are in the table when everything is over
	races string          // what the client is told or not, as far as Postgres has come at that moment
}

// TestCopyOfEveryKindLeavesACleanBackend plays each case on a direct connection and through both ports: what the client is told is
// the same, what is in the table is what is to be, and the next client gets the pool's only backend, or a new one, long before a
// backend that does not come back would be given up (10 s).
func TestCopyOfEveryKindLeavesACleanBackend(t *testing.T) {
	t.Parallel()
	for i, tc := range append(copyInCases(), copyOutCases()...) {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			table := fmt.Sprintf("copy_case_%d", i)
			want := tc.play(t, cluster.URL("alice", "alice-secret", "app"), "", table+"_direct")
			for _, mode := range modes {
				t.Run(mode, func(t *testing.T) {
					r := start(t, cluster, base(cluster, "pool_size: 1\nsession_pool_size: 1\npool_wait_timeout: 9s"))
					if got := tc.play(t, r.url(mode, "alice", ""), r.addr[mode], table+"_"+mode); tc.steady(got) != tc.steady(want) {
						t.Errorf("\n got %s\nwant %s", got, want)
					}
					r.wantClean(mode)
					r.eventually("all clients are gone", func() bool { return r.srv.Totals().Clients == 0 })
				})
			}
		})
	}
}

// steady is what the client is told without what it may as well not be.
func (tc copyCase) steady(told string) string {
	if tc.races == "" {
		return told
	}
	return strings.ReplaceAll(told, " "+tc.races, "")
}

// play plays the case at url with a table of its own and returns what the client was told. addr is empty for a direct connection.
func (tc copyCase) play(t *testing.T, url, addr, table string) string {
	t.Helper()
	r := &rig{t: t, pg: cluster}
	admin, err := pgx.Connect(r.ctx(), cluster.SuperuserURL("app"))
	must(t, err)
	defer admin.Close(context.Background())
	r.exec(admin, fmt.Sprintf("CREATE TABLE %s (x int%s); ALTER TABLE %[1]s OWNER TO alice", table, tc.table))
	c := newCopier(t, url, table)
	c.admin, c.rig, c.addr = admin, r, addr
	if addr == "" {
		c.addr = fmt.Sprintf("127.0.0.1:%d", cluster.Port())
	}
	tc.act(c)
	c.finish()
	want := fmt.Sprint(tc.rows)
	r.eventually(want+" rows in the table, and nobody at work on it", func() bool {
		return r.value(admin, "SELECT count(*)::text FROM pg_stat_activity WHERE state <> 'idle' AND pid <> pg_backend_pid() AND query LIKE '%' || $1 || '%'", table) == "0" &&
			r.value(admin, "SELECT count(*)::text FROM "+table) == want
	})
	return strings.Join(c.told, " ")
}

// wantClean has a new client use what backend the pool has.
func (r *rig) wantClean(mode string) {
	r.t.Helper()
	c := newCopier(r.t, r.url(mode, "alice", ""), "")
	c.send(queryMsg("SELECT 'clean'"), queryMsg("BEGIN; COMMIT"), queryMsg("SHOW statement_timeout"))
	c.until('Z', 'Z', 'Z')
	c.send(parseMsg("", "SELECT 1"), bindMsg(""), executeMsg, syncMsg)
	c.until('Z')
	if got, want := strings.Join(c.told, " "), "T D(clean) C Z C C Z T D(0) C Z 1 2 D(1) C Z"; got != want {
		r.t.Errorf("the next client got %q, want %q", got, want)
	}
	c.send(&pgproto3.Terminate{})
}

// copier is a client that copies.
type copier struct {
	*rawClient
	table  string
	addr   string // where it is connected
	pid    uint32
	secret []byte
	admin  *pgx.Conn // past Sluice
	rig    *rig
	told   []string // what came, in short words
	over   bool     // the connection has ended
}

func newCopier(t *testing.T, url, table string) *copier {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	pc, err := pgx.Connect(ctx, url)
	must(t, err)
	h := hijack(t, pc, time.Minute)
	return &copier{
		rawClient: &rawClient{t: t, conn: h.Conn, fe: h.Frontend},
		table:     table, pid: h.PID, secret: h.SecretKey,
	}
}

// query sends SQL in which TABLE is the case's table.
func (c *copier) query(sql string) {
	c.t.Helper()
	c.send(queryMsg(c.sql(sql)))
}

// extended sends SQL as an extended query without Sync.
func (c *copier) extended(sql string) {
	c.t.Helper()
	c.send(parseMsg("", c.sql(sql)), bindMsg(""), executeMsg)
}

func (c *copier) sql(text string) string { return strings.ReplaceAll(text, "TABLE", c.table) }

// in begins a COPY FROM STDIN and waits until Postgres is ready for data.
func (c *copier) in() {
	c.t.Helper()
	c.query("COPY TABLE FROM STDIN")
	c.until('G')
}

// until reads up to a message of each type in turn. Messages of data that follow one another count as one.
func (c *copier) until(types ...byte) {
	c.t.Helper()
	for _, typ := range types {
		for !c.over && c.receive() != typ {
		}
	}
}

// receive notes the next message and returns its type.
func (c *copier) receive() byte {
	c.t.Helper()
	m, err := c.fe.Receive()
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.t.Fatalf("behind %q nothing came", c.told)
	case err != nil:
		c.over = true
		c.note("END")
		return 0
	}
	b, err := m.Encode(nil)
	must(c.t, err)
	word := string(b[0])
	switch m := m.(type) {
	case *pgproto3.DataRow:
		word += fmt.Sprintf("(%s)", m.Values[0])
	case *pgproto3.ErrorResponse:
		word += "(" + m.Code + ")"
	case *pgproto3.CommandComplete:
		if tag := string(m.CommandTag); strings.HasPrefix(tag, "COPY") {
			word += "(" + tag + ")"
		}
	}
	c.note(word)
	return b[0]
}

func (c *copier) note(word string) {
	if word == "d" && len(c.told) > 0 && c.told[len(c.told)-1] == "d" {
		return
	}
	c.told = append(c.told, word)
}

// finish says goodbye, unless the connection has ended, and reads what is still to come.
func (c *copier) finish() {
	if c.over {
		return
	}
	c.fe.Send(&pgproto3.Terminate{})
	_ = c.fe.Flush()
	c.until(0)
}

// vanish closes the connection without a word.
func (c *copier) vanish() {
	_ = c.conn.Close()
	c.over = true
}

// reset closes the connection such that the other side gets an error.
func (c *copier) reset() {
	if tcp, ok := c.conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	c.vanish()
}

// write sends bytes that need not be messages.
func (c *copier) write(b string) {
	c.t.Helper()
	if _, err := io.WriteString(c.conn, b); err != nil {
		c.t.Fatal(err)
	}
}

// running waits until Postgres works on the case's statement.
func (c *copier) running() {
	c.t.Helper()
	c.rig.eventually("it runs", func() bool { return c.pids() == "1" })
}

// pids is how many backends work on the case's statement.
func (c *copier) pids() string {
	c.t.Helper()
	return c.rig.value(c.admin, "SELECT count(*)::text FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid() AND query LIKE '%' || $1 || '%'", c.table)
}

// kill ends the backend that works on the case's statement.
func (c *copier) kill() {
	c.t.Helper()
	c.running()
	c.rig.exec(c.admin, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid() AND query LIKE '%' || $1 || '%'", c.table)
}

// cancel asks for the end of what runs, and waits until the request has been dealt with.
func (c *copier) cancel() {
	c.t.Helper()
	c.running()
	nc, err := net.Dial("tcp", c.addr)
	must(c.t, err)
	defer nc.Close()
	b, err := (&pgproto3.CancelRequest{ProcessID: c.pid, SecretKey: c.secret}).Encode(nil)
	must(c.t, err)
	_, err = nc.Write(b)
	must(c.t, err)
	_, _ = io.Copy(io.Discard, nc)
}

// feed sends rows until Postgres has had enough of them: it looks for cancel requests and timeouts between two rows only.
func (c *copier) feed() {
	c.t.Helper()
	stop := make(chan struct{})
	done := make(chan struct{})
	row, err := copyDataMsg.Encode(nil)
	must(c.t, err)
	go func() {
		defer close(done)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				if _, err := c.conn.Write(row); err != nil {
					return
				}
			}
		}
	}()
	c.until('E')
	close(stop)
	<-done
}
