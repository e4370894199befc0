package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"

	"sluice/internal/config"
	"sluice/proxy"
)

const (
	password = "secret" // of the superuser, and of roles that the tests expect to be trusted
	poolSize = 20
)

const sluiceConfig = `
listeners:
  - {name: tcp, address: "127.0.0.1:%[2]d", mode: %[1]s}
  - {name: unix, address: %[3]q, mode: %[1]s}
tls: {cert_file: cert.pem, key_file: key.pem}
admin: {address: ""}
log: {level: debug, sessions: all}
tenants:
  - backend: {host: %[4]s, port: %[5]d, tls_mode: disable}
    service: {role: postgres, password: %[6]s}
    auth: {query: "SELECT rolname, rolpassword, rolvaliduntil FROM pg_authid WHERE rolname = $1 AND rolcanlogin"}
    pool_size: %[7]d
    max_pinned: %[7]d
    state_check: %[8]s
    max_backends: 60
    pool_wait_timeout: 60s
`

// sluiceServer is a Sluice with one port.
type sluiceServer struct {
	*proxy.Server
	served chan error
	log    *os.File
	keep   *pgx.Conn // nil: none
}

// startSluice starts a Sluice in front of the place's Postgres and makes the place lead there. It logs into results.
func startSluice(ctx context.Context, p *place, s *suite, mode, stateCheck, results string) (_ *sluiceServer, err error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	socket := filepath.Join(p.dir, fmt.Sprintf(".s.PGSQL.%d", port))
	text := fmt.Sprintf(sluiceConfig, mode, port, socket, p.cluster.Host(), p.cluster.Port(), password, poolSize, stateCheck)
	cert, key, err := selfSigned()
	if err != nil {
		return nil, err
	}
	for name, content := range map[string][]byte{"sluice.yaml": []byte(text), "cert.pem": cert, "key.pem": key} {
		if err := os.WriteFile(filepath.Join(p.dir, name), content, 0o600); err != nil {
			return nil, err
		}
	}
	cfg, err := config.Load(filepath.Join(p.dir, "sluice.yaml"))
	if err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(results, "sluice.log"))
	if err != nil {
		return nil, err
	}
	server, err := proxy.New(cfg, proxy.Options{Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})), Version: "suites"})
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	sluice := &sluiceServer{Server: server, served: make(chan error, 1), log: log}
	go sluice.serve()
	if mode == wayTransaction {
		// A pool that nobody uses is forgotten, with what was counted; a client that does nothing has no backend there.
		u := fmt.Sprintf("postgres://postgres:%s@127.0.0.1:%d/%s?sslmode=disable", password, port, s.database)
		if sluice.keep, err = pgx.Connect(ctx, u); err != nil {
			return nil, errors.Join(err, sluice.close())
		}
	}
	p.host, p.port, p.socket = "127.0.0.1", port, p.dir
	return sluice, nil
}

func (s *sluiceServer) serve() { s.served <- s.Serve() }

// pool returns the status of the superuser's pool for a database, with the pins of all its pools.
func (s *sluiceServer) pool(database string) proxy.PoolStatus {
	sum := proxy.PoolStatus{Pins: make(map[string]uint64)}
	for _, t := range s.Status().Tenants {
		for _, p := range t.Pools {
			if p.Database == database {
				sum.Transactions += p.Transactions
				for reason, n := range p.Pins {
					sum.Pins[reason] += n
				}
			}
		}
	}
	return sum
}

func (s *sluiceServer) close() error {
	if s.keep != nil {
		_ = s.keep.Close(context.Background()) // the server ends anyhow
	}
	err := s.Close()
	if served := <-s.served; !errors.Is(served, proxy.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return errors.Join(err, s.log.Close())
}

// freePort returns a TCP port that nobody listens on.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

// selfSigned returns a certificate for localhost and its key, PEM.
func selfSigned() (cert, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		return nil, nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), nil
}
