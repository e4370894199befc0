package leakhunt

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// patience bounds one statement. It is there so that the hunt ends; nothing in it takes long.
const patience = 2 * time.Minute

// pair is a connection through Sluice and its twin.
type pair struct {
	sluice, twin *pgconn.PgConn
}

// connectURL returns where to connect to with these start-up parameters.
func connectURL(user, address, database string, params map[string]string) string {
	q := url.Values{"sslmode": {"disable"}}
	for name, value := range params {
		q.Set(name, value)
	}
	u := url.URL{Scheme: "postgres", User: url.UserPassword(user, password), Host: address, Path: "/" + database, RawQuery: strings.ReplaceAll(q.Encode(), "+", "%20")}
	return u.String()
}

// connect opens both. What the one before has left, which may still be on its way out, is waited for by who needs it.
func (w *world) connect(ctx context.Context, tn tenant, params map[string]string) (p pair, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if p.sluice, err = pgconn.Connect(ctx, connectURL(tn.name+"."+tn.name, w.address, tn.name, params)); err != nil {
		return pair{}, fmt.Errorf("through sluice: %w", err)
	}
	direct := net.JoinHostPort(w.pg.Host(), fmt.Sprint(w.pg.Port()))
	if p.twin, err = pgconn.Connect(ctx, connectURL(tn.name, direct, twinOf(tn.name), params)); err != nil {
		_ = p.sluice.Close(ctx)
		return pair{}, fmt.Errorf("directly: %w", err)
	}
	return p, nil
}

func (p *pair) close() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_ = p.sluice.Close(ctx)
	_ = p.twin.Close(ctx)
}

// vanish ends the connection through Sluice without a word.
func (p *pair) vanish() {
	if tcp, ok := p.sluice.Conn().(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = p.sluice.Conn().Close()
	p.close()
}

// step is something that is done on one connection. It returns what came of it in a form that can be compared, and an error if
// the connection is lost.
type step func(ctx context.Context, conn *pgconn.PgConn) (string, error)

// both takes the step on either connection and returns both answers.
func (p *pair) both(ctx context.Context, s step) (sluice, twin string, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if sluice, err = s(ctx, p.sluice); err != nil {
		return "", "", err
	}
	if twin, err = s(ctx, p.twin); err != nil {
		return "", "", fmt.Errorf("the twin: %w", err)
	}
	return sluice, twin, nil
}

// simple runs sql as a simple query.
func simple(sql string) step {
	return func(ctx context.Context, conn *pgconn.PgConn) (string, error) {
		results, err := conn.Exec(ctx, sql).ReadAll()
		return answer(conn, results, err)
	}
}

// extended runs sql as an unnamed statement.
func extended(sql string) step {
	return func(ctx context.Context, conn *pgconn.PgConn) (string, error) {
		r := conn.ExecParams(ctx, sql, nil, nil, nil, nil).Read()
		return answer(conn, []*pgconn.Result{r}, r.Err)
	}
}

// prepares prepares sql under a name, and says what it returns.
func prepares(name, sql string) step {
	return func(ctx context.Context, conn *pgconn.PgConn) (string, error) {
		d, err := conn.Prepare(ctx, name, sql, nil)
		if err != nil {
			return answer(conn, nil, err)
		}
		return fmt.Sprint("described ", d.ParamOIDs, columns(d.Fields)), nil
	}
}

// runs executes what was prepared under a name.
func runs(name string) step {
	return func(ctx context.Context, conn *pgconn.PgConn) (string, error) {
		r := conn.ExecPrepared(ctx, name, nil, nil, nil).Read()
		return answer(conn, []*pgconn.Result{r}, r.Err)
	}
}

// forgets closes what was prepared under a name.
func forgets(name string) step {
	return func(ctx context.Context, conn *pgconn.PgConn) (string, error) {
		return answer(conn, nil, conn.Deallocate(ctx, name))
	}
}

func columns(fields []pgconn.FieldDescription) string {
	var b strings.Builder
	for _, f := range fields {
		fmt.Fprintf(&b, " %s:%d", f.Name, f.DataTypeOID)
	}
	return b.String()
}

// answer writes what came back; what makes a connection useless is an error.
func answer(conn *pgconn.PgConn, results []*pgconn.Result, err error) (string, error) {
	var b strings.Builder
	for _, r := range results {
		b.WriteString(columns(r.FieldDescriptions))
		for _, row := range r.Rows {
			fmt.Fprintf(&b, " %q", row)
		}
		fmt.Fprintf(&b, " %s;", r.CommandTag)
	}
	said, fromPostgres := errors.AsType[*pgconn.PgError](err)
	switch {
	case err != nil && (conn.IsClosed() || !fromPostgres):
		return "", err
	case err != nil && said.Code == "42501": // for a table or its schema, as Postgres has looked the names up anew or not
		b.WriteString(" 42501")
	case err != nil:
		fmt.Fprintf(&b, " %s %s", said.Code, said.Message)
	}
	fmt.Fprintf(&b, " %c", conn.TxStatus())
	return b.String(), nil
}
