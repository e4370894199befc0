package throwawaypg

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// initialize runs initdb and writes the configuration.
func (c *Cluster) initialize(ctx context.Context, o Options) error {
	passwordFile := filepath.Join(c.folders.socket, "password")
	if err := os.WriteFile(passwordFile, []byte(c.password+"\n"), 0o600); err != nil {
		return err
	}
	defer func() { _ = os.Remove(passwordFile) }()
	if err := c.programs.owner.take(passwordFile); err != nil {
		return err
	}
	err := c.programs.initdb(ctx, c.folders, "--username="+superuser, "--pwfile="+passwordFile, "--auth=scram-sha-256",
		"--encoding=UTF8", "--no-locale", "--no-sync")
	if err != nil {
		return err
	}
	return errors.Join(c.writeConf(o), c.writeHBA(o.HBA), c.writeTLS(o.TLS))
}

// writeConf appends to the file that initdb wrote: the last line of a name counts, and ALTER SYSTEM still wins.
func (c *Cluster) writeConf(o Options) error {
	settings := map[string]string{
		"listen_addresses":        host,
		"unix_socket_directories": c.folders.socket,
		"password_encryption":     "scram-sha-256",
		"timezone":                "UTC",
		"log_timezone":            "UTC",
		"fsync":                   "off",
		"synchronous_commit":      "off",
		"full_page_writes":        "off",
	}
	if o.TLS != nil {
		settings["ssl"] = "on"
		if len(o.TLS.ClientCA) > 0 {
			settings["ssl_ca_file"] = "client_ca.crt"
		}
	}
	maps.Copy(settings, o.Settings)
	var lines bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&lines, "%s = '%s'\n", name, escape(settings[name]))
	}
	return c.extend("postgresql.conf", nil, lines.Bytes())
}

// escape quotes a value for postgresql.conf, where a backslash escapes as well.
func escape(value string) string {
	return strings.NewReplacer(`'`, `''`, `\`, `\\`).Replace(value)
}

// writeHBA puts the caller's lines in front of initdb's, behind one that lets this package itself in.
func (c *Cluster) writeHBA(lines []string) error {
	own := fmt.Sprintf("local all %s scram-sha-256\n", superuser)
	for _, line := range lines {
		own += line + "\n"
	}
	return c.extend("pg_hba.conf", []byte(own), nil)
}

func (c *Cluster) writeTLS(t *TLS) error {
	if t == nil {
		return nil
	}
	owner := c.programs.owner
	return errors.Join(
		c.folders.write("server.crt", t.Cert, owner),
		c.folders.write("server.key", t.Key, owner),
		c.folders.write("client_ca.crt", t.ClientCA, owner),
	)
}

func (c *Cluster) extend(name string, before, after []byte) error {
	content, err := os.ReadFile(filepath.Join(c.folders.data, name))
	if err != nil {
		return err
	}
	return c.folders.write(name, slices.Concat(before, content, after), c.programs.owner)
}
