package main

import (
	"fmt"
	"syscall"

	"sluice/internal/config"
)

// ownDescriptors is what Sluice needs beside clients and backends: listeners, loops, files, operators, logins on their
// way to being refused.
const ownDescriptors = 256

// checkDescriptors raises the soft limit of open files to the hard one and warns if limits.max_clients does not fit.
func (d *daemon) checkDescriptors(cfg *config.Config) {
	limit, err := raiseDescriptorLimit()
	if err != nil {
		d.log.Warn("file descriptor limit unknown", "error", err)
		return
	}
	if need := descriptorsNeeded(cfg); limit < need {
		d.log.Warn("limits.max_clients is more than the file descriptor limit allows",
			"max_clients", cfg.Limits.MaxClients, "descriptors_needed", need, "descriptor_limit", limit,
			"hint", "raise the limit (ulimit -n, LimitNOFILE= of systemd) or lower limits.max_clients")
	}
}

// descriptorsNeeded counts one for each client and backend. Backends that nobody has limited are not known, and left out.
func descriptorsNeeded(cfg *config.Config) uint64 {
	need := uint64(ownDescriptors) + uint64(cfg.Limits.MaxClients)
	for _, t := range cfg.Tenants {
		need += uint64(t.MaxBackends.N)
	}
	return need
}

// raiseDescriptorLimit returns how many descriptors the process may have open, which is as many as the system lets it.
func raiseDescriptorLimit() (uint64, error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("get limit of open files: %w", err)
	}
	if limit.Cur >= limit.Max {
		return limit.Cur, nil
	}
	raised := limit
	raised.Cur = limit.Max
	// Some systems call no limit what they do not grant; then the soft one stands.
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &raised); err != nil {
		return limit.Cur, nil
	}
	return raised.Cur, nil
}
