package main

import (
	"sluice/internal/admin"
	"sluice/internal/config"
	"sluice/proxy"
)

// Reload reads the configuration again and has all of it applied, or nothing. What is wrong is logged, a line for each
// problem, and returned. Calls wait for each other.
func (d *daemon) Reload(by proxy.Author) error {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	before := d.cfg.Load()
	seen := digestsOf(d.watched(before))
	cfg, err := d.apply(before, by)
	if err != nil {
		d.seen = seen
		for _, line := range lines(err) {
			d.log.Error("configuration problem", "error", line)
		}
		d.log.Error("reload refused, nothing was changed")
		return err
	}
	d.cfg.Store(cfg)
	if d.admin != nil {
		d.admin.SetToken(admin.Token(cfg.Admin.Token.Reveal()))
	}
	for _, key := range needRestart(before, cfg) {
		d.log.Warn("setting takes effect at the next start", "key", key)
	}
	d.checkDescriptors(cfg)
	d.rewatch(cfg, seen)
	return nil
}

// apply does what a reload can fail at, and returns the configuration that counts now.
func (d *daemon) apply(before *config.Config, by proxy.Author) (*config.Config, error) {
	cfg, err := d.source.load()
	if err != nil {
		d.server.ReloadFailed(err)
		return nil, err
	}
	swap, err := d.renewAdminCertificate(before.Admin, cfg.Admin)
	if err != nil {
		d.server.ReloadFailed(err)
		return nil, err
	}
	if err := d.server.ReloadBy(cfg, by); err != nil {
		return nil, err
	}
	swap()
	return cfg, nil
}

// needRestart returns the keys that differ and that a reload does not apply.
func needRestart(before, after *config.Config) []string {
	var keys []string
	for _, s := range []struct {
		key     string
		changed bool
	}{
		{"admin.address", before.Admin.Address != after.Admin.Address},
		{"admin.cert_file", before.Admin.CertFile != after.Admin.CertFile},
		{"admin.key_file", before.Admin.KeyFile != after.Admin.KeyFile},
		{"admin.socket", before.Admin.Socket != after.Admin.Socket},
		{"log.format", before.Log.Format != after.Log.Format},
		{"state_dir", before.StateDir != after.StateDir},
	} {
		if s.changed {
			keys = append(keys, s.key)
		}
	}
	return keys
}
