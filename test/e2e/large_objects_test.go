package e2e

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"strconv"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
)

// Functions of large objects by their numbers, as libpq calls them.
const (
	loOpen   = 952
	loClose  = 953
	loRead   = 954
	loWrite  = 955
	loSeek   = 956
	loCreate = 715
	loUnlink = 964
)

// TestLargeObjectsThroughFunctionsOfSQL writes and reads large objects in transactions, several clients by turns.
func TestLargeObjectsThroughFunctionsOfSQL(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, "pool_size: 2\nsession_pool_size: 5"))
	content := bytes.Repeat([]byte("large object "), 20_000)
	for _, mode := range modes {
		a, b := r.connect(mode, "alice", ""), r.connect(mode, "alice", "")
		tx, err := a.Begin(r.ctx())
		must(t, err)
		objects := tx.LargeObjects()
		oid, err := objects.Create(r.ctx(), 0)
		must(t, err)
		o, err := objects.Open(r.ctx(), oid, pgx.LargeObjectModeRead|pgx.LargeObjectModeWrite)
		must(t, err)
		_, err = o.Write(content)
		must(t, err)
		if got := r.value(b, "SELECT count(*)::text FROM pg_largeobject_metadata WHERE oid = $1", oid); got != "0" {
			t.Errorf("%s: another client sees what is not committed", mode)
		}
		_, err = o.Seek(6, io.SeekStart)
		must(t, err)
		some := make([]byte, 6)
		_, err = io.ReadFull(o, some)
		must(t, err)
		if string(some) != "object" {
			t.Errorf("%s: read %q", mode, some)
		}
		must(t, tx.Commit(r.ctx()))

		tx, err = b.Begin(r.ctx())
		must(t, err)
		objects = tx.LargeObjects()
		o, err = objects.Open(r.ctx(), oid, pgx.LargeObjectModeRead)
		must(t, err)
		got, err := io.ReadAll(o)
		if err != nil || !bytes.Equal(got, content) {
			t.Errorf("%s: another client read %d bytes, %v", mode, len(got), err)
		}
		must(t, tx.Rollback(r.ctx()))

		r.exec(a, "SELECT lo_unlink($1)", oid)
		if _, err := b.Exec(r.ctx(), "SELECT lo_get($1)", oid); sqlstate(err) != "42704" {
			t.Errorf("%s: an object that is gone: %v, want 42704", mode, err)
		}
		_ = a.Close(context.Background())
		_ = b.Close(context.Background())
	}
	r.wantNoPins()
}

// wantNoPins fails the test if a session was ever tied to its backend.
func (r *rig) wantNoPins() {
	r.t.Helper()
	for _, tenant := range r.srv.Status().Tenants {
		for _, p := range tenant.Pools {
			if len(p.Pins) > 0 {
				r.t.Errorf("sessions of %s/%s were pinned: %v", p.Database, p.Mode, p.Pins)
			}
		}
	}
}

// TestLargeObjectsThroughFunctionCalls does what libpq's lo_… do: FunctionCall messages with binary arguments.
func TestLargeObjectsThroughFunctionCalls(t *testing.T) {
	t.Parallel()
	r := start(t, cluster, base(cluster, "pool_size: 1\nsession_pool_size: 3"))
	for _, mode := range modes {
		c, other := r.raw(mode, "alice"), r.raw(mode, "alice")
		oid := c.call(loCreate, int32Arg(0))
		c.send(queryMsg("BEGIN"))
		c.until('Z')
		fd := c.call(loOpen, oid, int32Arg(0x20000|0x40000)) // INV_WRITE, INV_READ
		if got := c.call(loWrite, fd, []byte("hello, large object")); number(got) != 19 {
			t.Errorf("%s: wrote %d bytes", mode, number(got))
		}
		c.call(loSeek, fd, int32Arg(7), int32Arg(0))
		if got := c.call(loRead, fd, int32Arg(5)); string(got) != "large" {
			t.Errorf("%s: read %q", mode, got)
		}
		c.call(loClose, fd)
		c.send(queryMsg("COMMIT"))
		c.until('Z')
		// A descriptor ends with its transaction, also for whoever gets the backend next.
		other.send(queryMsg("BEGIN"))
		other.until('Z')
		if got := other.fails(loRead, fd, int32Arg(5)); got != "42704" {
			t.Errorf("%s: a descriptor of another transaction: %s, want 42704", mode, got)
		}
		other.send(queryMsg("ROLLBACK"))
		other.until('Z')
		other.send(queryMsg(fmt.Sprintf("SELECT convert_from(lo_get(%d), 'UTF8')", number(oid))))
		if got, want := other.until('Z'), "T D(hello, large object) C Z"; got != want {
			t.Errorf("%s: another client read %q, want %q", mode, got, want)
		}
		if got := other.call(loUnlink, oid); number(got) != 1 {
			t.Errorf("%s: lo_unlink returned %d", mode, number(got))
		}
		if got := c.fails(loUnlink, oid); got != "42704" {
			t.Errorf("%s: an object that is gone: %s, want 42704", mode, got)
		}
		c.send(&pgproto3.Terminate{})
		other.send(&pgproto3.Terminate{})
	}
	r.wantNoPins()
}

func int32Arg(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

func number(b []byte) uint32 {
	if len(b) != 4 {
		return 1<<32 - 1
	}
	return binary.BigEndian.Uint32(b)
}

// call calls a function by its number, with binary arguments, and returns its binary result.
func (c *rawClient) call(function uint32, args ...[]byte) []byte {
	c.t.Helper()
	result, code := c.invoke(function, args)
	if code != "" {
		c.t.Fatalf("function %d: %s", function, code)
	}
	return result
}

// fails is call for one that fails; it returns the SQLSTATE.
func (c *rawClient) fails(function uint32, args ...[]byte) string {
	c.t.Helper()
	_, code := c.invoke(function, args)
	return code
}

func (c *rawClient) invoke(function uint32, args [][]byte) (result []byte, code string) {
	c.t.Helper()
	c.send(&pgproto3.FunctionCall{Function: function, ArgFormatCodes: []uint16{1}, Arguments: args, ResultFormatCode: 1})
	for {
		m, err := c.fe.Receive()
		must(c.t, err)
		switch m := m.(type) {
		case *pgproto3.FunctionCallResponse:
			result = bytes.Clone(m.Result)
		case *pgproto3.ErrorResponse:
			code = m.Code
		case *pgproto3.ReadyForQuery:
			return result, code
		default:
			c.t.Fatal("function " + strconv.Itoa(int(function)) + fmt.Sprintf(" was answered with %T", m))
		}
	}
}
