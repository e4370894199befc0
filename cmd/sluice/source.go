package main

import (
	"sluice/internal/config"
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
	if _, err := adminCertificate(cfg.Admin); err != nil {
		errs = append(errs, err)
	}
	if len(errs) == 0 {
		return nil
	}
	return &unusableError{file: s.file, errs: errs}
}
