package main

import (
	"crypto/tls"
	"fmt"

	"sluice/internal/config"
	"sluice/internal/tlsconf"
	"sluice/proxy"
)

// source is where the configuration comes from: a file, or a database URL.
type source struct {
	file string
	url  config.Secret
}

// load returns the configuration as it is now. Errors: *config.Error.
func (s source) load() (*config.Config, error) {
	if s.file != "" {
		return config.Load(s.file)
	}
	return config.FromURL(s.url.Reveal())
}

// unusable returns everything that a running Sluice would find wrong with cfg, nil if nothing is. Errors: *unusableError.
func (s source) unusable(cfg *config.Config) error {
	errs := proxy.Check(cfg)
	if _, err := adminTLS(cfg.Admin); err != nil {
		errs = append(errs, err)
	}
	if len(errs) == 0 {
		return nil
	}
	return &unusableError{file: s.file, errs: errs}
}

// adminTLS returns what the admin address is served with, nil if it is served without TLS.
func adminTLS(c config.Admin) (*tls.Config, error) {
	if c.CertFile == "" {
		return nil, nil
	}
	certificate, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("admin.cert_file: %w", err)
	}
	base := tlsconf.Base()
	base.Certificates = []tls.Certificate{certificate}
	return base, nil
}
