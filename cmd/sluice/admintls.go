package main

import (
	"context"
	"fmt"
	"time"

	"sluice/internal/config"
	"sluice/internal/tlsconf"
)

// adminCertificate returns what the admin address is served with, nil if it is served without TLS.
func adminCertificate(c config.Admin) (*tlsconf.Certificate, error) {
	if c.CertFile == "" {
		return nil, nil
	}
	cert, err := tlsconf.NewCertificate(tlsconf.KeyPair{CertFile: c.CertFile, KeyFile: c.KeyFile})
	if err != nil {
		return nil, fmt.Errorf("admin: %w", err)
	}
	return cert, nil
}

// renewAdminCertificate reads it again, if a reload leaves it where it is; else it takes a restart. It counts with swap.
func (d *daemon) renewAdminCertificate(before, after config.Admin) (swap func(), err error) {
	if d.adminCert == nil || before.CertFile != after.CertFile || before.KeyFile != after.KeyFile {
		return func() {}, nil
	}
	if swap, err = d.adminCert.Prepare(); err != nil {
		return nil, fmt.Errorf("admin: %w", err)
	}
	return swap, nil
}

// watchAdminCertificate reads it again when its files change, until ctx is done, unless nothing is to be watched.
func (d *daemon) watchAdminCertificate(ctx context.Context, what string) {
	d.warnOfAdminCertificate()
	if what == "none" {
		return
	}
	d.watchers.Go(func() {
		err := tlsconf.Watch(ctx, []tlsconf.Source{d.adminCert}, func(err error) {
			if err != nil {
				d.log.Error("certificate of the admin address cannot be used, the old one stays", "error", err)
				return
			}
			d.log.Info("certificate of the admin address reloaded")
			d.warnOfAdminCertificate()
		})
		if err != nil {
			d.log.Error("certificate of the admin address cannot be watched", "error", err)
		}
	})
}

// warnOfAdminCertificate logs that it has ended, or soon will.
func (d *daemon) warnOfAdminCertificate() {
	for _, w := range d.adminCert.Warnings(time.Now()) {
		d.log.Warn("certificate of the admin address", "error", w)
	}
}
