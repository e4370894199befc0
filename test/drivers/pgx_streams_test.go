package drivers

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
)

// pipeline sends several batches, one with an error in it, before it reads the first answer.
func (s *pgxScript) pipeline() {
	s.exec("INSERT INTO "+s.table+" (id, words) VALUES ($1, $2)", 1, "before")
	p := s.conn.PgConn().StartPipeline(s.ctx)
	p.SendPrepare("plus", "SELECT $1::int + 1", nil)
	const n = 50
	for i := range n {
		p.SendQueryPrepared("plus", [][]byte{fmt.Append(nil, i)}, nil, nil)
	}
	s.check("sync", p.Sync())
	p.SendQueryParams("UPDATE "+s.table+" SET words = 'never'", nil, nil, nil, nil)
	p.SendQueryParams("SELECT 1 / 0", nil, nil, nil, nil)
	p.SendQueryParams("SELECT 'skipped'", nil, nil, nil, nil)
	s.check("sync", p.Sync())
	p.SendQueryParams("SELECT words FROM "+s.table+" WHERE id = 1", nil, nil, nil, nil)
	p.SendDeallocate("plus")
	s.check("sync", p.Sync())

	want := []string{"prepared"}
	for i := range n {
		want = append(want, fmt.Sprint(i+1))
	}
	want = append(want, "sync", "UPDATE 1", "22012", "sync", "before", "closed", "sync")
	if diff := cmp.Diff(want, s.results(p)); diff != "" {
		s.t.Errorf("pipeline (-want +got):\n%s", diff)
	}
	s.check("end the pipeline", p.Close())
}

// results reads the answers to a pipeline, each as one word.
func (s *pgxScript) results(p *pgconn.Pipeline) (words []string) {
	for {
		result, err := p.GetResults()
		switch r := result.(type) {
		case *pgconn.StatementDescription:
			words = append(words, "prepared")
		case *pgconn.CloseComplete:
			words = append(words, "closed")
		case *pgconn.PipelineSync:
			words = append(words, "sync")
		case *pgconn.ResultReader:
			one := r.Read()
			switch {
			case one.Err != nil:
				words = append(words, sqlstate(one.Err))
			case len(one.Rows) > 0:
				words = append(words, string(one.Rows[0][0]))
			default:
				words = append(words, one.CommandTag.String())
			}
		case nil:
			if err == nil {
				return words
			}
			if sqlstate(err) == "" {
				s.t.Fatalf("pipeline: after %v: %v", words, err)
			}
			words = append(words, sqlstate(err))
		}
	}
}

func (s *pgxScript) copying() {
	const n = 20000
	words := func(i int) string { return fmt.Sprintf("row\t%d\n\\", i) }
	copied, err := s.conn.CopyFrom(s.ctx, pgx.Identifier{s.table}, []string{"id", "words"},
		pgx.CopyFromSlice(n, func(i int) ([]any, error) { return []any{i, words(i)}, nil }))
	if err != nil || copied != n {
		s.t.Fatalf("copy in: %d rows, %v", copied, err)
	}
	var out, text bytes.Buffer
	tag, err := s.conn.PgConn().CopyTo(s.ctx, &out, "COPY (SELECT id, words FROM "+s.table+" ORDER BY id) TO STDOUT")
	if err != nil || tag.RowsAffected() != n {
		s.t.Fatalf("copy out: %s, %v", tag, err)
	}
	for i := range n {
		fmt.Fprintf(&text, "%d\trow\\t%d\\n\\\\\n", i, i)
	}
	if !bytes.Equal(out.Bytes(), text.Bytes()) {
		s.t.Errorf("copy out: %d bytes that are not what was copied in (%d bytes)", out.Len(), text.Len())
	}
	s.exec("TRUNCATE " + s.table)
	tag, err = s.conn.PgConn().CopyFrom(s.ctx, &out, "COPY "+s.table+" (id, words) FROM STDIN")
	if err != nil || tag.RowsAffected() != n {
		s.t.Errorf("copy text in: %s, %v", tag, err)
	}
	_, err = s.conn.PgConn().CopyFrom(s.ctx, strings.NewReader("not a number\tx\n"), "COPY "+s.table+" (id, words) FROM STDIN")
	if sqlstate(err) != "22P02" {
		s.t.Errorf("copy with an error: got %v, want 22P02", err)
	}
	_, err = s.conn.PgConn().CopyFrom(s.ctx, &brokenReader{}, "COPY "+s.table+" (id, words) FROM STDIN")
	if sqlstate(err) != "57014" {
		s.t.Errorf("copy that the client gives up: got %v, want 57014", err)
	}
	s.wantValue(fmt.Sprint(n), "SELECT count(*)::text FROM "+s.table+" WHERE words = E'row\\t' || id || E'\\n\\\\'")
}

// brokenReader fails after a row.
type brokenReader struct{ read bool }

func (r *brokenReader) Read(p []byte) (int, error) {
	if r.read {
		return 0, errors.New("the application gives up")
	}
	r.read = true
	return copy(p, "1000000\tx\n"), nil
}

func (s *pgxScript) largeValues() {
	want := make([]byte, 10<<20)
	_, err := rand.Read(want)
	s.check("random bytes", err)
	for mode, want := range map[pgx.QueryExecMode][]byte{
		pgx.QueryExecModeCacheStatement: want,
		pgx.QueryExecModeSimpleProtocol: want[:1<<20], // is 2 MiB of text inside the statement
	} {
		var got []byte
		s.check("there and back", s.conn.QueryRow(s.ctx, "SELECT $1::bytea", mode, want).Scan(&got))
		if !bytes.Equal(got, want) {
			s.t.Errorf("%s: %d bytes there and back: %d other bytes", mode, len(want), len(got))
		}
	}
	s.exec("INSERT INTO "+s.table+" (id, raw) VALUES (1, $1)", want)
	var got []byte
	s.check("read", s.conn.QueryRow(s.ctx, "SELECT raw FROM "+s.table+" WHERE id = 1").Scan(&got))
	if !bytes.Equal(got, want) {
		s.t.Errorf("10 MiB from a table: %d other bytes", len(got))
	}
	literal := strings.Repeat("a long text ", 3<<20/12) // in the statement itself
	s.wantValue(fmt.Sprint(len(literal)), "SELECT length('"+literal+"')::text", pgx.QueryExecModeExec)
}

// cancel ends a query by its context; pgx sends one cancel request and keeps the connection. A cancel that comes before
// the query does nothing, so another connection waits until the backend sleeps.
func (s *pgxScript) cancel() {
	other, err := pgx.ConnectConfig(s.ctx, s.config)
	s.check("connect", err)
	defer func() { s.check("close", other.Close(s.ctx)) }()
	for n := range 3 {
		mark := fmt.Sprintf("%s_%d", s.table, n)
		ctx, cancel := context.WithCancel(s.ctx)
		ended := make(chan error, 1)
		go func() {
			_, err := s.conn.Exec(ctx, "SELECT pg_sleep(60) /* "+mark+" */")
			ended <- err
		}()
		s.awaitSleep(other, mark)
		cancel()
		if err := <-ended; sqlstate(err) != "57014" {
			s.t.Errorf("cancelled query: got %v, want 57014", err)
		}
		s.wantValue("alive", "SELECT 'alive'")
	}
}

// awaitSleep waits until a backend sleeps in a statement that contains mark.
func (s *pgxScript) awaitSleep(other *pgx.Conn, mark string) {
	s.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for sleeping := false; !sleeping; <-tick.C {
		err := other.QueryRow(s.ctx, `SELECT count(*) > 0 FROM pg_stat_activity
			WHERE wait_event = 'PgSleep' AND position($1 IN query) > 0`, mark).Scan(&sleeping)
		s.check("look for the sleeping backend", err)
	}
}

// giveUp does what pgx does unless told otherwise: when the context ends it closes the connection.
func (s *pgxScript) giveUp() {
	config := s.config.Copy()
	config.BuildContextWatcherHandler = func(c *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.DeadlineContextWatcherHandler{Conn: c.Conn()}
	}
	other, err := pgx.ConnectConfig(s.ctx, config)
	s.check("connect", err)
	ctx, cancel := context.WithTimeout(s.ctx, 200*time.Millisecond)
	defer cancel()
	tx, err := other.Begin(s.ctx)
	s.check("begin", err)
	_, err = tx.Exec(s.ctx, "INSERT INTO "+s.table+" (id) VALUES (1)")
	s.check("insert", err)
	if _, err := tx.Exec(ctx, "SELECT pg_sleep(60)"); !errors.Is(err, context.DeadlineExceeded) {
		s.t.Errorf("got %v, want %v", err, context.DeadlineExceeded)
	}
	// The lock on the row is gone when the transaction has been rolled back.
	s.exec("INSERT INTO " + s.table + " (id, words) VALUES (1, 'mine')")
	s.wantValue("mine", "SELECT words FROM "+s.table+" WHERE id = 1")
}
