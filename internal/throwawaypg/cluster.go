// Package throwawaypg starts a throwaway Postgres cluster in a temporary folder, for demo, bench and tests.
package throwawaypg

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"sync"
	"time"
)

const (
	host         = "127.0.0.1"
	superuser    = "postgres"
	maintenance  = "postgres"       // the database that every new cluster has
	startTimeout = time.Minute      // when the caller's ctx has no deadline; initdb takes a second, ten on a loaded machine
	fastTimeout  = 10 * time.Second // for Postgres to roll back what runs and to write its last checkpoint
	quitTimeout  = 6 * time.Second  // Postgres itself kills what has not ended 5 s after an immediate shutdown
	portAttempts = 5
)

// ErrStopped is returned by methods that need the cluster's folder after Stop has removed it.
var ErrStopped = errors.New("throwaway postgres is stopped")

// Options say how a cluster is made. The zero value is a cluster that suits tests.
type Options struct {
	// Dir holds everything of the cluster and is removed by Stop if Start made it, else emptied of what Start put
	// there. Empty: a new temporary folder.
	Dir string
	// BinDir holds initdb and postgres. Empty: Find.
	BinDir string
	// Settings are lines of postgresql.conf, unquoted values; they win over what suits a throwaway cluster.
	Settings map[string]string
	// SuperuserPassword is the password of the role postgres. Empty: random.
	SuperuserPassword string
	// Log receives the output of initdb and postgres. Nil: discarded, but an error of Start carries its end.
	Log io.Writer
	// HBA lines go in front of initdb's own, so that they win.
	HBA []string
	// TLS makes the server offer TLS. Nil: off.
	TLS *TLS
}

// TLS is a server certificate in PEM.
type TLS struct {
	Cert     []byte
	Key      []byte
	ClientCA []byte // certificates of clients are verified against it; empty: none are asked for
}

// Cluster is a Postgres server of one's own. Its methods may be called from several goroutines.
type Cluster struct {
	port     int
	password string
	tls      bool
	folders  folders
	programs programs

	mu      sync.Mutex // guards below
	server  *server    // nil while Postgres is down
	stopped bool
}

// Start makes a cluster and starts Postgres.
//
// It blocks until Postgres answers a login of its superuser, or ctx is done; without a deadline in ctx a minute. The
// caller must Stop the cluster. Run by root, Postgres runs as the user postgres, else nobody. On Linux Postgres shuts
// down by itself when this process dies; elsewhere a killed process leaves it behind.
//
// Errors: ErrNotFound when o.BinDir is empty and there are no server programs; else with the end of Postgres's output.
func Start(ctx context.Context, o Options) (*Cluster, error) {
	ctx, cancel := withTimeout(ctx)
	defer cancel()
	c, err := create(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("start throwaway postgres: %w", err)
	}
	if err := c.startOnFreePort(ctx); err != nil {
		return nil, fmt.Errorf("start throwaway postgres: %w", errors.Join(err, c.Stop()))
	}
	return c, nil
}

func withTimeout(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeoutCause(ctx, startTimeout, fmt.Errorf("not ready after %s", startTimeout))
}

// create makes the folders and the cluster in them, with nothing running.
func create(ctx context.Context, o Options) (*Cluster, error) {
	bindir := o.BinDir
	if bindir == "" {
		var err error
		if bindir, err = Find(); err != nil {
			return nil, err
		}
	}
	owner, err := serverOwner()
	if err != nil {
		return nil, err
	}
	dirs, err := makeFolders(o.Dir, owner)
	if err != nil {
		return nil, errors.Join(err, dirs.remove())
	}
	c := &Cluster{
		password: o.SuperuserPassword,
		tls:      o.TLS != nil,
		folders:  dirs,
		programs: programs{bindir: bindir, owner: owner, log: o.Log},
	}
	if c.password == "" {
		c.password = rand.Text()
	}
	if err := c.initialize(ctx, o); err != nil {
		return nil, errors.Join(err, dirs.remove())
	}
	return c, nil
}

// startOnFreePort tries again on another port when somebody took the one that was free a moment ago.
func (c *Cluster) startOnFreePort(ctx context.Context) error {
	for attempt := 1; ; attempt++ {
		port, err := freePort()
		if err != nil {
			return err
		}
		c.port = port
		if err = c.StartServer(ctx); err == nil {
			return nil
		}
		if attempt == portAttempts || ctx.Err() != nil || portIsFree(port) {
			return err
		}
	}
}

// Host returns the address that Postgres listens on.
func (c *Cluster) Host() string { return host }

// Port returns the TCP port that Postgres listens on; it stays the same over StartServer and Restart.
func (c *Cluster) Port() int { return c.port }

// Dir returns the folder that holds everything of the cluster.
func (c *Cluster) Dir() string { return c.folders.root }

// DataDir returns the folder with postgresql.conf.
func (c *Cluster) DataDir() string { return c.folders.data }

// SocketDir returns the folder of the Unix socket, for use as a host.
func (c *Cluster) SocketDir() string { return c.folders.socket }

// SuperuserPassword returns the password of the role postgres.
func (c *Cluster) SuperuserPassword() string { return c.password }

// URL returns a connection string over TCP. An empty password is left out.
func (c *Cluster) URL(user, password, db string) string {
	u := url.URL{Scheme: "postgres", Host: net.JoinHostPort(host, strconv.Itoa(c.port)), Path: "/" + db, User: url.User(user)}
	if password != "" {
		u.User = url.UserPassword(user, password)
	}
	mode := "disable"
	if c.tls {
		mode = "require"
	}
	u.RawQuery = url.Values{"sslmode": {mode}}.Encode()
	return u.String()
}

// SuperuserURL returns the connection string of the role postgres.
func (c *Cluster) SuperuserURL(db string) string { return c.URL(superuser, c.password, db) }

// Stop shuts Postgres down, if it runs, and removes the cluster's folder. Sessions are ended. It blocks until that is
// done, for some 20 s if Postgres does not do what it is told and must be killed. Calling it again does nothing.
func (c *Cluster) Stop() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return nil
	}
	c.stopped = true
	c.stopServer()
	if err := c.folders.remove(); err != nil {
		return fmt.Errorf("stop throwaway postgres: %w", err)
	}
	return nil
}

// StopServer shuts Postgres down and keeps the cluster, so that connecting to its port is refused until StartServer.
func (c *Cluster) StopServer() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopServer()
}

// Kill ends Postgres with SIGKILL, as a crash would, and keeps the cluster. It blocks until the backends have noticed
// as well, which those that compute do late, but for no more than 5 s.
func (c *Cluster) Kill() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.server != nil {
		c.server.kill()
		c.server = nil
	}
}

func (c *Cluster) stopServer() {
	if c.server != nil {
		c.server.stop()
		c.server = nil
	}
}

// StartServer starts Postgres after StopServer or Kill and does nothing while it runs. It blocks as Start does.
func (c *Cluster) StartServer(ctx context.Context) error {
	ctx, cancel := withTimeout(ctx)
	defer cancel()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return ErrStopped
	}
	if c.server != nil && c.server.running() {
		return nil
	}
	s, err := c.programs.start(c.folders, c.port)
	if err != nil {
		return err
	}
	if err := c.awaitReady(ctx, s); err != nil {
		s.kill()
		return fmt.Errorf("%w\n%s", err, s.output.String())
	}
	c.server = s
	return nil
}

// Restart shuts Postgres down and starts it again on the same port.
func (c *Cluster) Restart(ctx context.Context) error {
	c.StopServer()
	return c.StartServer(ctx)
}

// freePort returns a port below those that systems hand to outgoing connections, so that none of these takes it while
// Postgres is down.
func freePort() (int, error) {
	const first, last = 15000, 32000
	for range 100 {
		var b [2]byte
		if _, err := rand.Read(b[:]); err != nil {
			return 0, fmt.Errorf("choose port: %w", err)
		}
		if port := first + (int(b[0])<<8|int(b[1]))%(last-first); portIsFree(port) {
			return port, nil
		}
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return 0, fmt.Errorf("choose port: %w", err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port, nil
}

func portIsFree(port int) bool {
	l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return false
	}
	_ = l.Close()
	return true
}
