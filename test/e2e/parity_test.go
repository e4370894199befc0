package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
)

// step sends messages and then reads up to one message of each type in until.
type step struct {
	send  []pgproto3.FrontendMessage
	until string
}

func do(until string, msgs ...pgproto3.FrontendMessage) step { return step{msgs, until} }

var (
	flushMsg    = &pgproto3.Flush{}
	copyDataMsg = &pgproto3.CopyData{Data: []byte("1\n")}
	badDataMsg  = &pgproto3.CopyData{Data: []byte("nonsense\n")}
	copyDoneMsg = &pgproto3.CopyDone{}
	copyFailMsg = &pgproto3.CopyFail{Message: "no"}
)

func queryMsg(sql string) *pgproto3.Query { return &pgproto3.Query{String: sql} }
func describeMsg(kind byte, name string) *pgproto3.Describe {
	return &pgproto3.Describe{ObjectType: kind, Name: name}
}
func closeMsg(kind byte, name string) *pgproto3.Close {
	return &pgproto3.Close{ObjectType: kind, Name: name}
}

// parity are scripts whose answers are the same on a direct connection and through both ports.
var parity = map[string][]step{
	"query":                  {do("Z", queryMsg("SELECT 1; SELECT 2"))},
	"empty query":            {do("Z", queryMsg(""))},
	"error":                  {do("Z", queryMsg("SELECT nonsense")), do("Z", queryMsg("SELECT 1"))},
	"failed block":           {do("Z", queryMsg("BEGIN")), do("Z", queryMsg("nonsense")), do("Z", queryMsg("SELECT 1")), do("Z", queryMsg("ROLLBACK"))},
	"sync alone":             {do("Z", syncMsg), do("ZZ", syncMsg, syncMsg)},
	"unnamed over two syncs": {do("Z", parseMsg("", "SELECT 'x'"), syncMsg), do("Z", bindMsg(""), executeMsg, syncMsg)},
	"unnamed after a query":  {do("Z", parseMsg("", "SELECT 'x'"), syncMsg), do("Z", queryMsg("SELECT 1")), do("Z", bindMsg(""), executeMsg, syncMsg)},
	"named":                  {do("Z", parseMsg("a", "SELECT 'a'"), describeMsg('S', "a"), syncMsg), do("Z", bindMsg("a"), describeMsg('P', ""), executeMsg, syncMsg)},
	"name taken":             {do("Z", parseMsg("a", "SELECT 1"), syncMsg), do("Z", parseMsg("a", "SELECT 2"), bindMsg("a"), executeMsg, syncMsg), do("Z", bindMsg("a"), executeMsg, syncMsg)},
	"unknown name":           {do("Z", bindMsg("nobody"), executeMsg, syncMsg), do("Z", describeMsg('S', "nobody"), syncMsg)},
	"close and again":        {do("Z", parseMsg("a", "SELECT 1"), closeMsg('S', "a"), parseMsg("a", "SELECT 2"), bindMsg("a"), executeMsg, syncMsg), do("Z", closeMsg('S', "a"), closeMsg('S', "nobody"), syncMsg), do("Z", bindMsg("a"), syncMsg)},
	"error in a pipeline":    {do("ZZ", parseMsg("a", "SELECT 1"), parseMsg("b", "nonsense"), bindMsg("a"), executeMsg, syncMsg, parseMsg("", "SELECT 2"), bindMsg(""), executeMsg, syncMsg), do("Z", bindMsg("a"), executeMsg, syncMsg)},
	"failed, closed, again":  {do("Z", parseMsg("x", "nonsense"), bindMsg("x"), executeMsg, closeMsg('S', "x"), syncMsg), do("Z", parseMsg("x", "SELECT 1"), syncMsg)},
	"same bad text twice":    {do("ZZ", parseMsg("a", "SELECT nonsense"), syncMsg, parseMsg("b", "SELECT nonsense"), bindMsg("b"), syncMsg)},
	"unnamed fails twice":    {do("Z", parseMsg("", "nonsense"), parseMsg("", "SELECT 1"), syncMsg), do("Z", bindMsg(""), syncMsg)},
	"parse in a failed block": {do("Z", parseMsg("a", "SELECT 1"), syncMsg), do("Z", queryMsg("BEGIN")), do("Z", queryMsg("nonsense")),
		do("Z", parseMsg("b", "SELECT 1"), syncMsg), do("Z", queryMsg("ROLLBACK"))},
	"skipped query":       {do("E", parseMsg("", "nonsense"), flushMsg), do("Z", queryMsg("SELECT 1"), syncMsg)},
	"flush":               {do("C", parseMsg("", "SELECT 1"), bindMsg(""), executeMsg, flushMsg), do("Z", syncMsg)},
	"flush with an error": {do("E", parseMsg("", "SELECT 1/0"), bindMsg(""), executeMsg, flushMsg), do("Z", syncMsg)},
	"row limit": {do("s", parseMsg("", "SELECT generate_series(1, 3)::text"), bindMsg(""), &pgproto3.Execute{MaxRows: 1}, flushMsg),
		do("s", &pgproto3.Execute{MaxRows: 1}, flushMsg), do("Z", &pgproto3.Execute{}, syncMsg)},
	"copy in":                    {do("Z", queryMsg("BEGIN; CREATE TABLE parity (x int)")), do("G", queryMsg("COPY parity FROM STDIN")), do("Z", copyDataMsg, copyDoneMsg), do("Z", queryMsg("SELECT count(*)::text FROM parity; ROLLBACK"))},
	"copy in, pipelined":         {do("Z", queryMsg("BEGIN; CREATE TABLE parity (x int)")), do("ZZ", queryMsg("COPY parity FROM STDIN"), copyDataMsg, copyDoneMsg, queryMsg("SELECT count(*)::text FROM parity")), do("Z", queryMsg("ROLLBACK"))},
	"copy in twice, at once":     {do("Z", queryMsg("BEGIN; CREATE TABLE parity (x int)")), do("Z", queryMsg("COPY parity FROM STDIN; COPY parity FROM STDIN"), copyDataMsg, copyDoneMsg, copyDataMsg, copyDoneMsg), do("Z", queryMsg("SELECT count(*)::text FROM parity; ROLLBACK"))},
	"copy in, extended":          {do("Z", queryMsg("BEGIN; CREATE TABLE parity (x int)")), do("Z", parseMsg("", "COPY parity FROM STDIN"), bindMsg(""), executeMsg, copyDataMsg, copyDoneMsg, syncMsg), do("Z", queryMsg("ROLLBACK"))},
	"copy in, Sync first":        {do("Z", queryMsg("BEGIN; CREATE TABLE parity (x int)")), do("G", parseMsg("", "COPY parity FROM STDIN"), bindMsg(""), executeMsg, syncMsg), do("Z", copyDataMsg, copyDoneMsg, syncMsg), do("Z", queryMsg("ROLLBACK"))},
	"copy in, failed":            {do("Z", queryMsg("BEGIN; CREATE TABLE parity (x int)")), do("G", queryMsg("COPY parity FROM STDIN")), do("Z", copyDataMsg, copyFailMsg), do("Z", queryMsg("ROLLBACK"))},
	"copy in, bad data":          {do("Z", queryMsg("BEGIN; CREATE TABLE parity (x int)")), do("G", queryMsg("COPY parity FROM STDIN")), do("Z", badDataMsg, copyDataMsg, copyDoneMsg), do("Z", queryMsg("ROLLBACK"))},
	"copy in, bad, extended":     {do("Z", queryMsg("BEGIN; CREATE TABLE parity (x int)")), do("G", parseMsg("", "COPY parity FROM STDIN"), bindMsg(""), executeMsg, flushMsg), do("Z", badDataMsg, copyDataMsg, copyDoneMsg, syncMsg), do("Z", queryMsg("ROLLBACK"))},
	"query inside a copy":        {do("Z", queryMsg("BEGIN; CREATE TABLE parity (x int)")), do("G", queryMsg("COPY parity FROM STDIN")), do("Z", queryMsg("SELECT 1")), do("Z", queryMsg("ROLLBACK"))},
	"copy to no table":           {do("ZZ", queryMsg("COPY nonsense FROM STDIN"), copyDataMsg, copyDoneMsg, queryMsg("SELECT 1"))},
	"copy out":                   {do("Z", queryMsg("COPY (SELECT generate_series(1, 3)) TO STDOUT")), do("Z", parseMsg("", "COPY (SELECT 1) TO STDOUT"), bindMsg(""), executeMsg, syncMsg)},
	"stray copy messages":        {do("Z", copyDataMsg, copyDoneMsg, copyFailMsg, queryMsg("SELECT 1"))},
	"function call":              {do("Z", &pgproto3.FunctionCall{Function: 1598, ResultFormatCode: 0}), do("Z", &pgproto3.FunctionCall{Function: 4294967})},
	"notice":                     {do("Z", queryMsg("DO $$ BEGIN RAISE NOTICE 'hello'; END $$"))},
	"prepare in SQL":             {do("Z", queryMsg("PREPARE p AS SELECT 'p'")), do("Z", queryMsg("EXECUTE p")), do("Z", bindMsg("p"), executeMsg, syncMsg), do("Z", queryMsg("DEALLOCATE ALL")), do("Z", queryMsg("EXECUTE p"))},
	"dropped under a session":    {do("Z", queryMsg("CREATE TABLE parity_dropped (x int)")), do("Z", parseMsg("a", "SELECT * FROM parity_dropped"), syncMsg), do("Z", queryMsg("DROP TABLE parity_dropped")), do("Z", queryMsg("SET work_mem = '2MB'")), do("Z", queryMsg("SELECT 1"))},
	"changed under a client":     {do("Z", queryMsg("CREATE TABLE parity_changed (x int)")), do("Z", parseMsg("a", "SELECT * FROM parity_changed"), bindMsg("a"), executeMsg, syncMsg), do("Z", queryMsg("ALTER TABLE parity_changed ADD y int")), do("Z", bindMsg("a"), executeMsg, syncMsg), do("Z", closeMsg('S', "a"), parseMsg("a", "SELECT * FROM parity_changed"), bindMsg("a"), executeMsg, syncMsg), do("Z", queryMsg("DROP TABLE parity_changed"))},
	"serializable and a setting": {do("Z", parseMsg("a", "SELECT 1"), syncMsg), do("Z", queryMsg("BEGIN ISOLATION LEVEL SERIALIZABLE; SET work_mem = '2MB'")), do("Z", bindMsg("a"), executeMsg, syncMsg), do("Z", queryMsg("COMMIT"))},
	"lastval in a block":         {do("Z", queryMsg("CREATE TEMP SEQUENCE parity_s; SELECT nextval('parity_s')::text")), do("Z", queryMsg("SELECT lastval()::text"))},
	"terminate in a pipeline":    {do("E", parseMsg("", "SELECT 1"), &pgproto3.Terminate{})},
}

func TestAnswersAreThoseOfADirectConnection(t *testing.T) {
	t.Parallel()
	pg := ownCluster(t)
	r := start(t, pg, base(pg, "pool_size: 3\nmax_pinned: 2"))
	direct := pg.URL("alice", "alice-secret", "app")
	for name, steps := range parity {
		t.Run(name, func(t *testing.T) {
			want := play(t, direct, steps)
			for _, mode := range modes {
				if got := play(t, r.url(mode, "alice", ""), steps); got != want {
					t.Errorf("%s:\n got %s\nwant %s", mode, got, want)
				}
			}
		})
	}
}

// play runs the steps on a connection of its own and returns what came.
func play(t *testing.T, url string, steps []step) string {
	t.Helper()
	r := &rig{t: t}
	pc, err := pgx.Connect(r.ctx(), url)
	must(t, err)
	h, err := pc.PgConn().Hijack()
	must(t, err)
	defer h.Conn.Close()
	_ = h.Conn.SetDeadline(time.Now().Add(10 * time.Second))
	c := &rawClient{t: t, conn: h.Conn, fe: pgproto3.NewFrontend(h.Conn, h.Conn)}
	var answers []string
	for _, s := range steps {
		c.send(s.send...)
		for _, typ := range []byte(s.until) {
			answers = append(answers, c.until(typ))
		}
	}
	return strings.Join(answers, " | ")
}

func TestPipelinedCopyNeverGivesRowsAway(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, oneBackend))
	a, b := r.raw("transaction", "alice"), r.raw("transaction", "alice")
	a.send(queryMsg("CREATE TABLE given_away (x int)"))
	a.until('Z')
	a.send(queryMsg("BEGIN"))
	a.until('Z')
	a.send(queryMsg("COMMIT; COPY given_away FROM STDIN"), copyDataMsg, copyDoneMsg, queryMsg("SELECT 'a-secret' FROM pg_sleep(.2)"))
	b.send(queryMsg("SELECT 'b-own'"))
	if got := b.until('Z'); strings.Contains(got, "a-secret") || !strings.Contains(got, "D(b-own)") {
		t.Errorf("b got %q", got)
	}
	if got := a.until('Z') + " " + a.until('Z'); !strings.Contains(got, "D(a-secret)") {
		t.Errorf("a got %q", got)
	}
}

func TestOpenPipelineKeepsItsBackend(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, oneBackend))
	a, b := r.raw("transaction", "alice"), r.raw("transaction", "alice")
	a.send(queryMsg("CREATE TABLE open_pipeline (x int)"))
	a.until('Z')
	a.send(parseMsg("", "INSERT INTO open_pipeline VALUES (1)"), bindMsg(""), executeMsg, flushMsg)
	a.until('C')
	b.send(queryMsg("SELECT count(*)::text FROM open_pipeline"))
	a.send(parseMsg("", "nonsense"), syncMsg)
	a.until('Z')
	if got := b.until('Z'); !strings.Contains(got, "D(0)") {
		t.Errorf("b got %q: a's insert was committed", got)
	}
	a.send(parseMsg("", "INSERT INTO open_pipeline VALUES (1)"), bindMsg(""), executeMsg, flushMsg)
	a.until('C')
	_ = a.conn.Close()
	b.send(queryMsg("SELECT count(*)::text FROM open_pipeline"))
	if got := b.until('Z'); !strings.Contains(got, "D(0)") {
		t.Errorf("b got %q: the vanished client's insert was committed", got)
	}
}

func TestSlowMessagesHoldNoBackend(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, oneBackend))
	for _, begun := range []string{"Q\x00\x00\x00\x20SEL", "P\x00\x00\x00\x40", "H\x00\x00\x00\x04", "c\x00\x00\x00\x04", "d\x00\x00\x00\x05x", "C\x00\x00\x00\x07Sx\x00"} {
		c := r.raw("transaction", "alice")
		_, err := c.conn.Write([]byte(begun))
		must(t, err)
	}
	if got := r.value(r.connect("transaction", "alice", ""), "SELECT 'fine'"); got != "fine" {
		t.Errorf("got %q", got)
	}
}
