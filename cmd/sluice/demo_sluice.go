package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"sluice/internal/admin"
	"sluice/internal/config"
	"sluice/internal/tlsconf"
	"sluice/proxy"
)

// Ports where looking for free ones begins.
const (
	sessionPort     = 5432
	transactionPort = 6543
	adminPort       = 9930
)

const (
	demoHost            = "127.0.0.1"
	demoPoolSize        = 5    // far fewer than the load's clients, to be seen at work
	demoSessionPoolSize = 10   // the load's, and some psql
	minDemoBackends     = 10   // or the load's long-lived clients leave too few for the others
	maxPortsTried       = 1000 // the ranges of the three ports do not meet
	demoAttempts        = 3    // a port that was free may be taken a moment later
)

// demoSluice is the demo's proxy, inside this process.
type demoSluice struct {
	postgres *demoPostgres
	cfg      *config.Config
	server   *proxy.Server
	ports    map[int]int // by the one where looking for it began
	ended    chan error  // why clients or operators are not served any more

	stopOperators context.CancelFunc
	answered      chan struct{} // closed when operators are not served any more
}

// startDemoSluice serves clients and operators on free ports until stop is called.
func startDemoSluice(postgres *demoPostgres, o demoOptions, log io.Writer) (*demoSluice, error) {
	s := &demoSluice{postgres: postgres, ended: make(chan error, 2), answered: make(chan struct{})}
	if err := s.writeCertificate(); err != nil {
		return nil, err
	}
	operators, err := s.open(o, slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelWarn})))
	if err != nil {
		return nil, fmt.Errorf("start Sluice: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.stopOperators = cancel
	go s.serveClients()
	go s.serveOperators(ctx, operators)
	return s, nil
}

func (s *demoSluice) serveClients() { s.ended <- s.server.Serve() }

// serveOperators ends with ctx.
func (s *demoSluice) serveOperators(ctx context.Context, a *admin.Server) {
	defer close(s.answered)
	if err := a.Serve(ctx); err != nil {
		s.ended <- err
	}
}

// open opens the ports, and tries others if one was taken since it was found free.
func (s *demoSluice) open(o demoOptions, log *slog.Logger) (operators *admin.Server, err error) {
	for range demoAttempts {
		if err = s.choosePorts(); err != nil {
			return nil, err
		}
		if s.cfg, err = s.config(o); err != nil {
			return nil, err
		}
		if s.server, err = proxy.New(s.cfg, proxy.Options{Log: log, Version: o.version}); err == nil {
			operators, err = newAdmin(s.cfg.Admin, nil, s.server, s.reload, log, o.version)
			if err == nil {
				return operators, nil
			}
			_ = s.server.Close()
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			return nil, err
		}
	}
	return nil, err
}

func (s *demoSluice) choosePorts() error {
	s.ports = map[int]int{}
	for _, first := range []int{sessionPort, transactionPort, adminPort} {
		port, err := freePort(first)
		if err != nil {
			return err
		}
		s.ports[first] = port
	}
	return nil
}

// freePort returns the first port from first on that nobody listens on.
func freePort(first int) (int, error) {
	var last error
	for port := first; port < first+maxPortsTried; port++ {
		l, err := net.Listen("tcp", net.JoinHostPort(demoHost, strconv.Itoa(port)))
		if err == nil {
			return port, l.Close()
		}
		last = err
	}
	return 0, fmt.Errorf("find a free port: %w", last)
}

// writeCertificate makes the certificate that clients are offered. It is in the cluster's folder and goes with it.
func (s *demoSluice) writeCertificate() error {
	cert, key, err := tlsconf.SelfSigned([]string{"localhost", demoHost}, time.Now())
	if err != nil {
		return fmt.Errorf("make a certificate: %w", err)
	}
	if err := os.WriteFile(s.file("tls.crt"), cert, 0o644); err != nil {
		return err
	}
	return os.WriteFile(s.file("tls.key"), key, 0o600)
}

func (s *demoSluice) file(name string) string { return filepath.Join(s.postgres.cluster.Dir(), name) }

// config is what an operator would write: the defaults, with auth.query instead of a users file.
func (s *demoSluice) config(o demoOptions) (*config.Config, error) {
	c := config.Default()
	c.Listeners[0].Address = s.address(sessionPort)
	c.Listeners[1].Address = s.address(transactionPort)
	c.Admin.Address = s.address(adminPort)
	c.TLS.CertFile, c.TLS.KeyFile = s.file("tls.crt"), s.file("tls.key")
	c.Log.Level = "warn"
	t := &c.Tenants[0]
	t.Backend.Hosts = []config.HostPort{{Host: s.postgres.cluster.Host(), Port: s.postgres.cluster.Port()}}
	t.Service.Role, t.Service.Password = demoService, config.Secret(s.postgres.passwords[demoService])
	t.Auth.UsersFile, t.Auth.Query = "", demoQuery
	t.PoolSize, t.SessionPoolSize = demoPoolSize, demoSessionPoolSize
	t.MaxBackends = config.AutoInt{N: o.maxBackends}
	var problems []error
	for _, p := range c.Validate() {
		problems = append(problems, errors.New(p.String()))
	}
	return &c, errors.Join(problems...)
}

func (s *demoSluice) reload(by proxy.Author) error { return s.server.ReloadBy(s.cfg, by) }

func (s *demoSluice) address(port int) string {
	return net.JoinHostPort(demoHost, strconv.Itoa(s.ports[port]))
}

// url returns a connection string for one of the two ports, by the number where looking for it began.
func (s *demoSluice) url(port int, role string) string {
	return s.urlWith(port, role, url.Values{"sslmode": {"require"}})
}

// verifiedURL is url for the load, which knows the certificate; it leaves nothing of TLS to variables of the environment.
func (s *demoSluice) verifiedURL(port int, role string) string {
	return s.urlWith(port, role, url.Values{"sslmode": {"verify-full"}, "sslrootcert": {s.file("tls.crt")}})
}

func (s *demoSluice) urlWith(port int, role string, parameters url.Values) string {
	u := url.URL{
		Scheme: "postgres", Host: s.address(port), Path: "/" + demoDatabase,
		User: url.UserPassword(role, s.postgres.passwords[role]), RawQuery: parameters.Encode(),
	}
	return u.String()
}

// psql returns the command that connects to the same.
func (s *demoSluice) psql(port int, role string) string {
	return fmt.Sprintf(`psql "host=%s port=%d dbname=%s user=%s password=%s sslmode=require"`,
		demoHost, s.ports[port], demoDatabase, role, s.postgres.passwords[role])
}

// introduce tells what there is to try.
func (s *demoSluice) introduce(out io.Writer) error {
	return tell(out, `Sluice is running, in front of a throwaway PostgreSQL in %s.

  session port        %s
                      %s
  transaction port    %s
                      %s
  for operators       http://%s has /metrics, /readyz and /status

Ctrl-C ends everything and removes the folder.

`, s.postgres.cluster.Dir(), s.psql(sessionPort, demoApp), s.url(sessionPort, demoApp),
		s.psql(transactionPort, demoApp), s.url(transactionPort, demoApp), s.address(adminPort))
}

// stop ends the proxy. Sessions of others, such as somebody's psql, have a moment to finish what they do.
func (s *demoSluice) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), demoStopTimeout)
	defer cancel()
	_ = s.server.Shutdown(ctx) // cuts off what is left
	s.stopOperators()
	<-s.answered
}
