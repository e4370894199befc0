package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// The load. Its clients pause so long that it takes a few percent of a core.
const (
	sessionClients     = 4
	transactionClients = 20
	loadRows           = 100
	loadPause          = 200 * time.Millisecond // on average, between two transactions of a client
	loadLife           = 50                     // transactions of a client on the transaction port, which then connects anew
	loadTimeout        = 10 * time.Second       // of one transaction, or of connecting
	loadRetry          = time.Second
)

// makeDemoTable makes what the load works on, through Sluice.
func makeDemoTable(ctx context.Context, databaseURL string) error {
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		return fmt.Errorf("connect to the demo's database: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	_, err = conn.Exec(ctx, fmt.Sprintf("CREATE TABLE accounts (id int PRIMARY KEY, balance int NOT NULL);"+
		" INSERT INTO accounts SELECT id, 1000 FROM generate_series(1, %d) AS id;"+
		" GRANT SELECT, UPDATE ON accounts TO %s", loadRows, demoWorker))
	if err != nil {
		return fmt.Errorf("make the demo's table: %w", err)
	}
	return nil
}

// load is the clients that use the demo.
type load struct {
	running sync.WaitGroup

	mu     sync.Mutex // guards below
	errors int        // since they were last asked for
	last   error
}

// start runs the clients until ctx is done; running waits for them.
func (l *load) start(ctx context.Context, s *demoSluice) {
	for range sessionClients {
		l.running.Add(1)
		go l.client(ctx, s.verifiedURL(sessionPort, demoWorker), 0)
	}
	for range transactionClients {
		l.running.Add(1)
		go l.client(ctx, s.verifiedURL(transactionPort, demoApp), loadLife)
	}
}

// client connects again and again; life is how many transactions a connection is used for, 0 without end.
func (l *load) client(ctx context.Context, databaseURL string, life int) {
	defer l.running.Done()
	pause(ctx, rand.N(2*loadPause))
	for ctx.Err() == nil {
		if err := use(ctx, databaseURL, life); err != nil {
			l.failed(err)
			pause(ctx, loadRetry)
		}
	}
}

// use is the life of one connection. What it has begun it finishes, also when ctx is done.
func use(ctx context.Context, databaseURL string, life int) error {
	connecting, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	conn, err := pgx.Connect(connecting, databaseURL)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	defer closeGently(conn)
	for done := 0; ctx.Err() == nil && (life == 0 || done < life); done++ {
		if err := transact(context.WithoutCancel(ctx), conn); err != nil {
			return err
		}
		pause(ctx, rand.N(2*loadPause))
	}
	return nil
}

func closeGently(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), loadTimeout)
	defer cancel()
	_ = conn.Close(ctx) // it is of no use any more
}

// transact looks at a row, or moves something between two, which it locks in the order of their numbers, so that no two
// transactions wait for each other.
func transact(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	from := 1 + rand.N(loadRows-1)
	to := from + 1 + rand.N(loadRows-from)
	if rand.N(4) > 0 {
		var balance int
		return conn.QueryRow(ctx, "SELECT balance FROM accounts WHERE id = $1", from).Scan(&balance)
	}
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "UPDATE accounts SET balance = balance - 1 WHERE id = $1", from); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "UPDATE accounts SET balance = balance + 1 WHERE id = $1", to)
		return err
	})
}

// pause waits for d, or until ctx is done.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

func (l *load) failed(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.errors++
	l.last = err
}

// trouble says what has gone wrong since it was last called, for the end of a line.
func (l *load) trouble() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.errors == 0 {
		return ""
	}
	text := fmt.Sprintf("   errors %d, last: %s", l.errors, strings.Join(strings.Fields(l.last.Error()), " "))
	l.errors, l.last = 0, nil
	return text
}
