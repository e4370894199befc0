package pgscript_test

import (
	"crypto/tls"
	"errors"
	"net"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/internal/memnet"
	"sluice/internal/pgscript"
	"sluice/internal/throwawaypg"
	"sluice/internal/tlsconf"
)

const address = "127.0.0.1:5432"

// serve starts a server that ends with the test and returns what connects to it.
func serve(t *testing.T, o pgscript.Options) (*pgscript.Server, func() *pgscript.Client) {
	t.Helper()
	n := memnet.New()
	s := pgscript.Serve(n.Listen(address), o)
	t.Cleanup(s.Close)
	return s, func() *pgscript.Client {
		t.Helper()
		nc, err := n.Dial(t.Context(), "tcp", address)
		if err != nil {
			t.Fatalf("dial: %v", err)
		}
		return pgscript.NewClient(nc)
	}
}

// login returns a client that is logged in.
func login(t *testing.T, c *pgscript.Client) *pgscript.Client {
	t.Helper()
	if err := c.Login("alice", "app", "secret"); err != nil {
		t.Fatalf("login: %v\n%s", err, c.Transcript())
	}
	return c
}

// scripts are what clients send up to each ReadyForQuery. The server must answer as Postgres does.
func scripts() map[string][]string {
	return map[string][]string{
		"transaction":         {"C: Query BEGIN", "C: Query SELECT 'a', NULL", "C: Query COMMIT"},
		"failed transaction":  {"C: Query BEGIN", "C: Query SELECT 1/0", "C: Query SELECT 'a'", "C: Query COMMIT"},
		"rollback of setting": {"C: Query BEGIN", "C: Query SET application_name = 'x'", "C: Query ROLLBACK", "C: Query SHOW application_name"},
		"local setting":       {"C: Query BEGIN", "C: Query SET LOCAL application_name = 'x'", "C: Query SHOW application_name", "C: Query COMMIT", "C: Query SHOW application_name"},
		"committed setting":   {"C: Query SET application_name TO 'x'", "C: Query RESET application_name", "C: Query SHOW application_name"},
		"unknown setting":     {"C: Query SHOW nothing", "C: Query SET custom.x = 'y'", "C: Query SHOW custom.x"},
		"several statements":  {"C: Query SELECT 'a'; SELECT 'b;c' AS x; SELECT 1/0; SELECT 'd'", "C: Query SELECT 'e'"},
		"nothing":             {"C: Query \"\"", "C: Query \" ; \""},
		"named statement": {`C: Parse "s1" "SELECT $1::text"` + "\n" + `C: Describe S "s1"` + "\n" + "C: Sync",
			`C: Bind "" "s1" "v"` + "\n" + `C: Describe P ""` + "\n" + `C: Execute ""` + "\n" + "C: Sync",
			`C: Parse "s1" "SELECT 'x'"` + "\n" + "C: Sync", `C: Close S "s1"` + "\n" + "C: Sync",
			`C: Bind "" "s1" "v"` + "\n" + `C: Execute ""` + "\n" + "C: Sync"},
		"unnamed statement survives": {`C: Parse "" "SELECT $1::text"` + "\n" + "C: Sync", `C: Bind "" "" NULL` + "\n" + `C: Execute ""` + "\n" + "C: Sync"},
		"errors skip to sync": {"C: Query BEGIN", `C: Bind "" "nope"` + "\n" + `C: Execute ""` + "\n" + `C: Parse "s2" "SELECT 'a'"` + "\n" + "C: Sync",
			`C: Parse "s3" "SELECT 'a'"` + "\n" + "C: Sync", "C: Query ROLLBACK"},
		"portal in parts": {"C: Query BEGIN", `C: Parse "" "SELECT generate_series(1,3)"` + "\n" + `C: Bind "p" ""` + "\n" + `C: Execute "p" 2` + "\n" + "C: Sync",
			`C: Execute "p" 2` + "\n" + "C: Sync", "C: Query COMMIT", `C: Execute "p" 2` + "\n" + "C: Sync"},
		"statements in sql": {"C: Query PREPARE q AS SELECT 'a'", "C: Query EXECUTE q", `C: Bind "" "q"` + "\n" + `C: Execute ""` + "\n" + "C: Sync",
			"C: Query DEALLOCATE q", "C: Query EXECUTE q", "C: Query DEALLOCATE ALL"},
		"copy out":       {"C: Query COPY (SELECT generate_series(1,3)) TO STDOUT"},
		"statements":     {"C: Query CREATE TEMP TABLE x(v text)", "C: Query INSERT INTO x VALUES ('1')", "C: Query UPDATE x SET v = '2'", "C: Query DELETE FROM x"},
		"discard":        {"C: Query DISCARD ALL", "C: Query BEGIN", "C: Query DISCARD ALL", "C: Query ROLLBACK"},
		"wrong count":    {`C: Parse "" "SELECT $1::text"` + "\n" + `C: Bind "" "" "a" "b"` + "\n" + "C: Sync"},
		"syntax error":   {"C: Query SELEC 1", `C: Parse "" "SELEC 1"` + "\n" + "C: Sync"},
		"empty extended": {`C: Parse "" ""` + "\n" + `C: Bind "" ""` + "\n" + `C: Describe P ""` + "\n" + `C: Execute ""` + "\n" + "C: Sync"},
	}
}

func TestServerAnswersAsPostgresDoes(t *testing.T) {
	t.Parallel()
	cluster := throwawaypg.MustStart(t, throwawaypg.Options{})
	if err := cluster.Exec(t.Context(), "CREATE ROLE alice LOGIN PASSWORD 'secret'", "CREATE DATABASE app"); err != nil {
		t.Fatal(err)
	}
	_, connect := serve(t, pgscript.Options{})
	for name, script := range scripts() {
		t.Run(name, func(t *testing.T) {
			nc, err := net.Dial("tcp", net.JoinHostPort(cluster.Host(), strconv.Itoa(cluster.Port())))
			if err != nil {
				t.Fatal(err)
			}
			want, got := play(t, pgscript.NewClient(nc), script), play(t, connect(), script)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("transcript (-Postgres +server):\n%s", diff)
			}
		})
	}
}

// play logs in, runs the script and returns what arrived.
func play(t *testing.T, c *pgscript.Client, script []string) (lines []string) {
	t.Helper()
	defer c.Close()
	login(t, c)
	for _, batch := range script {
		if err := c.Script(strings.Split(batch, "\n")...); err != nil {
			t.Fatalf("%s: %v", batch, err)
		}
		got, err := c.Collect()
		if err != nil {
			t.Fatalf("%s: %v", batch, err)
		}
		for _, line := range got {
			if strings.HasPrefix(line, "RowDescription") {
				line = strings.ReplaceAll(line, " 23", " 25") // every column of the server is text
			}
			lines = append(lines, line)
		}
	}
	return lines
}

func TestCopyInIsCountedAndCanFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, connect := serve(t, pgscript.Options{})
		c := login(t, connect())
		c.Run(t, "C: Query COPY x FROM STDIN", "B: CopyInResponse", `C: CopyData "a\nb\n"`, "C: CopyDone",
			"B: CommandComplete COPY 2", "B: ReadyForQuery I")
		c.Run(t, "C: Query COPY x FROM STDIN", "B: CopyInResponse", `C: CopyFail "no"`,
			`B: ErrorResponse ERROR 57014 "COPY from stdin failed: no"`, "B: ReadyForQuery I")
		_ = c.Close()
	})
}

func TestCancelEndsASleepAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, connect := serve(t, pgscript.Options{})
		c := login(t, connect())
		other := connect()
		start := time.Now()
		go func() {
			time.Sleep(3 * time.Second)
			if err := pgscript.Cancel(other.NetConn(), c.PID, c.Key); err != nil {
				t.Errorf("cancel: %v", err)
			}
		}()
		c.Run(t, "C: Query SELECT pg_sleep(10)", "B: ErrorResponse ERROR 57014", "B: ReadyForQuery I")
		if got := time.Since(start); got != 3*time.Second {
			t.Errorf("took %s, want 3s", got)
		}
		c.Run(t, "C: Query SELECT pg_sleep(10)", "B: RowDescription pg_sleep", `B: DataRow ""`, "B: CommandComplete SELECT 1", "B: ReadyForQuery I")
		if got := time.Since(start); got != 13*time.Second || s.Cancels() != 1 {
			t.Errorf("took %s with %d cancels", got, s.Cancels())
		}
	})
}

func TestCancelWithAWrongKeyDoesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, connect := serve(t, pgscript.Options{})
		c := login(t, connect())
		if err := pgscript.Cancel(connect().NetConn(), c.PID, []byte("none")); err != nil {
			t.Fatal(err)
		}
		c.Run(t, "C: Query SELECT pg_sleep(1)", "B: RowDescription", "B: DataRow", "B: CommandComplete", "B: ReadyForQuery")
		if s.Cancels() != 1 {
			t.Errorf("%d cancels", s.Cancels())
		}
	})
}

func TestKilledBackendSaysWhyOrNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, connect := serve(t, pgscript.Options{})
		idle, busy, crashed := login(t, connect()), login(t, connect()), login(t, connect())
		go func() { time.Sleep(time.Second); s.KillConn(busy.PID, true) }()
		busy.Run(t, "C: Query SELECT pg_sleep(10)", "B: ErrorResponse FATAL 57P01", "B: EOF")
		s.KillConn(idle.PID, true)
		idle.Run(t, "B: ErrorResponse FATAL 57P01", "B: EOF")
		s.KillConn(crashed.PID, false)
		crashed.Run(t, "B: EOF")
		synctest.Wait()
		if s.KillConn(idle.PID, true) || s.Open() != 0 {
			t.Errorf("%d connections are still open", s.Open())
		}
	})
}

func TestLoginIsRefusedWithTheRightError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, connect := serve(t, pgscript.Options{Passwords: map[string]string{"alice": "secret"}})
		if c := login(t, connect()); c.Settings["client_encoding"] != "UTF8" || c.PID == 0 || len(c.Key) != 4 {
			t.Errorf("settings %v, pid %d, key %x", c.Settings, c.PID, c.Key)
		}
		wantRefused(t, connect().Login("alice", "app", "wrong"), "28P01")
		wantRefused(t, connect().Login("bob", "app", "secret"), "28P01")
		s.RefuseConnections("57P03", "the database system is starting up")
		wantRefused(t, connect().Login("alice", "app", "secret"), "57P03")
		s.RefuseConnections("", "")
		s.Adjust(func(k *pgscript.Knobs) { k.LoginDelay = 2 * time.Second })
		start := time.Now()
		login(t, connect())
		if got := time.Since(start); got != 2*time.Second {
			t.Errorf("login took %s", got)
		}
		s.Adjust(func(k *pgscript.Knobs) { k.HangUp = true })
		if err := connect().Login("alice", "app", "secret"); err == nil {
			t.Error("login succeeded on a connection that is closed at once")
		}
	})
}

func wantRefused(t *testing.T, err error, sqlstate string) {
	t.Helper()
	if e, ok := errors.AsType[*pgscript.RefusedError](err); !ok || e.Response.Code != sqlstate {
		t.Errorf("got %v, want a refusal with %s", err, sqlstate)
	}
}

func TestStartupParametersAreSettings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, connect := serve(t, pgscript.Options{Settings: map[string]string{"statement_timeout": "5s"}})
		c := connect()
		if err := c.Login("alice", "app", "", "timezone", "Asia/Tokyo", "options", "-c search_path=x"); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]string{"TimeZone": "Asia/Tokyo", "search_path": "x", "statement_timeout": "5s"} {
			if got, err := c.Query("SHOW " + name); err != nil || len(got) != 1 || got[0] != want {
				t.Errorf("SHOW %s = %q, %v, want %q", name, got, err, want)
			}
		}
		if c.Settings["TimeZone"] != "Asia/Tokyo" {
			t.Errorf("reported TimeZone is %q", c.Settings["TimeZone"])
		}
		conn := s.Conns()[0]
		if conn.User != "alice" || conn.Database != "app" || len(conn.Log()) != 3 || len(s.Received()) != 3 {
			t.Errorf("connection of %s to %s received %q", conn.User, conn.Database, conn.Log())
		}
	})
}

func TestLoginOverTLS(t *testing.T) {
	t.Parallel()
	certPEM, keyPEM, err := tlsconf.SelfSigned([]string{"db.example"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	s, connect := serve(t, pgscript.Options{TLS: &tls.Config{Certificates: []tls.Certificate{cert}}})
	c := connect()
	if err := c.StartTLS(&tls.Config{InsecureSkipVerify: true}); err != nil {
		t.Fatal(err)
	}
	login(t, c)
	if !s.Conns()[0].TLS {
		t.Error("the server saw no TLS")
	}
	_, plain := serve(t, pgscript.Options{})
	if err := plain().StartTLS(&tls.Config{InsecureSkipVerify: true}); err == nil {
		t.Error("a server without TLS agreed to it")
	}
}

func TestScriptSaysWhatIsWrong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, connect := serve(t, pgscript.Options{})
		c := login(t, connect())
		for script, want := range map[string]string{
			"C: Query SELECT 'a'\nB: ReadyForQuery": `got RowDescription "?column?" 25, want ReadyForQuery`,
			"C: Nonsense":                           `unknown message "Nonsense"`,
			"C: ReadyForQuery I":                    "is not a client's message",
			"C: Describe statement x":               `"statement" is not one letter`,
			"C: Sync now":                           "1 words too many",
			"X: Sync":                               "neither C: nor B:",
		} {
			if err := c.Script(strings.Split(script, "\n")...); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%q: got %v, want %s", script, err, want)
			}
		}
	})
}

func TestMatchesComparesAPrefixOfWords(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		want, line string
		ok         bool
	}{
		{"ErrorResponse FATAL 53300", `ErrorResponse FATAL 53300 "too many"`, true},
		{"ErrorResponse FATAL 5330", `ErrorResponse FATAL 53300 "too many"`, false},
		{"CommandComplete SELECT 1", `CommandComplete "SELECT 1"`, true},
		{"BackendKeyData * 01", "BackendKeyData 7 01", true},
		{`DataRow "*"`, `DataRow "x"`, false},
		{"DataRow NULL", `DataRow "NULL"`, false},
		{"DataRow NULL", "DataRow NULL", true},
		{"Sync now", "Sync", false},
	} {
		if ok, err := pgscript.Matches(tc.want, tc.line); ok != tc.ok || err != nil {
			t.Errorf("Matches(%q, %q) = %t, %v", tc.want, tc.line, ok, err)
		}
	}
}

func FuzzLines(f *testing.F) {
	for _, line := range []string{
		`Query "SELECT 1"`, `Parse "s" "SELECT $1" 23 25`, `Bind "" "s" NULL "x"`, `Execute "" 5`, `FunctionCall 7 "a"`,
		`RowDescription "a" 23`, `DataRow NULL`, `ErrorResponse ERROR 42601 "x" "hint"`, `BackendKeyData 5 0a0b`, `ReadyForQuery I`,
		`NotificationResponse 4 "ch" "payload"`, `ParameterDescription 23`, "CopyInResponse", `CopyData "\x00"`,
	} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		msg, err := pgscript.Parse(line)
		if err != nil {
			return
		}
		formatted := pgscript.Format(msg)
		again, err := pgscript.Parse(formatted)
		if err != nil {
			t.Fatalf("%q is formatted as %q, which is an error: %v", line, formatted, err)
		}
		if got := pgscript.Format(again); got != formatted {
			t.Fatalf("%q is formatted as %q, then as %q", line, formatted, got)
		}
	})
}
