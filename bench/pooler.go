package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"text/template"
	"time"
)

// The names of what is compared.
const (
	nameDirect    = "direct"
	namePgBouncer = "PgBouncer"
	nameSluice    = "Sluice"
)

const (
	poolSize   = 20
	maxClients = 12_000 // 10,000 idle ones and what runs beside them
	readyPause = 50 * time.Millisecond
	readyTime  = 20 * time.Second
)

const pgbouncerConfig = `[databases]
{{.Database}} = host={{.PostgresHost}} port={{.PostgresPort}}
[pgbouncer]
listen_addr = {{.Host}}
listen_port = {{.Port}}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {{.UsersFile}}
pool_mode = transaction
default_pool_size = {{.PoolSize}}
max_client_conn = {{.MaxClients}}
max_prepared_statements = 200
server_tls_sslmode = disable
client_tls_sslmode = allow
client_tls_cert_file = {{.CertFile}}
client_tls_key_file = {{.KeyFile}}
log_connections = 0
log_disconnections = 0
{{- if .User}}
user = {{.User}}
{{- end}}
`

const sluiceConfig = `listeners:
  - {name: transaction, address: "{{.Host}}:{{.Port}}", mode: transaction}
tls: {cert_file: "{{.CertFile}}", key_file: "{{.KeyFile}}"}
admin: {address: "{{.Admin}}"}
limits: {max_clients: {{.MaxClients}}}
tenants:
  - backend: {host: "{{.PostgresHost}}", port: {{.PostgresPort}}, tls_mode: disable}
    auth: {users_file: "{{.UsersFile}}"}
    pool_size: {{.PoolSize}}
    max_backends: {{.PoolSize}}
`

// target is something to log in to.
type target struct {
	name    string
	address string
	pid     int // of the pooler; 0: there is none
}

// pooler is a running PgBouncer or Sluice.
type pooler struct {
	target
	cmd  *exec.Cmd
	log  bytes.Buffer  // read once done is closed
	done chan struct{} // closed when it has ended
}

// settings are what both configurations are made from.
type settings struct {
	Database, PostgresHost, Host       string
	PostgresPort, Port                 int
	PoolSize, MaxClients               int
	UsersFile, CertFile, KeyFile, User string
	Admin                              string // where Sluice tells its metrics; empty: nowhere
}

// startPooler starts one of the two on a free port. It blocks until a client has logged in and run a statement. The
// caller must stop it; ctx's end kills it.
func (r *rig) startPooler(ctx context.Context, name string) (*pooler, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	return r.startPoolerWith(ctx, name, r.settings(port))
}

// startPoolerWith is startPooler with other settings.
func (r *rig) startPoolerWith(ctx context.Context, name string, s settings) (*pooler, error) {
	content, err := s.config(name)
	if err != nil {
		return nil, err
	}
	config := r.file(name + "-" + strconv.Itoa(s.Port) + ".conf")
	if err := os.WriteFile(config, content, 0o644); err != nil {
		return nil, err
	}
	p := &pooler{target: target{name: name, address: net.JoinHostPort(host, strconv.Itoa(s.Port))}, done: make(chan struct{})}
	if name == namePgBouncer {
		p.cmd = exec.CommandContext(ctx, r.pgbouncer, config)
	} else {
		p.cmd = exec.CommandContext(ctx, r.sluice, "serve", "--config", config)
	}
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p.pid = p.cmd.Process.Pid
	go p.wait()
	if err := p.awaitReady(ctx, r.dialer); err != nil {
		p.stop()
		return nil, fmt.Errorf("start %s: %w\n%s", name, err, p.log.String())
	}
	return p, nil
}

// wait ends with the pooler.
func (p *pooler) wait() {
	defer close(p.done)
	_ = p.cmd.Wait() // says that it was killed
}

// stop ends the pooler at once: nobody is served any more.
func (p *pooler) stop() {
	_ = p.cmd.Process.Kill() // it may have ended by itself
	<-p.done
}

// settings are those of a pooler on a port.
func (r *rig) settings(port int) settings {
	return settings{
		Database: database, Host: host, Port: port, PostgresHost: r.cluster.Host(), PostgresPort: r.cluster.Port(),
		PoolSize: poolSize, MaxClients: maxClients, UsersFile: r.file(usersFile), CertFile: r.file(certFile), KeyFile: r.file(keyFile),
		User: r.unprivileged,
	}
}

// config writes the configuration file of a pooler.
func (s settings) config(name string) ([]byte, error) {
	text := sluiceConfig
	if name == namePgBouncer {
		text = pgbouncerConfig
	}
	t, err := template.New(name).Parse(text)
	if err != nil {
		return nil, err
	}
	var content bytes.Buffer
	err = t.Execute(&content, s)
	return content.Bytes(), err
}

// awaitReady returns once a statement has been run through the pooler.
func (p *pooler) awaitReady(ctx context.Context, d *dialer) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyTime, errors.New("not ready after "+readyTime.String()))
	defer cancel()
	for {
		s, err := d.login(ctx, p.address, false)
		if err == nil {
			err = s.query("SELECT 1")
			s.end()
		}
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return errors.New("it has ended by itself")
		default:
		}
		if pauseErr := pause(ctx, readyPause); pauseErr != nil {
			return fmt.Errorf("%w, last: %w", pauseErr, err)
		}
	}
}

// pause returns after d, or with ctx's cause when that is done first.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// freePort returns a port that nobody listens on now.
func freePort() (int, error) {
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

// version returns the first line of what a program says of itself.
func version(ctx context.Context, program string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, program, args...).Output()
	if err != nil {
		return "", fmt.Errorf("ask %s for its version: %w", program, err)
	}
	first, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return first, nil
}
