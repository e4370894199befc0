package main

import (
	"context"
	"crypto/tls"
	"log/slog"

	"sluice/internal/admin"
	"sluice/internal/config"
	"sluice/internal/tlsconf"
	"sluice/proxy"
)

// newAdmin opens the admin address, with TLS if there is a certificate, and the socket, behind which reload reloads. It
// returns nil if there is neither.
func newAdmin(c config.Admin, cert *tlsconf.Certificate, server *proxy.Server, reload func(proxy.Author) error, log *slog.Logger, version string) (*admin.Server, error) {
	if c.Address == "" && c.Socket == "" {
		return nil, nil
	}
	var tlsConfig *tls.Config
	if cert != nil {
		tlsConfig = cert.Config()
	}
	s := admin.New(admin.Params{
		Address: c.Address, Socket: c.Socket, Token: admin.Token(c.Token.Reveal()), TLS: tlsConfig, Target: operated{server, reload},
		Policy: server, Bans: server, Metrics: server.Metrics(), Log: log, Version: version,
	})
	if err := s.Listen(); err != nil {
		return nil, err
	}
	return s, nil
}

// operated is what operators see of a proxy.
type operated struct {
	server *proxy.Server
	reload func(proxy.Author) error
}

// Health implements admin.Target.
func (o operated) Health(ctx context.Context) admin.Health {
	h := o.server.Health(ctx)
	parts := make([]admin.Part, len(h.Parts))
	for i, p := range h.Parts {
		parts[i] = admin.Part{Name: p.Name, State: p.State, Message: p.Message, Latency: p.Latency}
	}
	return admin.Health{State: h.State, Parts: parts}
}

// Status implements admin.Target.
func (o operated) Status() any { return o.server.Status() }

// TransactionMode implements admin.Target.
func (o operated) TransactionMode() any { return o.server.TransactionMode() }

// TLSLogins implements admin.Target.
func (o operated) TLSLogins() any { return o.server.TLSLogins() }

// Authorities implements admin.Target.
func (o operated) Authorities() []byte { return o.server.Authorities() }

// Reload implements admin.Target.
func (o operated) Reload(by proxy.Author) error { return o.reload(by) }

// Draining implements admin.Target.
func (o operated) Draining() bool { return o.server.Draining() }
